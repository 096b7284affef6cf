"""Holding back what a budget has no room for: rows of batches before they are dispatched, live calls before they start.

Room is what the limit leaves after what is spent and what is reserved: by rows of batches in flight (reserved_usd), and
by live calls in flight (`budget_hold`). Each reserves the most it can cost under the lock of the project's budgets, so
that concurrent spenders together pass a limit only by what a call costs beyond its own estimate.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from core import db, webhooks
from core.budgets.spending import NOW_SPENT, NOW_START, period_end
from core.db import RawConnection
from core.errors import BudgetExhausted, BudgetReserved, Unavailable
from core.ids import new_id
from core.principal import Principal
from core.short_cache import ShortCache
from core.time_and_money import money_text

log = logging.getLogger(__name__)

#: `status_reason` of a batch that waits for its project's budget.
PAUSE_REASON = "budget"
#: A live call's reservation is nobody's this long after the call's own time has run out: its process died.
_HOLD_GRACE_SECONDS = 60.0
#: When to ask again if only calls in flight stand in the way, in seconds.
_IN_FLIGHT_RETRY_SECONDS = 5.0

#: What the budgets of a project do at their limits (`stop`, `warn`); asked anew within two seconds.
_budgets: ShortCache[UUID, frozenset[str]] = ShortCache(seconds=1.0, grace_seconds=1.0, size=10_000)


@dataclass(slots=True)
class Room:
    """What a project can still spend, by its tightest budget; all its batches share one."""

    #: limit less spent: what can never grow again in this period
    unspent: Decimal
    #: and less what is reserved; the scheduler takes what it reserves off it
    left: Decimal

    def closed_to(self, cost_usd: Decimal) -> bool:
        """True if a row that may cost so much finds no room in this period, however little those in flight cost."""
        return self.unspent <= 0 or self.unspent < cost_usd


def rooms(connection: RawConnection) -> dict[UUID, Room]:
    """The room of each running or paused batch whose project has a budget that stops it: one query over budgets."""
    found: dict[UUID, Room] = {}
    for row in connection.execute(_ROOMS):
        room = Room(row["unspent"], row["unspent"] - row["reserved"])
        for batch_id in row["batches"]:
            found[batch_id] = room
    return found


def fits(connection: RawConnection, batch_id: UUID) -> bool:
    """Whether what is reserved is within the budgets of a batch's project, this transaction's claim included.

    Takes the lock that live calls take their room under, after the locks of the claim: what was let in between the
    scheduler's look at `rooms` and its claim is seen here, and what comes after the claim sees the claim.
    """
    row = connection.execute("SELECT project_id FROM batch WHERE id = %s", (batch_id,)).fetchone()
    if row is None:
        return False
    unspent = [budget["unspent"] for budget in connection.execute(_LOCKED, {"project": row["project_id"]})]
    return not unspent or reserved_usd(connection, row["project_id"]) <= min(unspent)


def pause(batch_id: UUID, room: Room, needs_usd: Decimal) -> bool:
    """Pause a batch whose next row may cost more than its project's budget has left; False if it ran no more."""
    with db.connection() as connection:
        row = connection.execute(
            _PAUSE,
            {
                "batch": batch_id,
                "reason": PAUSE_REASON,
                "needs": needs_usd,
                "message": f"the project's budget has {money_text(max(room.unspent, Decimal(0)))} USD left, too little"
                " for the next row. The batch goes on in the next period, or when the budget is raised.",
            },
        ).fetchone()
        if row is not None:
            connection.execute("SELECT pg_notify('llm_stop', %s)", (batch_id.hex,))
            webhooks.emit(connection, batch_id, "batch.paused")
    return row is not None


def resume_funded() -> int:
    """Go on with batches whose budget has room for their next row: a new period, a raised limit; returns how many."""
    with db.connection() as connection:
        waiting = connection.execute(
            "SELECT id, coalesce(needs_usd, 0) AS needs_usd FROM batch"
            " WHERE ended_at IS NULL AND status = 'paused' AND status_reason = %s",
            (PAUSE_REASON,),
        ).fetchall()
        if not waiting:
            return 0
        found = rooms(connection)
        funded = [
            row["id"] for row in waiting if row["id"] not in found or not found[row["id"]].closed_to(row["needs_usd"])
        ]
        rows = connection.execute(_RESUME, {"batches": funded, "reason": PAUSE_REASON}).fetchall()
        for row in rows:
            connection.execute("SELECT pg_notify('llm_go', %s)", (row["id"].hex,))
        if rows:
            connection.execute("NOTIFY llm_dispatch")
    return len(rows)


@contextmanager
def hold(principal: Principal, ceiling: Callable[[], Decimal], *, seconds: float) -> Iterator[None]:
    """Reserve what a live call can cost, from before it starts until what it did cost is recorded.

    Parameters
    ----------
    ceiling : the most it can cost, in USD; asked only if the project has a budget that stops it.
    seconds : the time that the call has.

    Raises
    ------
    BudgetExhausted
        There is no room.
    """
    if "stop" not in _budgets.get(principal.project_id, lambda: _kinds(principal)):
        yield
        return
    held = _reserve(principal, ceiling(), seconds + _HOLD_GRACE_SECONDS)
    try:
        yield
    finally:
        if held is not None:
            _release(principal, held)


def forget_old(connection: RawConnection) -> None:
    """Remove what processes that died had reserved."""
    connection.execute("DELETE FROM budget_hold WHERE expires_at < now()")


