"""Handing back: rows that a provider's batch did not answer go on in real time, in another round, or to their end.

Run by the scheduler, a chunk at a time: so many leases are made as the dispatch can use soon, whatever a shard holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from psycopg.rows import DictRow

from core import budgets, db, partitions, pricing
from core.aside import Aside
from core.db import RawConnection
from core.dispatch import pauses
from core.dispatch.record import Ended
from core.ids import BLOCK_BITS
from core.native.record import end_rows
from core.native.shards import Shard, pace
from core.native.states import ShardState
from core.states import FailureReason, Processing, RowStatus

#: Rows that one transaction hands back.
CHUNK_ROWS = 1000
#: A lane gets no more while so many of its rows wait to be tried.
MAX_DUE = 2000
#: Rounds that the rows of a batch that asked for `native` are given before they fail.
MAX_ROUNDS = 3
#: Before the next round, as a multiple of `native_poll_seconds`: doubled each time.
ROUND = 3.0


@dataclass(frozen=True, slots=True)
class _Batch:
    status: str
    status_reason: str | None
    status_message: str | None
    processing: str
    ended_at: datetime | None
    budget_left_usd: Decimal | None
    fail_unknown: bool

    @property
    def runs(self) -> bool:
        return self.status in ("pending", "processing", "paused")


#: Shards whose rows could not be handed back.
_aside: Aside[UUID] = Aside("native batches", "shard")


def hand_back() -> int:
    """Hand back one chunk of each shard that has rows to hand back; returns how many rows moved."""
    with db.connection() as connection:
        ids = [row["id"] for row in connection.execute(_READY, {"max_due": MAX_DUE})]
    moved = 0
    for shard_id in ids:
        if not _aside.waits(shard_id):
            with _aside.turn(shard_id):
                moved += _hand_back(shard_id)
    return moved


def _hand_back(shard_id: UUID) -> int:
    with db.connection() as connection:
        row = connection.execute(_LOCK, {"id": shard_id}).fetchone()
        if row is None:
            return 0
        batch = connection.execute(_BATCH, (row["batch_id"],)).fetchone()
        state = _Batch(**batch) if batch is not None else None
        if state is None or state.ended_at is not None or row["remaining"] <= 0:
            _leave(connection, row, moved=0, handed_n=row["rows"])
            return 0
        if state.runs and state.processing == Processing.NATIVE and row["rounds"] < MAX_ROUNDS and not row["refused"]:
            # What is left of the last round is cleaned up first.
            return 0 if row["unclean"] else _another_round(connection, row)
        members = _members(connection, row)
        if not members:
            _leave(connection, row, moved=0, handed_n=row["rows"])
            return 0
        to_real_time = state.runs and state.processing != Processing.NATIVE
        # Its provider does not stop: what it has run of these rows nobody knows.
        unknown = to_real_time and state.fail_unknown and row["state"] == ShardState.SENT
        to_real_time = to_real_time and not unknown
        if to_real_time:
            moved, short_of = _to_real_time(connection, row, state, members)
        else:
            _to_their_end(connection, row, state, members, unknown=unknown)
            moved, short_of = len(members), None
        done = moved == len(members) < CHUNK_ROWS
        if moved is None:
            # Others took the room in this moment.
            connection.rollback()
            return 0
        if moved:
            handed_n = row["rows"] if done else members[moved - 1]["id"] - _first_id(row) + 1
            _leave(connection, row, moved=moved if to_real_time else 0, handed_n=handed_n)
    if not moved and short_of is not None:
        _out_of_money(row["batch_id"], state, short_of)
    return moved


def _first_id(shard: DictRow) -> int:
    return (shard["lane_id"] << BLOCK_BITS) + int(shard["first_n"])


def _members(connection: RawConnection, shard: DictRow) -> list[DictRow]:
    """The shard's next rows that have no answer."""
    partition = partitions.holding(connection, "completion", shard["created_at"])
    first = _first_id(shard)
    return connection.execute(
        f"SELECT c.id, c.estimated_input_tokens AS i, c.estimated_output_tokens AS o FROM {partition} c"  # noqa: S608
        " WHERE c.id >= %s AND c.id < %s AND c.status = 'pending'"
        " AND NOT EXISTS (SELECT FROM lease WHERE lease.completion_id = c.id) ORDER BY c.id LIMIT %s",
        (first + shard["handed_n"], first + shard["rows"], CHUNK_ROWS),
    ).fetchall()


