"""Statistics of a project from its hourly sums: totals, by model, a time series, and how busy it is now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from psycopg import Cursor

from core import db, histogram, load
from core.batches.read import money_text, time_text
from core.errors import FieldError, InvalidInput
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
    values = {"tenant": principal.tenant_id, "project": principal.project_id, "since": first, "until": end}
    with db.connection(principal.tenant_id) as connection, connection.cursor(row_factory=_sums, binary=True) as cursor:
        cursor.execute(_SETTINGS)
        rows = cursor.execute(_sql(interval, group_by), values).fetchall()
    models = {row.key: row for row in rows if row.part == "model"}
    by_model = {model: _figures(row) for model, row in models.items()}
    groups: dict[str, dict[str, Any]] = {}
    found: dict[datetime, dict[str, Any]] = {}
    in_groups: defaultdict[datetime, dict[str, Any]] = defaultdict(dict)
    for row in rows:
        if row.part == "point":
            found[row.start] = _figures(row)
        elif row.part == "group":
            groups[row.key] = _figures(row)
        elif row.part == "point of a group":
            # A series of many groups would be mostly percentiles: it goes without.
            in_groups[row.start][row.key] = row.counts()
    series = []
    start = first if interval == "hour" else first.replace(hour=0)
    while start < end:
        series.append({"start": time_text(start), **(found.get(start) or _figures(_NOTHING))})
        if group_by:
            series[-1]["groups"] = in_groups[start]
        start += INTERVALS[interval]
    return {
        "from": time_text(first),
        "to": time_text(end),
        "interval": interval,
        "group_by": group_by,
        "totals": _total(models.values()),
        "by_model": by_model,
        **({"groups": by_model if group_by == "model" else groups} if group_by else {}),
        "series": series,
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


class _Sums:
    """One row of sums: which part of the answer it is, and what was added up."""

    __slots__ = ("first_token", "key", "latency", "money", "numbers", "part", "start")

    def __init__(self, values: Sequence[Any]) -> None:
        self.part, self.start, self.key = values[:3]
        self.numbers: Sequence[int] = values[3:-4]
        self.money: Sequence[Decimal] = values[-4:-2]
        #: histograms as PostgreSQL sends them
        self.latency: bytes = values[-2] or b""
        self.first_token: bytes = values[-1] or b""

    def counts(self) -> dict[str, Any]:
        """Numbers and money."""
        found: dict[str, Any] = dict(zip(_COUNTS, self.numbers, strict=True))
        judged = found["succeeded"] + found["failed"]
        found["success_rate"] = round(found["succeeded"] / judged, 6) if judged else None
        found["cost_usd"], found["savings_usd"] = map(money_text, self.money)
        return found


def _sums(_cursor: Cursor[Any]) -> Callable[[Sequence[Any]], _Sums]:
    """psycopg's row factory."""
    return _Sums


def _figures(row: _Sums) -> dict[str, Any]:
    """Numbers, money and percentiles."""
    figures = row.counts()
    figures["latency_ms"] = _percentiles_of(row.latency)
    figures["time_to_first_token_ms"] = _percentiles_of(row.first_token)
    return figures


def _total(rows: Collection[_Sums]) -> dict[str, Any]:
    """The figures of all models together."""
    total = _Sums(_NO_ROW)
    if rows:
        total.numbers = [sum(column) for column in zip(*(row.numbers for row in rows), strict=True)]
        total.money = [sum(column, Decimal(0)) for column in zip(*(row.money for row in rows), strict=True)]
    figures = total.counts()
    figures["latency_ms"] = _percentiles(histogram.added(_counts(row.latency) for row in rows))
    figures["time_to_first_token_ms"] = _percentiles(histogram.added(_counts(row.first_token) for row in rows))
    return figures


@lru_cache(maxsize=4 * MAX_POINTS)
def _percentiles_of(sent: bytes) -> Mapping[str, float | None]:
    """Of a histogram as PostgreSQL sends it. Who looks again sees the hours that are over unchanged, most times."""
    return _percentiles(_counts(sent))


def _percentiles(counts: histogram.Counts) -> Mapping[str, float | None]:
    found = histogram.percentiles(counts, _SHARES)
    return dict(zip(PERCENTILES, [value and round(value, 1) for value in found], strict=True))


