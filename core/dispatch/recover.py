"""Recovery: what a crash, a lost doorbell, a stop or a closed window leaves behind is found and put right.

Every statement here is safe to run at any time, from several places at once: it names the state it expects.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import DictRow

from core import db, failed_calls, partitions, webhooks
from core.batches import ending
from core.dispatch.doorbell import SLICE_ROWS, Slice
from core.dispatch.record import Ended, record_in
from core.ids import BLOCK_BITS
from core.logbook import bodies
from core.rollup import Key, Sums, hour_of
from core.settings import settings
from core.states import Action, FailureReason, RowStatus

#: A row that took so many workers down with it ends as worker_crashed.
MAX_CRASHES = 3
#: A doorbell that nobody followed within this time is rung again.
RING_AGAIN_SECONDS = 5.0
#: A call may last its deadline; its lease is taken back this much later although its worker is alive.
OVERDUE_GRACE_SECONDS = 60.0
#: Who asked which workers are dead, and waited this long for the answer, does not believe it: the database stood still,
#: and heartbeats with it.
STALE_SECONDS = 3.0
#: Rows that one transaction sweeps: the time it holds their batch's counters.
SWEEP_ROWS = 20_000


def rescue_dead_workers() -> int:
    """Take back the rows of workers whose heartbeat stopped; returns how many rows.

    Time during which the database itself was down counts for nobody: a lease is judged only when the database has
    been up for a lease's length.
    """
    with db.connection() as connection:
        asked = time.monotonic()
        rows = connection.execute(_DEAD, {"lease": settings().worker_lease_seconds}).fetchall()
        if time.monotonic() - asked > STALE_SECONDS:
            return 0
        dead = [row["id"] for row in rows]
        if not dead:
            return 0
        back = connection.execute(_TAKE_BACK, {"dead": dead, "max_crashes": MAX_CRASHES}).fetchall()
        connection.execute("DELETE FROM worker WHERE id = ANY(%s)", (dead,))
        _give_up(connection, back)
    return len(back)


def rescue_overdue_calls() -> int:
    """Take back rows whose call should have ended long ago although their worker lives; returns how many."""
    deadline = settings().call_timeout_seconds + OVERDUE_GRACE_SECONDS
    with db.connection() as connection:
        back = connection.execute(_TAKE_BACK_OVERDUE, {"deadline": deadline, "max_crashes": MAX_CRASHES}).fetchall()
        _give_up(connection, back)
    return len(back)


def _give_up(connection: db.RawConnection, rows: list[DictRow]) -> None:
    """End rows that crash workers, and rows whose tenant would rather fail than pay twice."""
    record_in(connection, [_given_up(row) for row in rows if row["poison"] or row["fail_unknown"]])


def _given_up(row: DictRow) -> Ended:
    crashed = bool(row["poison"])
    return Ended(
        id=row["completion_id"],
        fence=row["fence"],
        created_at=row["created_at"],
        batch_id=row["batch_id"],
        status=RowStatus.FAILED,
        attempts=row["attempts"],
        reason=FailureReason.WORKER_CRASHED if crashed else FailureReason.OUTCOME_UNKNOWN,
        message=f"{MAX_CRASHES} workers died while they had this row in hand"
        if crashed
        else "the worker died during the call; the project asks not to repeat calls whose outcome is unknown",
    )


def missed_doorbells(limit: int = 2000) -> list[Slice]:
    """Rows rung some time ago that nobody started, to be rung again under the fence they have."""
    with db.connection() as connection:
        connection.execute(_UNRING_PAUSED)
        rows = connection.execute(_RING_AGAIN, {"seconds": RING_AGAIN_SECONDS, "limit": limit}).fetchall()
    by_time: dict[datetime, list[tuple[int, int]]] = {}
    for row in rows:
        by_time.setdefault(row["created_at"], []).append((row["completion_id"], row["fence"]))
    return [
        Slice(created_at, found[at : at + SLICE_ROWS])
        for created_at, found in by_time.items()
        for at in range(0, len(found), SLICE_ROWS)
    ]


def expire_batches() -> int:
    """Close the window of batches whose time is up; what has not started is swept. Returns how many."""
    with db.connection() as connection:
        rows = connection.execute(
            "UPDATE batch SET status = 'expired', status_reason = %s,"
            " status_message = 'its completion_window closed before every row had run'"
            " WHERE ended_at IS NULL AND status IN ('pending', 'processing', 'paused') AND expires_at <= now()"
            " RETURNING id",
            (FailureReason.EXPIRED,),
        ).fetchall()
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


def sweep_stopped_batches() -> int:
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


def pause_stopped_connections() -> int:
    """Pause the batches that wait for a connection whose credential stopped working; returns how many."""
    with db.connection() as connection:
        rows = connection.execute(_PAUSE_STOPPED).fetchall()
        for row in rows:
            webhooks.emit(connection, row["id"], "batch.paused")
    return len(rows)


def resume_mended_connections() -> int:
    """Go on with batches that waited for connections which all work again: a new key, or resumed; returns how many."""
    with db.connection() as connection:
        rows = connection.execute(
            _RESUME_MENDED, {"reasons": [reason for reason in FailureReason if reason.action is Action.STOP_CONNECTION]}
        ).fetchall()
        for row in rows:
            connection.execute("SELECT pg_notify('llm_go', %s)", (row["id"].hex,))
    return len(rows)


def pause_over_budget(batch_ids: list[UUID]) -> int:
    """Pause batches whose max_cost_usd has no room for another row; returns how many were still running.

    Left alone are those of which rows in flight, or shards at the provider, hold money of which some may come back.
    """
    with db.connection() as connection:
        rows = connection.execute(
            _PAUSE_OVER_BUDGET, {"batches": batch_ids, "reason": FailureReason.COST_LIMIT}
        ).fetchall()
        for row in rows:
            webhooks.emit(connection, row["id"], "batch.paused")
    return len(rows)


# A worker that drains may still hold calls: only one that has none left, or said goodbye, is known not to come back.
_DEAD = """
SELECT id FROM worker
WHERE greatest(lease_expires_at,
               CASE WHEN draining AND in_flight = 0 THEN lease_expires_at
                    ELSE pg_postmaster_start_time() + make_interval(secs => %(lease)s) END) < now()