def _to_real_time(
    connection: RawConnection, shard: DictRow, batch: _Batch, members: list[DictRow]
) -> tuple[int | None, Decimal | None]:
    """Give rows a lease, due at once: how many found money for it, and what the first of the others may cost.

    None instead of how many: there is less room than there was, and the transaction is to be rolled back.
    """
    room = budgets.rooms(connection).get(shard["batch_id"])
    money = [room.left] if room is not None else []
    if batch.budget_left_usd is not None:
        money.append(batch.budget_left_usd)
    left = min(money, default=None)
    reserved: list[Decimal] = []
    total = Decimal(0)
    short_of = None
    for row in members:
        cost = Decimal(0)
        if left is not None:
            cost = pricing.ceiling(shard["provider"], shard["model"], row["i"], row["o"])
            if total + cost - left > _given_up(shard, len(reserved) + 1):
                short_of = cost
                break
            total += cost
        reserved.append(cost)
    going = members[: len(reserved)]
    if not going:
        return 0, short_of
    connection.execute(
        _LEASES,
        {
            "ids": [row["id"] for row in going],
            "inputs": [row["i"] for row in going],
            "outputs": [row["o"] for row in going],
            "reserved": reserved,
            "created_at": shard["created_at"],
            "batch": shard["batch_id"],
            "tenant": shard["tenant_id"],
            "lane": shard["lane_id"],
            "connection": shard["connection_id"],
            "attempts": shard["rounds"],
        },
    )
    released = _share(shard, len(going))
    if left is not None and total - released > left:
        released = total - left
    connection.execute(
        "UPDATE native_shard SET reserved_usd = reserved_usd - %s WHERE id = %s", (released, shard["id"])
    )
    more = total - released
    fits = connection.execute(
        "UPDATE batch SET reserved_usd = reserved_usd + %(more)s WHERE id = %(batch)s"
        " AND (%(more)s <= 0 OR max_cost_usd IS NULL OR max_cost_usd - cost_usd - reserved_usd >= %(more)s)"
        " RETURNING id",
        {"more": more, "batch": shard["batch_id"]},
    ).fetchone()
    if fits is None or (room is not None and more > 0 and not budgets.fits(connection, shard["batch_id"])):
        return None, None
    connection.execute("NOTIFY llm_dispatch")
    return len(going), short_of


def _given_up(shard: DictRow, rows: int) -> Decimal:
    """What the shard holds that so many of its rows may cost now instead.

    All of it once its provider is through. Until then the provider may still answer the other rows, for money.
    """
    return Decimal(shard["reserved_usd"]) if shard["state"] == ShardState.TAKEN_IN else _share(shard, rows)


def _share(shard: DictRow, rows: int) -> Decimal:
    """The part of the shard's reservation that belongs to so many of its rows."""
    if rows >= shard["remaining"]:
        return Decimal(shard["reserved_usd"])
    return (Decimal(shard["reserved_usd"]) * rows / shard["remaining"]).quantize(Decimal("0.0000000001"))


def _to_their_end(
    connection: RawConnection, shard: DictRow, batch: _Batch, members: list[DictRow], *, unknown: bool
) -> None:
    """End rows that nobody will answer: of a batch that was stopped, after their last round, or of unknown outcome."""
    if unknown:
        status, reason = RowStatus.FAILED, FailureReason.OUTCOME_UNKNOWN
        message = (
            "the provider's batch did not stop in time; the project asks not to repeat calls whose outcome is unknown"
        )
    elif batch.runs:
        status, reason = RowStatus.FAILED, FailureReason.PROVIDER_ERROR
        message = shard["last_error"] or "the provider's batch API gave no answer to this row"
    else:
        status = RowStatus.EXPIRED if batch.status == "expired" else RowStatus.CANCELLED
        reason = FailureReason(batch.status_reason or FailureReason.CANCELLED)
        message = batch.status_message or "the batch was cancelled"
    ended = [
        Ended(
            id=row["id"],
            fence=0,
            created_at=shard["created_at"],
            batch_id=shard["batch_id"],
            status=status,
            attempts=shard["rounds"],
            reason=reason,
            message=message,
        )
        for row in members
    ]
    end_rows(connection, _as_held(shard), ended, sent_at=shard["sent_at"], fenced=False)