def _counts(sent: bytes) -> histogram.Counts:
    return histogram.counts_of(sent) if sent else histogram.NOTHING


_SHARES = tuple(PERCENTILES.values())
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
_NO_ROW = (None, None, None, *(0 for _ in _COUNTS), Decimal(0), Decimal(0), None, None)
_NOTHING = _Sums(_NO_ROW)


#: For the transaction: a histogram that is being added up takes some 8 kB in each group of a hash table, which must not
#: go to disk, and parallel workers take longer to start than they save.
_SETTINGS = "SELECT set_config('work_mem', '32MB', true), set_config('max_parallel_workers_per_gather', '0', true)"


def _sql(interval: str, group_by: str | None) -> str:
    """A grouping each for models, groups, points, and points by group.

    Days are added up once, by everything that is asked for, and the groupings are made of these few sums; hours are
    too many for that. Cheaper than GROUPING SETS: histograms are added up only where percentiles are shown, and the
    totals are the sums of the few models'.
    """
    if interval == "day":
        keys = ", ".join(dict.fromkeys(["model", "status", *([group_by] if group_by else [])]))
        sums = _DAYS.format(keys=keys, added=", ".join(f"sum({name}) AS {name}" for name in _ADDED))
    else:
        sums = _HOURS
    parts = [_part("model", key="model"), _part("point", start="start")]
    if group_by is not None and group_by != "model":
        parts.append(_part("group", key=group_by))
    if group_by is not None:
        parts.append(_part("point of a group", start="start", key=group_by))
    return sums + " UNION ALL ".join(parts)


def _part(name: str, *, start: str = "NULL::timestamptz", key: str = "NULL::text") -> str:
    latency = "numeric_send(coalesce(sum(latency) FILTER (WHERE status = 'succeeded'), 0))"
    first_token = "numeric_send(sum(first_token))"
    if name == "point of a group":
        latency = first_token = "NULL::bytea"
    grouped = ", ".join(column for column in (start, key) if not column.startswith("NULL"))
    return _SUMS.format(part=name, start=start, key=key, latency=latency, first_token=first_token, grouped=grouped)


_ADDED = (
    "requests",
    "attempts",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "unpriced",
    "cost_usd",
    "savings_usd",
    "latency",
    "first_token",
)
_ASKED = (
    "FROM rollup WHERE tenant_id = %(tenant)s AND project_id = %(project)s AND hour >= %(since)s AND hour < %(until)s"
)
# Days of UTC are all of one length: date_bin, which only counts, takes a third of date_trunc's time.
_DAYS = f"""
WITH sums AS MATERIALIZED (
    SELECT date_bin('1 day', hour, 'epoch') AS start, {{keys}}, {{added}} {_ASKED} GROUP BY start, {{keys}}
)"""
_HOURS = f"WITH sums AS NOT MATERIALIZED (SELECT hour AS start, * {_ASKED})"
# Numbers go out as PostgreSQL sends them, so that nothing is written as text and read again.
_SUMS = """
SELECT '{part}' AS part, {start} AS start, {key} AS key,
       sum(requests)::bigint AS requests,
       coalesce(sum(requests) FILTER (WHERE status = 'succeeded'), 0)::bigint AS succeeded,
       coalesce(sum(requests) FILTER (WHERE status = 'failed'), 0)::bigint AS failed,
       coalesce(sum(requests) FILTER (WHERE status = 'cancelled'), 0)::bigint AS cancelled,
       coalesce(sum(requests) FILTER (WHERE status = 'expired'), 0)::bigint AS expired,
       sum(attempts)::bigint AS attempts, sum(input_tokens)::bigint AS input_tokens,
       sum(output_tokens)::bigint AS output_tokens, sum(cached_tokens)::bigint AS cached_tokens,
       sum(reasoning_tokens)::bigint AS reasoning_tokens, sum(unpriced)::bigint AS unpriced,
       sum(cost_usd) AS cost_usd, sum(savings_usd) AS savings_usd,
       {latency} AS latency, {first_token} AS first_token
FROM sums GROUP BY {grouped}
"""
