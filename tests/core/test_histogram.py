"""Histograms: percentiles within the stated error, whatever was added up where."""

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.numeric import DecimalBinaryDumper

from core import db
from core.histogram import LAST, NOTHING, RELATIVE_ERROR, Counts, Histogram, added, counts_of, mean, percentiles

durations = st.lists(st.floats(1.0, 4e6), min_size=1, max_size=200)


def _of(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


def _sent(stored: int) -> bytes:
    """A stored number as PostgreSQL sends it."""
    return bytes(DecimalBinaryDumper(Decimal).dump(Decimal(stored)) or b"")


def _sparse(found: Counts) -> Counter[int]:
    return Counter({found.last - place: count for place, count in enumerate(found.counts) if count})


@given(durations, st.lists(st.floats(0.0, 1.0), min_size=1, max_size=4))
def test_percentiles_are_within_the_stated_error(values: list[float], shares: list[float]) -> None:
    counts = counts_of(_sent(int(_of(values).stored())))
    for share, found in zip(shares, percentiles(counts, shares), strict=True):
        exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
        assert found is not None
        assert abs(found - exact) <= (RELATIVE_ERROR + 1e-9) * exact


@given(durations, durations, st.sampled_from([1, 9_999, 10_001, 10**9]))
def test_stored_numbers_add_up_as_histograms_do(one: list[float], other: list[float], times: int) -> None:
    stored = [int(_of(values).stored()) * times for values in (one, other)]
    expected = Counter({bucket: count * times for bucket, count in _of(one + other).counts.items()})
    assert _sparse(counts_of(_sent(sum(stored)))) == expected
    assert _sparse(added(counts_of(_sent(number)) for number in stored)) == expected


def test_what_is_out_of_range_is_counted_at_its_ends() -> None:
    histogram = _of([0.0, 0.4, 1.0, 1e12])
    assert histogram.counts == {0: 3, LAST: 1}
    assert percentiles(counts_of(_sent(int(histogram.stored()))), [0.75])[0] == 1.0


def test_of_nothing_there_are_no_percentiles() -> None:
    assert percentiles(counts_of(_sent(int(Histogram().stored()))), [0.5, 0.9]) == [None, None]
    assert percentiles(NOTHING, [0.5]) == [None]


@pytest.mark.usefixtures("database_url")
def test_postgresql_adds_them_up() -> None:
    values = [float(3**power) for power in range(14)]
    with db.connection() as connection:
        row = connection.execute(
            "SELECT numeric_send(sum(h)) AS sum FROM unnest(%s::numeric[]) AS h",
            ([_of([value, 7.0]).stored() for value in values],),
            binary=True,
        ).fetchone()
    assert row is not None
    assert _sparse(counts_of(row["sum"])) == _of(values + [7.0] * 14).counts


@given(durations)
def test_the_mean_is_within_the_stated_error(values: list[float]) -> None:
    found = mean(counts_of(_sent(int(_of(values).stored()))))
    assert found is not None
    assert abs(found - sum(values) / len(values)) <= (RELATIVE_ERROR + 1e-9) * sum(values) / len(values)


def test_nothing_has_no_mean() -> None:
    assert mean(NOTHING) is None
