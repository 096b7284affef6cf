"""Sweeping: rows that have not started are ended, of batches whose window has closed or that were stopped.

Every statement here is safe to run at any time, from several places at once: it names the state it expects.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import DictRow

from core import db, partitions
from core.aside import Aside
from core.batches import ending
from core.dispatch.record import Ended, record_in
from core.ids import BLOCK_BITS
from core.logbook import bodies
from core.rollup import Key, Sums, hour_of
from core.states import FailureReason, RowStatus

#: Rows that one transaction sweeps: the time it holds their batch's counters.
SWEEP_ROWS = 20_000


def expire_batches() -> int:
    """Close the window of batches whose time is up; what has not started is swept. Returns how many."""
    with db.connection() as connection:
        rows = connection.execute(_EXPIRE, {"reason": FailureReason.EXPIRED}).fetchall()
        for row in rows:
            connection.execute("SELECT pg_notify('llm_stop', %s)", (row["id"].hex,))
    return len(rows)


@dataclass(frozen=True, slots=True)
class _Stopped:
    """A batch that was stopped and has rows left, and how those rows end."""

    id: UUID
    row_status: RowStatus
    reason: FailureReason
    message: str


#: Batches whose sweep failed.
_aside: Aside[UUID] = Aside("stops and windows", "batch")


def stopped_batches() -> int:
    """End rows that have not started, of batches that were cancelled, expired or stopped at a limit; in chunks.

    Returns the rows ended; call again until it returns 0. Rows in a call are left alone: their answers are paid for.
    """
    with db.connection() as connection:
        rows = connection.execute(
            "SELECT id, status, status_reason, status_message FROM batch"
            " WHERE ended_at IS NULL AND status IN ('cancelled', 'expired', 'failed') ORDER BY id"
        ).fetchall()
    swept = 0
    for row in rows:
        stopped = _Stopped(
            row["id"],
            RowStatus.EXPIRED if row["status"] == "expired" else RowStatus.CANCELLED,
            FailureReason(row["status_reason"] or FailureReason.CANCELLED),
            row["status_message"] or "the batch was cancelled",
        )
        if not _aside.waits(stopped.id):
            with _aside.turn(stopped.id):
                swept += _sweep(stopped)
    return swept


def _sweep(stopped: _Stopped) -> int:
    with db.connection() as connection:
        # Raising the fence first keeps a doorbell that is on its way from starting what is being ended.
        waiting = connection.execute(_TAKE_NOT_STARTED, {"batch": stopped.id, "limit": SWEEP_ROWS}).fetchall()
        ends = [
            Ended(**row, batch_id=stopped.id, status=stopped.row_status, reason=stopped.reason, message=stopped.message)
            for row in waiting
        ]
        record_in(connection, ends)
    swept = len(waiting)
    with db.connection() as connection:
        lane = connection.execute(
            "SELECT id, created_at, next_n, total, tenant_id, project_id, provider, model, processing, now() AS now"
            " FROM lane WHERE batch_id = %s AND next_n < total"
            " ORDER BY id LIMIT 1 FOR UPDATE",
            (stopped.id,),
        ).fetchone()
        if lane is not None:
            swept += _sweep_fresh(connection, stopped, lane)
        elif not waiting:
            # Nothing is left to sweep: this catches a batch whose last row ended before it was stopped.
            ending.end(connection, stopped.id)
    return swept


def _sweep_fresh(connection: db.RawConnection, stopped: _Stopped, lane: DictRow) -> int:
    """End rows that were never dispatched; the lane's cursor moves over them."""
    start, total = lane["next_n"], lane["total"]
    count = min(SWEEP_ROWS, total - start)
    first = (lane["id"] << BLOCK_BITS) + start
    connection.execute("UPDATE lane SET next_n = next_n + %s WHERE id = %s", (count, lane["id"]))
    connection.execute(
        f"UPDATE {partitions.holding(connection, 'completion', lane['created_at'])}"  # noqa: S608
        " SET status = %s, error_type = %s, error_message = %s, ended_at = now(), model_called = model, processing = %s"
        " WHERE id >= %s AND id < %s AND status = 'pending'",
        (stopped.row_status, stopped.reason, stopped.message, lane["processing"], first, first + count),
    )
    if bodies.not_kept(connection, [lane["project_id"]]):
        bodies.remove_request_range(connection, lane["created_at"], first, first + count)
    tally = ending.Tally(dispatched=count)
    setattr(tally, stopped.row_status, count)
    if stopped.row_status is RowStatus.EXPIRED:
        tally.causes[stopped.reason] = (count, stopped.message)
    ending.count(connection, {stopped.id: tally})
    sums = Sums()
    kind = (lane["provider"], lane["model"], lane["processing"], stopped.row_status, stopped.reason)
    sums.count(Key(lane["project_id"], hour_of(lane["now"]), *kind), lane["tenant_id"], count)
    sums.write(connection)
    return count


# Batches are locked in the order of their ids: their rows may be ending in this moment, of several in one transaction.
_EXPIRE = """
WITH closed AS (
    SELECT id FROM batch
    WHERE ended_at IS NULL AND status IN ('pending', 'processing', 'paused') AND expires_at <= now()
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE batch SET status = 'expired', status_reason = %(reason)s,
                 status_message = 'its completion_window closed before every row had run'
FROM closed WHERE batch.id = closed.id
RETURNING batch.id
"""

_TAKE_NOT_STARTED = """
UPDATE lease SET fence = fence + 1, due_at = now(), rung_at = NULL
WHERE completion_id IN (
    SELECT completion_id FROM lease WHERE batch_id = %(batch)s AND call_started_at IS NULL
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
RETURNING completion_id AS id, fence, created_at, attempts
"""