def _another_round(connection: RawConnection, shard: DictRow) -> int:
    """Send the rows without an answer once more."""
    connection.execute(
        "UPDATE native_shard SET state = %s, handing_back = false, handed_n = 0, cancel_reason = NULL,"
        " cancel_asked_at = NULL, cancel_sent_at = NULL, sent_rows = NULL, remote_id = NULL, remote_status = NULL,"
        " remote_completed = NULL, remote_failed = NULL, failures = 0, due_at = now() + make_interval(secs => %s),"
        " fence = fence + 1 WHERE id = %s",
        (ShardState.WAITING, ROUND * pace() * 2 ** shard["rounds"], shard["id"]),
    )
    return int(shard["remaining"])


def _leave(connection: RawConnection, shard: DictRow, *, moved: int, handed_n: int) -> None:
    """Note that rows have left; the last ones end the handing back."""
    connection.execute(
        _LEFT,
        {"id": shard["id"], "moved": moved, "handed_n": handed_n, "done": handed_n >= shard["rows"]},
    )


def _out_of_money(batch_id: UUID, batch: _Batch | None, cost_usd: Decimal) -> None:
    """Pause a batch whose rows, taken back from the provider, find no money for real time."""
    with db.connection() as connection:
        room = budgets.rooms(connection).get(batch_id)
    if room is not None and room.closed_to(cost_usd):
        budgets.pause(batch_id, room, cost_usd)
    elif batch is not None and batch.budget_left_usd is not None:
        pauses.pause_over_budget([batch_id])


def _as_held(shard: DictRow) -> Shard:
    """What `end_rows` needs of a shard."""
    fields = {name: shard[name] for name in Shard.__dataclass_fields__ if name in shard}
    return Shard(**fields, processing="", prompt_caching=False)


# A paused batch keeps what it has: rows are handed back when it goes on, or to their end when it is stopped.
_READY = """
SELECT shard.id FROM native_shard shard
LEFT JOIN batch ON batch.id = shard.batch_id
WHERE shard.handing_back AND shard.state <> 'cleaned' AND batch.status IS DISTINCT FROM 'paused'
  AND (batch.status IN ('cancelled', 'expired', 'failed') OR (
      SELECT count(*) FROM lease WHERE lease.lane_id = shard.lane_id AND lease.due_at IS NOT NULL
  ) < %(max_due)s)
ORDER BY shard.formed_at
"""

_LOCK = """
SELECT shard.*, now() AS now, state = 'taken_in' AND (remote_id IS NOT NULL OR file_id IS NOT NULL) AS unclean
FROM native_shard shard WHERE id = %(id)s AND handing_back FOR NO KEY UPDATE
"""

_BATCH = """
SELECT batch.status, status_reason, status_message, processing, batch.ended_at,
       max_cost_usd - cost_usd - reserved_usd AS budget_left_usd, project.on_unknown_outcome = 'fail' AS fail_unknown
FROM batch JOIN project ON project.id = batch.project_id WHERE batch.id = %s
"""

_LEASES = """
INSERT INTO lease (completion_id, created_at, batch_id, tenant_id, lane_id, connection_id, fence, due_at, attempts,
                   estimated_input_tokens, estimated_output_tokens, reserved_usd)
SELECT r.id, %(created_at)s, %(batch)s, %(tenant)s, %(lane)s, %(connection)s, 1, now(), %(attempts)s, r.input, r.output,
       r.reserved
FROM unnest(%(ids)s::bigint[], %(inputs)s::int[], %(outputs)s::int[], %(reserved)s::numeric[])
     AS r (id, input, output, reserved)
"""

# A shard that was never sent, or that is cleaned up at the provider, is done with its last row.
_LEFT = """
UPDATE native_shard SET
    returned = returned + %(moved)s, remaining = remaining - %(moved)s, handed_n = %(handed_n)s,
    handing_back = NOT %(done)s,
    state = CASE WHEN %(done)s AND state = 'taken_in' AND remote_id IS NULL AND file_id IS NULL
                 THEN 'cleaned' ELSE state END
WHERE id = %(id)s
"""
