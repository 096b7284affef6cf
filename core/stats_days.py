"""Days of a project's statistics: read from its hourly sums, and kept in this process while those stay as they are.

An hour that is over nearly never changes, but it can: an outcome is written later than its row ended when the database
was down. So each look asks what the days' `requests` are. Whatever is written to table `rollup` counts a request at
least, and nothing is taken away: a day of as many requests as before is the same day. Only days that are new or that
changed are added up.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from psycopg.rows import tuple_row

from core import db
from core.db import RawConnection
from core.identity import Principal
from core.stats_sums import COUNTS, HISTOGRAMS, MONEY, NOTHING, NUMBERS, STATUSES, Sums, added, counts_of
from core.time_and_money import time_text

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
#: Bytes of days that a process keeps, about: a dozen months by hour with groups, hundreds without.
KEPT_BYTES = 16_000_000
#: What the sums of one model or group take in memory, about.
_SUMS_BYTES = 5_000


class View(NamedTuple):
    """What of a project is looked at, and how it is divided."""

    tenant_id: UUID
    project_id: UUID
    #: HOUR or DAY: between two points of the series
    step: timedelta
    #: one of core.stats.GROUPS
    group_by: str | None


@dataclass(frozen=True, slots=True)
class Day:
    """A day of UTC, or the part of it that was asked for."""

    #: completions in it, which tell whether it has changed
    requests: int
    #: the points of the series as JSON, with commas between them
    points: bytes
    models: Mapping[str, Sums]
    #: by the view's groups; empty if they are the models, or if there are none
    groups: Mapping[str, Sums]

    def size(self) -> int:
        """Bytes, about."""
        return len(self.points) + _SUMS_BYTES * (len(self.models) + len(self.groups))


class _Kept:
    """Days by view and range, those that were not looked at for longest going first."""

    def __init__(self) -> None:
        self._days: OrderedDict[tuple[View, datetime, datetime], Day] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, view: View, start: datetime, end: datetime, requests: int) -> Day | None:
        """The day, unless its requests are others by now."""
        with self._lock:
            found = self._days.get((view, start, end))
            if found is None or found.requests != requests:
                return None
            self._days.move_to_end((view, start, end))
            return found

    def keep(self, view: View, start: datetime, end: datetime, day: Day) -> None:
        with self._lock:
            before = self._days.pop((view, start, end), None)
            self._days[view, start, end] = day
            self._bytes += day.size() - (before.size() if before else 0)
            while self._bytes > KEPT_BYTES:
                self._bytes -= self._days.popitem(last=False)[1].size()


_kept = _Kept()


def read(principal: Principal, first: datetime, end: datetime, step: timedelta, group_by: str | None) -> list[Day]:
    """The days from the hour `first` to the hour `end`, those without completions too.

    Parameters
    ----------
    step : HOUR or DAY: between two points.
    group_by : one of core.stats.GROUPS.
    """
    view = View(principal.tenant_id, principal.project_id, step, group_by)
    ranges = _ranges(first, end)
    with db.connection(principal.tenant_id) as connection:
        connection.execute(_SETTINGS)
        with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
            values = {"tenant": view.tenant_id, "project": view.project_id, "since": first, "until": end}
            requests: dict[datetime, int] = dict(cursor.execute(_REQUESTS, values).fetchall())
        days = {day: _kept.get(view, *ranges[day], requests.get(day, 0)) for day in ranges}
        missing = {day: ranges[day] for day, found in days.items() if found is None}
        # What ended after the requests were counted is in these days too: the next look adds them up again.
        for day, found in _add_up(connection, view, missing, requests).items():
            _kept.keep(view, *ranges[day], found)
            days[day] = found
    return [found for found in days.values() if found is not None]


def _ranges(first: datetime, end: datetime) -> dict[datetime, tuple[datetime, datetime]]:
    """From and to of what is asked of each day, by the day."""
    found = {}
    day = first.replace(hour=0)
    while day < end:
        found[day] = max(day, first), min(day + DAY, end)
        day += DAY
    return found


@dataclass(slots=True)
class _Read:
    """What was read of a day."""

    models: dict[str, Sums] = field(default_factory=dict)
    groups: dict[str, Sums] = field(default_factory=dict)
    hours: dict[datetime, Sums] = field(default_factory=dict)
    hours_of_groups: defaultdict[datetime, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))


def _add_up(
    connection: RawConnection,
    view: View,
    ranges: Mapping[datetime, tuple[datetime, datetime]],
    requests: Mapping[datetime, int],
) -> dict[datetime, Day]:
    """The days of `ranges`, from the table."""
    read = {day: _Read() for day in ranges}
    days = [day for day in ranges if day in requests]
    if days:
        values = {"tenant": view.tenant_id, "project": view.project_id, "days": days}
        values |= {"since": ranges[days[0]][0], "until": ranges[days[-1]][1]}
        with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
            for part, start, key, *sums in cursor.execute(_sql(view), values):
                day = read[start.astimezone(UTC).replace(hour=0)]
                if part == "model":
                    day.models[key] = Sums.of(sums)
                elif part == "group":
                    day.groups[key] = Sums.of(sums)
                elif part == "hour":
                    day.hours[start] = Sums.of(sums)
                else:
                    day.hours_of_groups[start][key] = counts_of(
                        sums[: len(COUNTS)], sums[len(COUNTS) : -len(HISTOGRAMS)]
                    )
    return {
        day: Day(requests.get(day, 0), _points(view, day, *ranges[day], found), found.models, found.groups)
        for day, found in read.items()
    }


def _points(view: View, day: datetime, start: datetime, end: datetime, read: _Read) -> bytes:
    """A point, or one for each hour. A series of many groups would be mostly percentiles: groups go without."""
    if view.step == DAY:
        groups = read.models if view.group_by == "model" else read.groups
        counts = {key: counts_of(found.counts, found.money) for key, found in groups.items()}
        return orjson.dumps(_point(view, day, added(read.models.values()), counts))
    points = []
    while start < end:
        points.append(_point(view, start, read.hours.get(start, NOTHING), read.hours_of_groups[start]))
        start += HOUR
    return orjson.dumps(points)[1:-1]


def _point(view: View, start: datetime, sums: Sums, groups: dict[str, Any]) -> dict[str, Any]:
    point = {"start": time_text(start), **sums.figures()}
    return {**point, "groups": groups} if view.group_by else point


#: For the transaction: a histogram that is being added up takes some 8 kB in each group of a hash table, which must not
#: go to disk, and parallel workers take longer to start than they save.
_SETTINGS = "SELECT set_config('work_mem', '32MB', true), set_config('max_parallel_workers_per_gather', '0', true)"

# Days of UTC are all of one length: date_bin, which only counts, takes a third of date_trunc's time.
_DAY = "date_bin('1 day', hour, 'epoch')"
_ASKED = (
    "FROM rollup WHERE tenant_id = %(tenant)s AND project_id = %(project)s AND hour >= %(since)s AND hour < %(until)s"
)
_REQUESTS = f"SELECT {_DAY}, sum(requests)::bigint {_ASKED} GROUP BY 1"


def _sql(view: View) -> str:
    """A grouping each for models and groups by day, and for hours and groups by hour.

    Days are added up once, by everything that is asked for, and their groupings are made of these few sums; hours are
    too many for that. Cheaper than GROUPING SETS: histograms are added up only where percentiles are shown.
    """
    group = view.group_by
    keys = ", ".join(dict.fromkeys(["model", "status", *([group] if group else [])]))
    days = f"SELECT day AS start, {keys}, {_DAY_SUMS} FROM hours GROUP BY day, {keys}"  # noqa: S608 (ours)
    parts = [_part("model", "days", "model")]
    if group is not None and group != "model":
        parts.append(_part("group", "days", group))
    if view.step == HOUR:
        parts.append(_part("hour", "hours"))
        if group is not None:
            parts.append(_part("hour of a group", "hours", group, histograms=False))
    return (
        f"WITH hours AS NOT MATERIALIZED (SELECT hour AS start, {_DAY} AS day, * {_ASKED} AND {_DAY} = ANY(%(days)s)),"
        f" days AS MATERIALIZED ({days}) {' UNION ALL '.join(parts)}"
    )


def _part(name: str, table: str, key: str | None = None, *, histograms: bool = True) -> str:
    """Sums by start and, if there is one, by key; without histograms these are NULL."""
    sums = f"{_COUNTS}, {_HISTOGRAMS if histograms else _NO_HISTOGRAMS}"
    selected = f"SELECT '{name}' AS part, start, {key or 'NULL::text'} AS key, {sums}"
    return f"{selected} FROM {table} GROUP BY start{f', {key}' if key else ''}"


_DAY_SUMS = ", ".join(f"sum({name}) AS {name}" for name in (*NUMBERS, *MONEY, *HISTOGRAMS))
_BY_STATUS = {status: f"coalesce(sum(requests) FILTER (WHERE status = '{status}'), 0)::bigint" for status in STATUSES}
_COUNTS = ", ".join(
    [*(_BY_STATUS.get(name, f"sum({name})::bigint") for name in COUNTS), *(f"sum({name})" for name in MONEY)]
)
# Numbers go out as PostgreSQL sends them, so that nothing is written as text and read again.
_HISTOGRAMS = (
    "numeric_send(coalesce(sum(latency) FILTER (WHERE status = 'succeeded'), 0)), numeric_send(sum(first_token))"
)
_NO_HISTOGRAMS = ", ".join("NULL::bytea" for _ in HISTOGRAMS)
