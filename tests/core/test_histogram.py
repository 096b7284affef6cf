"""Histograms: percentiles within the stated error, whatever was added up where."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import db
from core.histogram import LAST, RELATIVE_ERROR, Histogram

durations = st.lists(st.floats(1.0, 4e6), min_size=1, max_size=200)


def _of(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(durations, st.lists(st.floats(0.0, 1.0), min_size=1, max_size=4).map(sorted))
def test_percentiles_are_within_the_stated_error(values: list[float], shares: list[float]) -> None:
    for share, found in zip(shares, _of(values).percentiles(shares), strict=True):
        exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
        assert found is not None
        assert abs(found - exact) <= (RELATIVE_ERROR + 1e-9) * exact


@given(durations, durations)
def test_stored_numbers_add_up_as_histograms_do(one: list[float], other: list[float]) -> None:
    added = int(_of(one).stored()) + int(_of(other).stored())
    assert Histogram.of(str(added)).counts == _of(one + other).counts


def test_what_is_out_of_range_is_counted_at_its_ends() -> None:
    histogram = _of([0.0, 0.4, 1.0, 1e12])
    assert histogram.counts == {0: 3, LAST: 1}
    assert Histogram().percentiles([0.5, 0.9]) == [None, None]
    assert Histogram.of(Histogram().stored()).total == 0


@pytest.mark.usefixtures("database_url")
def test_postgresql_adds_them_up() -> None:
    values = [float(3**power) for power in range(14)]
    with db.connection() as connection:
        row = connection.execute(
            "SELECT sum(h)::text AS sum FROM unnest(%s::numeric[]) AS h",
            ([_of([value, 7.0]).stored() for value in values],),
        ).fetchone()
    assert row is not None
    assert Histogram.of(row["sum"]).counts == _of(values + [7.0] * 14).counts


@given(durations)
def test_the_mean_is_within_the_stated_error(values: list[float]) -> None:
    mean = _of(values).mean()
    assert mean is not None
    assert abs(mean - sum(values) / len(values)) <= (RELATIVE_ERROR + 1e-9) * sum(values) / len(values)


def test_nothing_has_no_mean() -> None:
    assert Histogram().mean() is None
