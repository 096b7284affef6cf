"""Native shards in the database: what the worker that holds one knows of it, and how it is changed.

Whoever holds an older fence changes nothing: each change here names the fence and raises Superseded when it has passed
on. Claims and holds are core/native/holds.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import sql

from core import partitions
from core.db import RawConnection
from core.ids import BLOCK_BITS
from core.native.states import CancelReason, ShardState
from core.settings import settings


def pace() -> float:
    """The unit of the waits between a shard's steps, in seconds."""
    return settings().native_poll_seconds


#: ids in the providers' messages: of files, batches, requests, organisations, projects. They are random letters and
#: digits: one in fifty of a file's has no digit, and no word is as long as they are.
_IDS = re.compile(
    r"\b(?:file|batch|msgbatch|batch_req|req|org|proj|wrkspc)[-_]"
    r"(?=[A-Za-z0-9_-]*\d|[A-Za-z0-9]{18})[A-Za-z0-9_-]{2,}"
)


class Superseded(Exception):
    """Another worker holds this shard by now, or it is gone."""


@dataclass(slots=True, kw_only=True)
class Shard:
    """A shard as the worker that holds it knows it."""

    id: UUID
    fence: int
    batch_id: UUID
    lane_id: int
    tenant_id: UUID
    project_id: UUID
    connection_id: UUID
    provider: str
    model: str
    created_at: datetime
    first_n: int
    rows: int
    remaining: int
    input_tokens: int
    output_tokens: int
    state: ShardState
    rounds: int
    cancel_reason: CancelReason | None
    cancel_sent_at: datetime | None
    file_id: str | None
    remote_id: str | None
    endpoint: str | None
    sent_rows: int | None
    create_started_at: datetime | None
    create_lost_at: datetime | None
    adopted: bool
    sent_at: datetime | None
    remote_completed: int | None
    failures: int
    deaths: int
    #: the batch's: rows without an answer go to real time unless it asked for `native`
    processing: str
    prompt_caching: bool
    now: datetime

    @property
    def first_id(self) -> int:
        """The completion id of its first row."""
        return (self.lane_id << BLOCK_BITS) + self.first_n

    @property
    def end_id(self) -> int:
        """The completion id after that of its last row."""
        return self.first_id + self.rows

    @property
    def tag(self) -> str:
        """Names this round of this shard at the provider."""
        return f"{self.id.hex}-{self.rounds + 1 if self.state is ShardState.WAITING else self.rounds}"


def change(connection: RawConnection, shard: Shard, **values: Any) -> None:
    """Set columns of a shard that is held. Raises Superseded; call it before anything else in its transaction."""
    columns = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in values
    )
    statement = sql.SQL("UPDATE native_shard SET {} WHERE id = %(_id)s AND fence = %(_fence)s RETURNING id").format(
        columns
    )
    if connection.execute(statement, {**values, "_id": shard.id, "_fence": shard.fence}).fetchone() is None:
        raise Superseded
    for name, value in values.items():
        if hasattr(shard, name):
            setattr(shard, name, value)


def hand_over(connection: RawConnection, shard: Shard, remote_id: str) -> bool:
    """Leave a batch to whoever holds the shard by now and still looks for it. False if nobody does.

    For a worker that was taken for dead while it made the batch; it holds an older fence.
    """
    return bool(
        connection.execute(
            "UPDATE native_shard SET remote_id = %(remote_id)s WHERE id = %(id)s AND (remote_id = %(remote_id)s"
            " OR (state = %(waiting)s AND create_started_at = %(asked_at)s AND remote_id IS NULL)) RETURNING id",
            {
                "remote_id": remote_id,
                "id": shard.id,
                "waiting": ShardState.WAITING,
                "asked_at": shard.create_started_at,
            },
        ).fetchone()
    )


def handed_over(connection: RawConnection, shard: Shard) -> bool:
    """Whether a batch was handed over since the shard was read. The answer stands until the transaction ends."""
    row = connection.execute(
        "SELECT remote_id FROM native_shard WHERE id = %s FOR NO KEY UPDATE", (shard.id,)
    ).fetchone()
    return row is not None and row["remote_id"] != shard.remote_id


def in_words(message: str) -> str:
    """What a provider says of a batch, without its ids: they never reach a caller. Fit to be stored."""
    return _IDS.sub("…", message)[:2000].replace("\0", "")


