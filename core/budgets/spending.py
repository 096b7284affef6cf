"""What budgets have spent: counters moved in the transactions that end rows, and the warnings at their thresholds.

Locks: after the rows and the batches of its transaction and before the sums of statistics, a charge locks the budgets
of its projects in the order of their keys. Nothing that holds a budget ever waits for a row or a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from core import webhooks
from core.db import RawConnection
from core.ids import public
from core.time_and_money import money_text, time_text

#: Budgets made so recently may have missed what was being recorded in that moment.
_RECONCILE_SECONDS = 600


def charge(connection: RawConnection, costs: Mapping[UUID, Decimal]) -> Cursor[DictRow] | None:
    """Count what projects spent, in USD, in the transaction that records it; give what this returns to `warn_of`.

    What is recorded after a period's end counts in the next period. Projects without a budget cost one index probe.
    """
    spent = {project_id: cost for project_id, cost in costs.items() if cost}
    if not spent:
        return None
    return connection.execute(_CHARGE, {"projects": list(spent), "costs": list(spent.values())})


def warn_of(connection: RawConnection, charged: Cursor[DictRow] | None) -> None:
    """Warn at the thresholds that a charge has passed."""
    for row in charged or ():
        warn(connection, row)


def warn(connection: RawConnection, row: DictRow) -> None:
    """Announce each threshold that a budget has reached in its period and not been announced for; its row is locked."""
    reached = [
        each
        for each in sorted(row["thresholds"])
        if Decimal(str(each)) > row["warned"] and row["spent_usd"] >= Decimal(str(each)) * row["limit_usd"]
    ]
    if not reached:
        return
    connection.execute(
        "UPDATE budget SET warned = %s WHERE project_id = %s AND period = %s",
        (Decimal(str(reached[-1])), row["project_id"], row["period"]),
    )
    for threshold in reached:
        webhooks.announce(
            connection,
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            event_type="budget.threshold",
            data={
                "project_id": public("proj", row["project_id"]),
                "period": row["period"],
                "period_start": time_text(row["period_start"]),
                "period_end": time_text(period_end(row["period"], row["period_start"])),
                "threshold": threshold,
                "limit_usd": money_text(row["limit_usd"]),
                "spent_usd": money_text(row["spent_usd"]),
                "on_limit": row["on_limit"],
            },
        )


def reconcile(connection: RawConnection) -> int:
    """Add to new budgets what was being recorded while they were made, by the sums of statistics; returns how many."""
    rows = connection.execute(_MISSING, {"seconds": _RECONCILE_SECONDS}).fetchall()
    for row in rows:
        changed = connection.execute(
            "UPDATE budget SET spent_usd = spent_usd + %s WHERE project_id = %s AND period = %s RETURNING *",
            (row["missing"], row["project_id"], row["period"]),
        ).fetchone()
        if changed is not None:
            warn(connection, changed)
    return len(rows)


def period_end(period: str, start: datetime) -> datetime:
    """When the period that begins at `start` ends, in UTC."""
    start = start.astimezone(UTC)
    if period == "day":
        return start + timedelta(days=1)
    return (start + timedelta(days=32)).replace(day=1)


#: The period that is now, of a row of `budget`; what was spent in it.
NOW_START = "greatest(budget.period_start, date_trunc(budget.period, now(), 'UTC'))"
NOW_SPENT = "CASE WHEN budget.period_start >= date_trunc(budget.period, now(), 'UTC') THEN budget.spent_usd ELSE 0 END"

_CHARGE = f"""
WITH held AS (
    SELECT budget.project_id, budget.period, added.cost
    FROM budget JOIN unnest(%(projects)s::uuid[], %(costs)s::numeric[]) AS added (project_id, cost) USING (project_id)
    ORDER BY budget.project_id, budget.period FOR NO KEY UPDATE OF budget
)
UPDATE budget SET
    spent_usd = {NOW_SPENT} + held.cost,
    warned = CASE WHEN budget.period_start >= date_trunc(budget.period, now(), 'UTC') THEN budget.warned ELSE 0 END,
    period_start = {NOW_START}
FROM held WHERE budget.project_id = held.project_id AND budget.period = held.period
RETURNING budget.*
"""  # noqa: S608 (texts of ours)

# A charge and its sums commit together, so that in one snapshot they are equal, but for what was recorded before the
# budget was there. A second reconciler waits for the lock and then sees the first one's addition.
_MISSING = """
SELECT budget.project_id, budget.period, sums.cost - budget.spent_usd AS missing
FROM budget CROSS JOIN LATERAL (
    SELECT coalesce(sum(rollup.cost_usd), 0) AS cost FROM rollup
    WHERE rollup.project_id = budget.project_id AND rollup.hour >= budget.period_start
) sums
WHERE budget.created_at > now() - make_interval(secs => %(seconds)s)
  AND budget.period_start = date_trunc(budget.period, now(), 'UTC') AND sums.cost > budget.spent_usd
ORDER BY budget.project_id, budget.period FOR NO KEY UPDATE OF budget
"""
