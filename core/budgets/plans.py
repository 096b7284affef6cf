"""The budgets that a project set: a month's and a day's, in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from psycopg.types.json import Jsonb

from core import changes, db
from core.budgets import gate, spending
from core.errors import InvalidInput, NotFound
from core.principal import Principal
from core.text_input import Problems
from core.time_and_money import money_text, time_text

PERIODS = ("month", "day")
ON_LIMIT = ("stop", "warn")
DEFAULT_THRESHOLDS = (0.5, 0.8, 1.0)
MAX_THRESHOLDS = 10
MAX_LIMIT_USD = 10**9


def put(principal: Principal, period: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Set a budget as a whole: (the budget object, True if it is new).

    What the project has spent in the period counts from the start. A changed limit warns of thresholds that are reached
    under it, and once more of those that were reached under a lower limit and are reached again.

    Parameters
    ----------
    period : `month` or `day`.
    given : {"limit_usd", "thresholds", "on_limit"}.

    Raises
    ------
    NotFound
        There is no such period.
    InvalidInput
        With all that is wrong.
    """
    if period not in PERIODS:
        raise NotFound
    limit_usd, thresholds, on_limit = _checked(given)
    with db.connection(principal.tenant_id) as connection:
        row = connection.execute(
            _PUT,
            {
                "tenant": principal.tenant_id,
                "project": principal.project_id,
                "period": period,
                "limit": limit_usd,
                "thresholds": Jsonb(thresholds),
                "on_limit": on_limit,
            },
        ).fetchone()
        assert row is not None
        spending.warn(connection, row)
        connection.execute("NOTIFY llm_dispatch")
        changes.announce(connection, principal.project_id)
        db.after_commit(connection, partial(gate.forget, principal.project_id))
        return _shown(connection, row), row["is_new"]


def get(principal: Principal, period: str) -> dict[str, Any]:
    """One budget. Raises NotFound."""
    found = [budget for budget in every(principal) if budget["period"] == period]
    if not found:
        raise NotFound
    return found[0]


def every(principal: Principal) -> list[dict[str, Any]]:
    """The project's budgets: none, one or two."""
    with db.connection(principal.tenant_id) as connection:
        rows = connection.execute(_SHOW, {"tenant": principal.tenant_id, "project": principal.project_id}).fetchall()
        return [_shown(connection, row) for row in rows]


def delete(principal: Principal, period: str) -> None:
    """Take a budget away; batches that waited for it go on. Raises NotFound."""
    with db.connection(principal.tenant_id) as connection:
        gone = connection.execute(
            "DELETE FROM budget WHERE project_id = %s AND tenant_id = %s AND period = %s RETURNING period",
            (principal.project_id, principal.tenant_id, period),
        ).fetchone()
        if gone is None:
            raise NotFound
        connection.execute("NOTIFY llm_dispatch")
        changes.announce(connection, principal.project_id)


def _checked(given: Mapping[str, Any]) -> tuple[Decimal, list[float], str]:
    problems = Problems()
    problems.unknown(given, {"limit_usd", "thresholds", "on_limit"})
    limit_usd = Decimal(0)
    if given.get("limit_usd") is None:
        problems.add("/limit_usd", "Required: what may be spent in the period, in US dollars.")
    else:
        limit_usd = _money(given["limit_usd"])
        if not limit_usd:
            problems.add("/limit_usd", 'Must be an amount of US dollars above 0, such as "250.00".')
    thresholds = given.get("thresholds")
    if thresholds is None:
        thresholds = list(DEFAULT_THRESHOLDS)
    elif not isinstance(thresholds, list) or len(thresholds) > MAX_THRESHOLDS or not all(map(_share, thresholds)):
        problems.add(
            "/thresholds", f"Must be an array of at most {MAX_THRESHOLDS} shares of the limit, such as [0.5, 0.8, 1.0]."
        )
        thresholds = []
    on_limit = "stop" if given.get("on_limit") is None else given["on_limit"]
    if on_limit not in ON_LIMIT:
        problems.add("/on_limit", "Must be `stop` or `warn`.")
    if problems:
        raise InvalidInput(list(problems))
    return limit_usd, sorted(set(thresholds)), on_limit


def _share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0001 <= value <= 10


def _money(value: object) -> Decimal:
    """The amount; zero if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 32:
        return Decimal(0)
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return Decimal(0)
    return amount if amount.is_finite() and Decimal("0.000001") <= amount <= MAX_LIMIT_USD else Decimal(0)


def _shown(connection: db.RawConnection, row: dict[str, Any]) -> dict[str, Any]:
    reserved = gate.reserved_usd(connection, row["project_id"])
    return {
        "period": row["period"],
        "limit_usd": money_text(row["limit_usd"]),
        "thresholds": row["thresholds"],
        "on_limit": row["on_limit"],
        "period_start": time_text(row["start"]),
        "period_end": time_text(spending.period_end(row["period"], row["start"])),
        "spent_usd": money_text(row["spent"]),
        "reserved_usd": money_text(reserved),
        "remaining_usd": money_text(max(Decimal(0), row["limit_usd"] - row["spent"] - reserved)),
        "created_at": time_text(row["created_at"]),
        "updated_at": time_text(row["updated_at"]),
    }


_PRESENT = f"{spending.NOW_START} AS start, {spending.NOW_SPENT} AS spent"

_SHOW = f"""
SELECT budget.*, {_PRESENT} FROM budget
WHERE project_id = %(project)s AND tenant_id = %(tenant)s ORDER BY period DESC
"""  # noqa: S608 (texts of ours)

# A limit that is raised so far that thresholds are not reached any more may announce them once more.
_PUT = f"""
INSERT INTO budget (project_id, tenant_id, period, limit_usd, thresholds, on_limit, period_start, spent_usd)
SELECT %(project)s, %(tenant)s, %(period)s::text, %(limit)s, %(thresholds)s, %(on_limit)s, now_start,
       (SELECT coalesce(sum(cost_usd), 0) FROM rollup WHERE project_id = %(project)s AND hour >= now_start)
FROM (SELECT date_trunc(%(period)s, now(), 'UTC') AS now_start) AS present
ON CONFLICT (project_id, period) DO UPDATE SET
    limit_usd = excluded.limit_usd, thresholds = excluded.thresholds, on_limit = excluded.on_limit, updated_at = now(),
    period_start = {spending.NOW_START}, spent_usd = {spending.NOW_SPENT},
    warned = CASE WHEN budget.period_start >= date_trunc(budget.period, now(), 'UTC')
                  THEN least(budget.warned, budget.spent_usd / excluded.limit_usd) ELSE 0 END
RETURNING budget.*, {_PRESENT}, xmax = 0 AS is_new
"""  # noqa: S608 (texts of ours)