FOR UPDATE SKIP LOCKED
"""

# Rows in hand when a worker died are tried again at moments apart, and while some of them were in hand at a crash
# before only those are blamed: so a row that kills its workers soon stands alone.
_DIED = """jsonb_build_object(
    'type', 'worker_crashed', 'message', 'the worker stopped during this call, whose outcome is unknown',
    'provider_status', NULL)"""
_BACK = f"""
    due_at = now() + make_interval(secs => random() * 3 * (lease.crashes + 1) ^ 2),
    rung_at = NULL, call_started_at = NULL, worker_id = NULL, fence = lease.fence + 1, attempts = lease.attempts + 1,
    crashes = lease.crashes + (lease.crashes > 0 OR lease.worker_id NOT IN (
        SELECT suspect.worker_id FROM lease suspect WHERE suspect.crashes > 0 AND suspect.worker_id IS NOT NULL
    ))::int,
    failures = CASE WHEN lease.call_started_at IS NULL THEN lease.failures ELSE {failed_calls.appended(_DIED)} END
"""  # noqa: S608 (an expression of ours)
_BACK_RETURNING = """
RETURNING lease.completion_id, lease.fence, lease.created_at, lease.batch_id, lease.attempts,
    lease.crashes >= %(max_crashes)s AS poison,
    (SELECT p.on_unknown_outcome = 'fail' FROM batch b JOIN project p ON p.id = b.project_id
     WHERE b.id = lease.batch_id) AS fail_unknown