def none_of(projects: Iterable[UUID]) -> bool:
    """True if all these projects are known to have had no budget within the last two seconds.

    What is not charged for that reason to a budget that was made since, `reconcile` adds to it.
    """
    return all(_budgets.peek(project_id) == frozenset() for project_id in projects)


def forget(project_id: UUID | None) -> None:
    """A project's budgets have changed, or with None any project's: ask anew."""
    if project_id is None:
        _budgets.clear()
    else:
        _budgets.forget(project_id)


def _kinds(principal: Principal) -> frozenset[str]:
    with db.connection(principal.tenant_id) as connection:
        rows = connection.execute("SELECT on_limit FROM budget WHERE project_id = %s", (principal.project_id,))
        return frozenset(row["on_limit"] for row in rows)


def _reserve(principal: Principal, cost_usd: Decimal, seconds: float) -> UUID | None:
    """Take room for a live call, under the lock of the project's budgets; None if there are none any more."""
    with db.connection(principal.tenant_id) as connection:
        budgets = connection.execute(_LOCKED, {"project": principal.project_id}).fetchall()
        if not budgets:
            return None
        tightest = min(budgets, key=lambda row: row["unspent"])
        room = Room(tightest["unspent"], tightest["unspent"] - reserved_usd(connection, principal.project_id))
        if room.closed_to(cost_usd) or room.left < cost_usd:
            what = f"The project's {tightest['period']} budget of {money_text(tightest['limit_usd'])} USD"
            if room.closed_to(cost_usd):
                end = period_end(tightest["period"], tightest["start"])
                raise BudgetExhausted(
                    f"{what} has {money_text(max(room.unspent, Decimal(0)))} USD left, and this call may cost up to"
                    f" {money_text(cost_usd)} USD. The next period begins at {end.isoformat()}; or raise it with"
                    f" PUT /v1/budgets/{tightest['period']}.",
                    (end - datetime.now(UTC)).total_seconds(),
                )
            raise BudgetReserved(
                f"{what} is reserved by calls in flight, but for {money_text(max(room.left, Decimal(0)))} USD; this"
                f" call may cost up to {money_text(cost_usd)} USD.",
                _IN_FLIGHT_RETRY_SECONDS,
            )
        held = new_id()
        connection.execute(
            "INSERT INTO budget_hold (id, tenant_id, project_id, usd, expires_at)"
            " VALUES (%s, %s, %s, %s, now() + make_interval(secs => %s))",
            (held, principal.tenant_id, principal.project_id, cost_usd, seconds),
        )
    return held


def _release(principal: Principal, held: UUID) -> None:
    try:
        with db.connection(principal.tenant_id) as connection:
            connection.execute("DELETE FROM budget_hold WHERE id = %s", (held,))
    except Unavailable:
        log.warning("a reservation stays until it runs out: the database is away")


def reserved_usd(connection: RawConnection, project_id: UUID) -> Decimal:
    """What rows of batches and live calls in flight can still cost a project, in USD."""
    row = connection.execute(_RESERVED, {"project": project_id}).fetchone()
    return row["usd"] if row else Decimal(0)


_ROOMS = f"""
WITH unspent AS (
    SELECT project_id, min(limit_usd - {NOW_SPENT}) AS usd FROM budget WHERE on_limit = 'stop' GROUP BY project_id
)
SELECT unspent.usd AS unspent, coalesce(held.usd, 0) + running.usd AS reserved, running.batches
FROM unspent
JOIN (
    SELECT project_id, sum(reserved_usd) AS usd, array_agg(id) AS batches FROM batch
    WHERE ended_at IS NULL AND project_id IN (SELECT project_id FROM unspent) GROUP BY project_id
) running USING (project_id)
LEFT JOIN (
    SELECT project_id, sum(usd) AS usd FROM budget_hold WHERE expires_at > now() GROUP BY project_id
) held USING (project_id)
"""  # noqa: S608 (texts of ours)

_LOCKED = f"""
SELECT period, limit_usd, limit_usd - {NOW_SPENT} AS unspent, {NOW_START} AS start
FROM budget WHERE project_id = %(project)s AND on_limit = 'stop' ORDER BY period FOR NO KEY UPDATE
"""  # noqa: S608 (texts of ours)

_RESERVED = """
SELECT (SELECT coalesce(sum(reserved_usd), 0) FROM batch WHERE project_id = %(project)s AND ended_at IS NULL)
     + (SELECT coalesce(sum(usd), 0) FROM budget_hold WHERE project_id = %(project)s AND expires_at > now()) AS usd
"""

_PAUSE = """
UPDATE batch SET status = 'paused', status_reason = %(reason)s, status_message = %(message)s, needs_usd = %(needs)s
WHERE id = %(batch)s AND ended_at IS NULL AND status IN ('pending', 'processing')
RETURNING id
"""

# Locked in the order of their ids, as wherever several batches are.
_RESUME = """
WITH funded AS (
    SELECT id FROM batch
    WHERE id = ANY(%(batches)s) AND ended_at IS NULL AND status = 'paused' AND status_reason = %(reason)s
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE batch SET status = CASE WHEN dispatched > 0 THEN 'processing' ELSE 'pending' END,
                 status_reason = NULL, status_message = NULL, needs_usd = NULL
FROM funded WHERE batch.id = funded.id
RETURNING batch.id
"""
