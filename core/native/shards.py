"""Native shards in the database: claimed for their next step, held under a fence while a worker takes it, changed.

A worker's hold on a shard is a lease of its own, extended while a step runs. Whoever holds an older fence changes
nothing: each change here names the fence and raises Superseded when it has passed on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import sql

from core import db, partitions
from core.db import RawConnection
from core.dispatch.rescue import STALE_SECONDS
from core.ids import BLOCK_BITS
from core.native.states import CancelReason, ShardState
from core.settings import settings


def lease_seconds() -> float:
    """A step whose worker died is taken by another after this long; workers extend it four times in that time."""
    return 2 * settings().worker_lease_seconds


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


def claim_due(limit: int = 100, *, judging: bool = True) -> list[tuple[UUID, int]]:
    """Claim shards whose next step is due, for their doorbells: (id, new fence) of each.

    A shard that waits to be sent is left alone while its batch is paused or its connection stopped.

    Parameters
    ----------
    judging : also those whose worker let its lease run out; not after the database did not answer for a while, for
        then no lease could be extended.
    """
    with db.connection() as connection:
        asked = time.monotonic()
        # (from here on it is as late as it is now: now() is the transaction's)
        connection.execute("SELECT")
        judging = judging and time.monotonic() - asked < STALE_SECONDS
        values = {"lease": lease_seconds(), "limit": limit, "judging": judging}
        rows = connection.execute(_CLAIM, values).fetchall()
    return [(row["id"], row["fence"]) for row in rows]


def unclaim(claimed: Sequence[tuple[UUID, int]], *, after_seconds: float) -> None:
    """Take back claims whose doorbells could not be rung: their steps are due again after this long."""
    with db.connection() as connection:
        connection.execute(
            "UPDATE native_shard SET lease_expires_at = NULL, due_at = now() + make_interval(secs => %(after)s)"
            " FROM unnest(%(ids)s::uuid[], %(fences)s::int[]) AS claimed (id, fence)"
            " WHERE native_shard.id = claimed.id AND native_shard.fence = claimed.fence",
            {"after": after_seconds, "ids": [each[0] for each in claimed], "fences": [each[1] for each in claimed]},
        )


def begin(shard_id: UUID, fence: int) -> Shard | None:
    """The shard, if the fence is still the current one; its lease runs from now.

    Takes the next fence: the same doorbell heard twice begins one step.
    """
    with db.connection() as connection:
        row = connection.execute(_BEGIN, {"id": shard_id, "fence": fence, "lease": lease_seconds()}).fetchone()
    if row is None:
        return None
    row["state"] = ShardState(row["state"])
    row["cancel_reason"] = CancelReason(row["cancel_reason"]) if row["cancel_reason"] else None
    return Shard(**row)


def beat(shard: Shard) -> bool:
    """Keep the hold on a shard; False if it has passed on."""
    with db.connection() as connection:
        found = connection.execute(
            "UPDATE native_shard SET lease_expires_at = now() + make_interval(secs => %s)"
            " WHERE id = %s AND fence = %s RETURNING id",
            (lease_seconds(), shard.id, shard.fence),
        ).fetchone()
    return found is not None


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


def release(shard: Shard, *, after_seconds: float, error: str | None = None) -> None:
    """End the hold: the next step is due after this long. With an error the step failed, and counts as such."""
    with db.connection() as connection:
        connection.execute(
            _RELEASE,
            {
                "id": shard.id,
                "fence": shard.fence,
                "after": after_seconds,
                "error": in_words(error) if error else None,
                "failed": error is not None,
            },
        )


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


# A holder that began and never let go has died: that counts as a failure of the step, so that a shard which takes its
# workers down does not go round for ever. A doorbell that was lost, or that nobody had time for, does not count.
# Time in which the database itself was down or stood still counts for nobody.
# What waits to be sent needs a running batch and a connection that works; one that was removed lets it go. What is at
# the provider is looked after whatever became of its batch.
_CLAIM = """
UPDATE native_shard SET fence = fence + 1, lease_expires_at = now() + make_interval(secs => %(lease)s),
    failures = failures + (begun_at IS NOT NULL)::int, deaths = deaths + (begun_at IS NOT NULL)::int, begun_at = NULL
WHERE id IN (
    SELECT shard.id FROM native_shard shard
    WHERE shard.state <> 'cleaned' AND shard.due_at <= now()
      AND (shard.state <> 'taken_in' OR shard.remote_id IS NOT NULL OR shard.file_id IS NOT NULL)
      AND (shard.lease_expires_at IS NULL OR %(judging)s AND greatest(
          shard.lease_expires_at, pg_postmaster_start_time() + make_interval(secs => %(lease)s)) < now())
      AND (shard.state <> 'waiting' OR shard.create_started_at IS NOT NULL OR (
          EXISTS (SELECT FROM batch WHERE batch.id = shard.batch_id AND batch.status IN ('pending', 'processing'))
          AND NOT EXISTS (SELECT FROM connection c WHERE c.id = shard.connection_id AND c.state <> 'active')
      ))
    ORDER BY shard.due_at LIMIT %(limit)s FOR UPDATE OF shard SKIP LOCKED
)
RETURNING id, fence
"""

_BEGIN = """
UPDATE native_shard shard SET lease_expires_at = now() + make_interval(secs => %(lease)s), fence = fence + 1,
    begun_at = now()
WHERE shard.id = %(id)s AND shard.fence = %(fence)s AND shard.state <> 'cleaned'
RETURNING shard.id, fence, batch_id, lane_id, tenant_id, project_id, connection_id, provider, model, created_at,
    first_n, rows, remaining, input_tokens, output_tokens, state, rounds, cancel_reason, cancel_sent_at, file_id,
    remote_id, endpoint, sent_rows, create_started_at, create_lost_at, adopted, sent_at, remote_completed, failures,
    deaths, now() AS now,
    coalesce((SELECT processing FROM batch WHERE batch.id = shard.batch_id), 'auto') AS processing,
    coalesce((SELECT prompt_caching FROM batch WHERE batch.id = shard.batch_id), false) AS prompt_caching
"""

_RELEASE = """
UPDATE native_shard SET lease_expires_at = NULL, begun_at = NULL, deaths = 0,
    due_at = now() + make_interval(secs => %(after)s),
    failures = CASE WHEN %(failed)s THEN failures + 1 ELSE 0 END, last_error = coalesce(%(error)s, last_error)
WHERE id = %(id)s AND fence = %(fence)s
"""

_SPLIT_OFF = """
INSERT INTO native_shard (id, batch_id, lane_id, tenant_id, project_id, connection_id, provider, model, created_at,
    first_n, rows, remaining, input_tokens, output_tokens, reserved_usd, rounds)
SELECT gen_random_uuid(), batch_id, lane_id, tenant_id, project_id, connection_id, provider, model, created_at,
    first_n + %(keep)s, rows - %(keep)s, %(members)s, %(inputs)s, %(outputs)s, round(reserved_usd * %(share)s, 10),
    rounds
FROM native_shard WHERE id = %(id)s
"""