"""
_TAKE_BACK = f"UPDATE lease SET {_BACK} WHERE worker_id = ANY(%(dead)s) {_BACK_RETURNING}"  # noqa: S608
_TAKE_BACK_OVERDUE = (
    f"UPDATE lease SET {_BACK} WHERE call_started_at < now() - make_interval(secs => %(deadline)s)"  # noqa: S608
    f" {_BACK_RETURNING}"
)

_UNRING_PAUSED = """
UPDATE lease SET due_at = now(), rung_at = NULL
FROM batch WHERE batch.id = lease.batch_id AND batch.status = 'paused'
  AND lease.rung_at IS NOT NULL AND lease.call_started_at IS NULL
"""

# While no worker lives nobody hears, and hours of doorbells would stand before the first that somebody does.
_RING_AGAIN = """
UPDATE lease SET rung_at = now()
WHERE completion_id IN (
    SELECT lease.completion_id FROM lease JOIN batch ON batch.id = lease.batch_id AND batch.status = 'processing'
    WHERE lease.call_started_at IS NULL AND lease.rung_at < now() - make_interval(secs => %(seconds)s)
      AND EXISTS (SELECT FROM worker WHERE lease_expires_at > now() AND NOT draining)
    ORDER BY lease.rung_at LIMIT %(limit)s FOR UPDATE OF lease SKIP LOCKED
)
RETURNING completion_id, fence, created_at
"""

_TAKE_NOT_STARTED = """
UPDATE lease SET fence = fence + 1, due_at = now(), rung_at = NULL
WHERE completion_id IN (
    SELECT completion_id FROM lease WHERE batch_id = %(batch)s AND call_started_at IS NULL
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
RETURNING completion_id AS id, fence, created_at, attempts
"""

_PAUSE_STOPPED = """
UPDATE batch SET status = 'paused', status_reason = c.stop_reason,
                 status_message = format('the %s key stopped working: %s Replace it with POST /v1/providers, or resume'
                                         ' the batch once it works again.', c.provider_type, c.stop_message)
FROM connection c
WHERE batch.ended_at IS NULL AND batch.status IN ('pending', 'processing') AND c.state = 'stopped'
  AND EXISTS (
      SELECT FROM lane WHERE lane.batch_id = batch.id AND lane.connection_id = c.id
      AND (lane.next_n < lane.total OR EXISTS (
          SELECT FROM lease WHERE lease.lane_id = lane.id AND lease.call_started_at IS NULL
      ) OR EXISTS (
          SELECT FROM native_shard shard WHERE shard.lane_id = lane.id AND shard.batch_id = batch.id
          AND (shard.state = 'waiting' OR shard.handing_back)
      ))
  )
RETURNING batch.id
"""

_RESUME_MENDED = """
UPDATE batch SET status = CASE WHEN dispatched > 0 THEN 'processing' ELSE 'pending' END,
                 status_reason = NULL, status_message = NULL
WHERE ended_at IS NULL AND status = 'paused' AND status_reason = ANY(%(reasons)s)
  AND NOT EXISTS (
      SELECT FROM lane JOIN connection c ON c.id = lane.connection_id
      WHERE lane.batch_id = batch.id AND c.state = 'stopped'
  )
RETURNING id
"""

_PAUSE_OVER_BUDGET = """
UPDATE batch SET status = 'paused', status_reason = %(reason)s,
                 status_message = format('max_cost_usd %%s: %%s are spent and the next row may cost more than what is'
                                         ' left. Resume with a higher limit.',
                                         trim_scale(max_cost_usd), trim_scale(cost_usd))
WHERE id = ANY(%(batches)s) AND ended_at IS NULL AND status IN ('pending', 'processing') AND max_cost_usd IS NOT NULL
  AND NOT EXISTS (SELECT FROM lease WHERE lease.batch_id = batch.id)
  AND NOT EXISTS (
      SELECT FROM native_shard shard WHERE shard.batch_id = batch.id
      AND state IN ('waiting', 'sent') AND NOT handing_back AND remaining > 0
  )
RETURNING id
"""
