"""Rescue: rows that a crash, a call without an end or a lost doorbell left behind are found and put right.

Every statement here is safe to run at any time, from several places at once: it names the state it expects.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from psycopg.rows import DictRow

from core import db, failed_calls
from core.aside import Aside
from core.dispatch.doorbell import SLICE_ROWS, Slice
from core.dispatch.record import Ended, record_in
from core.errors import Unavailable
from core.settings import settings
from core.states import FailureReason, RowStatus

log = logging.getLogger(__name__)

#: A row that took so many workers down with it ends as worker_crashed.
MAX_CRASHES = 3
#: A doorbell that nobody followed within this time is rung again.
RING_AGAIN_SECONDS = 5.0
#: A call may last its deadline; its lease is taken back this much later although its worker is alive.
OVERDUE_GRACE_SECONDS = 60.0
#: Who asked which workers are dead, and waited this long for the answer, does not believe it: the database stood still,
#: and heartbeats with it.
STALE_SECONDS = 3.0


#: Tenants of whose rows some could not be taken back.
_aside: Aside[UUID] = Aside("rescue", "rows of tenant")


def dead_workers() -> int:
    """Take back the rows of workers whose heartbeat stopped; returns how many rows.

    Time during which the database itself was down counts for nobody: a lease is judged only when the database has
    been up for a lease's length.
    """
    return _together_or_apart(_dead_workers)


def _together_or_apart(rescue: Callable[[UUID | None], int]) -> int:
    """Rescue all tenants' rows at once, or tenant by tenant if something about one tenant's does not let it."""
    try:
        return rescue(None)
    except Unavailable:
        raise
    except Exception as error:
        log.warning("rows are taken back tenant by tenant: together they could not be (%s)", type(error).__name__)
    with db.connection() as connection:
        tenants = connection.execute("SELECT DISTINCT tenant_id FROM lease WHERE worker_id IS NOT NULL").fetchall()
    rescued = 0
    for row in tenants:
        if not _aside.waits(row["tenant_id"]):
            with _aside.turn(row["tenant_id"]):
                rescued += rescue(row["tenant_id"])
    return rescued


def _whose(tenant_id: UUID | None) -> dict[str, object]:
    """Values of `_WHOSE`."""
    return {"tenant": tenant_id, "aside": _aside.names()}


def _dead_workers(tenant_id: UUID | None) -> int:
    with db.connection() as connection:
        asked = time.monotonic()
        rows = connection.execute(_DEAD, {"lease": settings().worker_lease_seconds}).fetchall()
        if time.monotonic() - asked > STALE_SECONDS:
            return 0
        dead = [row["id"] for row in rows]
        if not dead:
            return 0
        values = {"dead": dead, "max_crashes": MAX_CRASHES, **_whose(tenant_id)}
        back = connection.execute(_TAKE_BACK, values).fetchall()
        connection.execute(_DELETE_DEAD, values)
        _give_up(connection, back)
    return len(back)


def overdue_calls() -> int:
    """Take back rows whose call should have ended long ago although their worker lives; returns how many.

    Also rows of a worker that is no more: their start was committed after it had been taken for dead. As in
    `dead_workers`, time in which the database did not answer counts for nobody: a call that ended meanwhile is recorded
    first.
    """
    return _together_or_apart(_overdue_calls)


def _overdue_calls(tenant_id: UUID | None) -> int:
    values = {
        "deadline": settings().call_timeout_seconds + OVERDUE_GRACE_SECONDS,
        "lease": settings().worker_lease_seconds,
        "max_crashes": MAX_CRASHES,
        **_whose(tenant_id),
    }
    with db.connection() as connection:
        asked = time.monotonic()
        # From here on it is as late as it is now: now() is the transaction's.
        found = connection.execute(_OVERDUE, values).fetchall()
        if not found or time.monotonic() - asked > STALE_SECONDS:
            return 0
        rows = [row["completion_id"] for row in found], [row["fence"] for row in found]
        back = connection.execute(_TAKE_BACK_OVERDUE, {**values, "ids": rows[0], "fences": rows[1]}).fetchall()
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
_WHOSE = "lease.tenant_id <> ALL(%(aside)s) AND (%(tenant)s::uuid IS NULL OR lease.tenant_id = %(tenant)s)"
_TAKE_BACK = f"UPDATE lease SET {_BACK} WHERE worker_id = ANY(%(dead)s) AND {_WHOSE} {_BACK_RETURNING}"  # noqa: S608
# (what could not be taken back is still its own)
_DELETE_DEAD = """
DELETE FROM worker WHERE id = ANY(%(dead)s) AND NOT EXISTS (SELECT FROM lease WHERE lease.worker_id = worker.id)
"""
_OVERDUE = f"""
SELECT completion_id, fence FROM lease
WHERE {_WHOSE} AND pg_postmaster_start_time() < now() - make_interval(secs => %(lease)s)
  AND (call_started_at < now() - make_interval(secs => %(deadline)s)
       OR (call_started_at IS NOT NULL AND NOT EXISTS (SELECT FROM worker WHERE worker.id = lease.worker_id)))
"""  # noqa: S608 (an expression of ours)
_TAKE_BACK_OVERDUE = f"""
UPDATE lease SET {_BACK} FROM unnest(%(ids)s::bigint[], %(fences)s::int[]) AS overdue (id, of_fence)
WHERE completion_id = overdue.id AND fence = overdue.of_fence AND call_started_at IS NOT NULL {_BACK_RETURNING}
"""  # noqa: S608 (an expression of ours)

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
