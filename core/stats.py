"""Statistics of a project from its hourly sums: totals, by model, a time series, and how busy it is now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from psycopg.rows import DictRow

from core import db, load
from core.batches.read import money_text, time_text
from core.errors import FieldError, InvalidInput
from core.histogram import Histogram
from core.identity import Principal
from core.rollup import hour_of

INTERVALS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
GROUPS = ("model", "provider", "status", "processing")
#: Points of one answer's time series: three months of hours, or six years of days.
MAX_POINTS = 2200
#: What is shown when `from` is not given.
DEFAULT_RANGE = timedelta(days=30)
PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def read(
    principal: Principal,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    interval: str = "day",
    group_by: str | None = None,
) -> dict[str, Any]:
    """Statistics of what ended from `since` to `until`, widened to whole hours; days are those of UTC.

    Parameters
    ----------
    since : 30 days before `until` by default.
    until : now by default.
    interval : of the time series, one of INTERVALS.
    group_by : one of GROUPS: adds `groups`, and to each point of the series its groups.

    Raises
    ------
    InvalidInput
        The range is empty, or has too many points.
    """
    first, end = _range(since, until, interval)
    with db.connection(principal.tenant_id) as connection:
        rows = connection.execute(
            _sql(group_by),
            {
                "tenant": principal.tenant_id,
                "project": principal.project_id,
                "interval": interval,
                "since": first,
                "until": end,
            },
        ).fetchall()
    totals, models, groups = _figures(None), {}, {}
    points: dict[datetime, dict[str, Any]] = {}
    start = first if interval == "hour" else first.replace(hour=0)
    while start < end:
        points[start] = {"start": time_text(start), **_figures(None)}
        if group_by:
            points[start]["groups"] = {}
        start += INTERVALS[interval]
    for row in rows:
        # A series of many groups would be mostly percentiles: it goes without.
        figures = _figures(row, percentiles=not (row["of_start"] and row["of_group"]))
        match row["of_start"], row["of_model"], row["of_group"]:
            case 0, 0, 0:
                totals = figures
            case 0, 1, 0:
                models[row["model"]] = figures
            case 0, 0, 1:
                groups[row["group_key"]] = figures
            case 1, 0, 0:
                points[row["start"]].update(figures)
            case _:
                points[row["start"]]["groups"][row["group_key"]] = figures
    return {
        "from": time_text(first),
        "to": time_text(end),
        "interval": interval,
        "group_by": group_by,
        "totals": totals,
        "by_model": models,
        **({"groups": groups} if group_by else {}),
        "series": list(points.values()),
        "live": load.read(principal),
    }


def _range(since: datetime | None, until: datetime | None, interval: str) -> tuple[datetime, datetime]:
    try:
        end = (until or datetime.now(UTC)).astimezone(UTC)
        if end != hour_of(end):
            end = hour_of(end) + timedelta(hours=1)
        first = hour_of(since or end - DEFAULT_RANGE)
    except OverflowError:
        raise InvalidInput([FieldError("?from", "is beyond the calendar")]) from None
    if first >= end:
        raise InvalidInput([FieldError("?from", "must be before `to`")])
    if (end - first) / INTERVALS[interval] > MAX_POINTS:
        raise InvalidInput(
            [FieldError("?from", f"is more than {MAX_POINTS} {interval}s before `to`; ask for less, or for days")]
        )
    return first, end


def _sql(group_by: str | None) -> str:
    if group_by is None:
        return _SUMS.format(column="NULL", group_key="NULL", of_group=0, sets="(), (model), (start)")
    sets = "(), (model), (start), (group_key), (start, group_key)"
    return _SUMS.format(column=group_by, group_key="group_key", of_group="1 - grouping(group_key)", sets=sets)


def _figures(row: DictRow | None, *, percentiles: bool = True) -> dict[str, Any]:
    """The figures of one row of sums; of None: of nothing."""
    row = row or dict.fromkeys((*_COUNTS, "cost_usd", "savings_usd"), 0)
    counts = {name: int(row[name] or 0) for name in _COUNTS}
    judged = counts["succeeded"] + counts["failed"]
    figures: dict[str, Any] = {
        **counts,
        "success_rate": round(counts["succeeded"] / judged, 6) if judged else None,
        "cost_usd": money_text(row["cost_usd"] or Decimal(0)),
        "savings_usd": money_text(row["savings_usd"] or Decimal(0)),
    }
    if percentiles:
        figures["latency_ms"] = _percentiles(row.get("latency"))
        figures["time_to_first_token_ms"] = _percentiles(row.get("first_token"))
    return figures


def _percentiles(stored: str | None) -> dict[str, float | None]:
    found = Histogram.of(stored or "0").percentiles(tuple(PERCENTILES.values()))
    return {name: None if value is None else round(value, 1) for name, value in zip(PERCENTILES, found, strict=True)}


_COUNTS = (
    "requests",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
    "attempts",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "unpriced",
)

_SUMS = """
SELECT start, model, {group_key} AS group_key,
       1 - grouping(start) AS of_start, 1 - grouping(model) AS of_model, {of_group} AS of_group,
       sum(requests) AS requests,
       sum(requests) FILTER (WHERE status = 'succeeded') AS succeeded,
       sum(requests) FILTER (WHERE status = 'failed') AS failed,
       sum(requests) FILTER (WHERE status = 'cancelled') AS cancelled,
       sum(requests) FILTER (WHERE status = 'expired') AS expired,
       sum(attempts) AS attempts, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
       sum(cached_tokens) AS cached_tokens, sum(reasoning_tokens) AS reasoning_tokens,
       sum(unpriced) AS unpriced, sum(cost_usd) AS cost_usd, sum(savings_usd) AS savings_usd,
       (sum(latency) FILTER (WHERE status = 'succeeded'))::text AS latency, sum(first_token)::text AS first_token
FROM (
    SELECT *, date_trunc(%(interval)s, hour, 'UTC') AS start, {column} AS group_key
    FROM rollup
    WHERE tenant_id = %(tenant)s AND project_id = %(project)s AND hour >= %(since)s AND hour < %(until)s
) r
GROUP BY GROUPING SETS ({sets})
"""
