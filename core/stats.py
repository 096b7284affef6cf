"""Statistics of a project from its hourly sums: totals, by model, a time series, and how busy it is now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from core import load, stats_days
from core.errors import FieldError, InvalidInput
from core.identity import Principal
from core.rollup import hour_of
from core.stats_sums import Sums, added
from core.time_and_money import time_text

INTERVALS = {"hour": stats_days.HOUR, "day": stats_days.DAY}
GROUPS = ("model", "provider", "status", "processing")
#: Points of one answer's time series: three months of hours, or six years of days.
MAX_POINTS = 2200
#: What is shown when `from` is not given.
DEFAULT_RANGE = timedelta(days=30)
_EARLIEST = datetime.min.replace(tzinfo=UTC) + DEFAULT_RANGE
#: Days are made one after the other, up to the one after the last.
_LATEST = datetime.max.replace(tzinfo=UTC) - 2 * stats_days.DAY


def read(
    principal: Principal,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    interval: str = "day",
    group_by: str | None = None,
) -> dict[str, Any]:
    """Statistics of what ended from `since` to `until`, widened to whole hours; days are those of UTC.

    What is returned is for orjson: its `series` is JSON already.

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
    days = stats_days.read(principal, first, end, INTERVALS[interval], group_by)
    models = _together(day.models for day in days)
    by_model = _figures(models)
    groups = by_model if group_by == "model" else _figures(_together(day.groups for day in days))
    return {
        "from": time_text(first),
        "to": time_text(end),
        "interval": interval,
        "group_by": group_by,
        "totals": added(models.values()).figures(),
        "by_model": by_model,
        **({"groups": groups} if group_by else {}),
        "series": orjson.Fragment(b"[" + b",".join(day.points for day in days) + b"]"),
        "live": load.read(principal),
    }


def _range(since: datetime | None, until: datetime | None, interval: str) -> tuple[datetime, datetime]:
    end = _within_calendar(until or datetime.now(UTC), "?to")
    if end != hour_of(end):
        end = hour_of(end) + timedelta(hours=1)
    first = hour_of(end - DEFAULT_RANGE if since is None else _within_calendar(since, "?from"))
    if first >= end:
        raise InvalidInput([FieldError("?from", "must be before `to`: nothing lies between them")])
    if (end - first) / INTERVALS[interval] > MAX_POINTS:
        raise InvalidInput(
            [FieldError("?from", f"is more than {MAX_POINTS} {interval}s before `to`; ask for less, or for days")]
        )
    return first, end


def _within_calendar(time: datetime, name: str) -> datetime:
    """The time in UTC. Raises InvalidInput where the ranges around it would leave Python's years 1 to 9999."""
    try:
        found = time.astimezone(UTC)
        if _EARLIEST <= found <= _LATEST:
            return found
    except OverflowError:
        pass
    raise InvalidInput([FieldError(name, "is beyond the calendar")])


def _together(days: Iterable[Mapping[str, Sums]]) -> dict[str, Sums]:
    """The sums of all days for each key, in the order of the keys."""
    found: defaultdict[str, list[Sums]] = defaultdict(list)
    for day in days:
        for key, sums in day.items():
            found[key].append(sums)
    return {key: added(found[key]) for key in sorted(found)}


def _figures(them: Mapping[str, Sums]) -> dict[str, Any]:
    return {key: sums.figures() for key, sums in them.items()}