def may_send(connection: RawConnection, shard: Shard) -> bool:
    """Whether the batch still wants the shard sent, as of this transaction, which keeps it so until it commits."""
    row = connection.execute(
        "SELECT status IN ('pending', 'processing') AS runs FROM batch WHERE id = %s FOR SHARE", (shard.batch_id,)
    ).fetchone()
    wanted = connection.execute(
        "SELECT cancel_reason IS NULL AS wanted FROM native_shard WHERE id = %s", (shard.id,)
    ).fetchone()
    return bool(row and row["runs"] and wanted and wanted["wanted"])


def twin_in_doubt(connection: RawConnection, shard: Shard, rows: int) -> bool:
    """Whether it is open if another batch of as many rows of this tenant was made at the provider.

    Where batches carry no tag, the two could not be told apart. The answer stands until the transaction ends.
    """
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"create {shard.tenant_id}",))
    row = connection.execute(
        "SELECT 1 FROM native_shard WHERE tenant_id = %s AND provider = %s AND create_started_at IS NOT NULL"
        " AND sent_rows = %s AND id <> %s LIMIT 1",
        (shard.tenant_id, shard.provider, rows, shard.id),
    ).fetchone()
    return row is not None


def wake_waiting(connection: RawConnection, shard: Shard) -> None:
    """Try shards again that wait for room in the queue in which this one has ended. Waits for no lock."""
    connection.execute(
        "UPDATE native_shard SET due_at = now() WHERE id IN ("
        "SELECT id FROM native_shard WHERE connection_id = %s AND model = %s AND state = %s"
        " AND due_at > now() AND id <> %s FOR NO KEY UPDATE SKIP LOCKED)",
        (shard.connection_id, shard.model, ShardState.WAITING, shard.id),
    )


def others_sent(connection: RawConnection, shard: Shard) -> bool:
    """Whether other shards of the same connection and model are at the provider."""
    row = connection.execute(
        "SELECT 1 FROM native_shard WHERE connection_id = %s AND model = %s AND state = %s AND id <> %s LIMIT 1",
        (shard.connection_id, shard.model, ShardState.SENT, shard.id),
    ).fetchone()
    return row is not None


def split(connection: RawConnection, shard: Shard, keep: int) -> None:
    """Keep the first `keep` rows of the range of a shard that has not been sent; the others become another shard."""
    members = members_of(connection, shard.created_at, shard.first_id + keep, shard.end_id)
    share = Decimal(members) / max(shard.remaining, 1)
    moved = {"inputs": int(shard.input_tokens * share), "outputs": int(shard.output_tokens * share), "members": members}
    connection.execute(_SPLIT_OFF, {"id": shard.id, "keep": keep, "share": share, **moved})
    change(
        connection,
        shard,
        rows=keep,
        remaining=shard.remaining - members,
        input_tokens=shard.input_tokens - moved["inputs"],
        output_tokens=shard.output_tokens - moved["outputs"],
        file_id=None,
    )
    connection.execute(
        "UPDATE native_shard SET reserved_usd = reserved_usd - round(reserved_usd * %s, 10) WHERE id = %s",
        (share, shard.id),
    )


def forget_old(connection: RawConnection, limit: int = 1000) -> bool:
    """Remove shards that nobody asks for: cleaned up, and their batch is gone. True if there may be more.

    The platform's housekeeping, over all tenants. What lies at a provider keeps its shard until it is cleaned up.
    """
    deleted = connection.execute(
        "DELETE FROM native_shard WHERE id IN (SELECT id FROM native_shard shard WHERE state = 'cleaned'"
        " AND NOT EXISTS (SELECT FROM batch WHERE batch.id = shard.batch_id) LIMIT %s)",
        (limit,),
    )
    return deleted.rowcount == limit


def members_of(connection: RawConnection, created_at: datetime, first_id: int, end_id: int) -> int:
    """How many rows of a range are pending and have no lease."""
    row = connection.execute(
        f"SELECT count(*) AS members FROM {partitions.holding(connection, 'completion', created_at)} c"  # noqa: S608
        " WHERE c.id >= %s AND c.id < %s AND c.status = 'pending'"
        " AND NOT EXISTS (SELECT FROM lease WHERE lease.completion_id = c.id)",
        (first_id, end_id),
    ).fetchone()
    return int(row["members"]) if row else 0


_SPLIT_OFF = """
INSERT INTO native_shard (id, batch_id, lane_id, tenant_id, project_id, connection_id, provider, model, created_at,
    first_n, rows, remaining, input_tokens, output_tokens, reserved_usd, rounds)
SELECT gen_random_uuid(), batch_id, lane_id, tenant_id, project_id, connection_id, provider, model, created_at,
    first_n + %(keep)s, rows - %(keep)s, %(members)s, %(inputs)s, %(outputs)s, round(reserved_usd * %(share)s, 10),
    rounds
FROM native_shard WHERE id = %(id)s
"""
