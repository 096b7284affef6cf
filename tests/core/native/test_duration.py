"""How long rows take in real time: each bound by itself, and the tightest of all."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from core.limits import Configured
from core.limits.tuning import PACE
from core.native.duration import TYPICAL_CALL_SECONDS, realtime_seconds
from tests.core.limits.simulation import Simulation

FREE: dict[str, Any] = {"capacity": 1_000_000}


@pytest.mark.parametrize(
    ("rows", "input_tokens", "output_tokens", "bounds", "expected"),
    [
        # nothing to do
        (0, 0, 0, FREE, 0),
        # fewer than fit at once: one call
        (10, 0, 0, FREE, TYPICAL_CALL_SECONDS),
        (100, 0, 0, {"capacity": 100, "seconds_per_call": 2.0}, 2),
        # in turns: the last call starts when the rows before it have ended
        (101, 0, 0, {"capacity": 100, "seconds_per_call": 2.0}, 2.02),
        (1000, 0, 0, {"capacity": 100, "seconds_per_call": 2.0}, 20),
        # the tighter of the workers and of the connection
        (1000, 0, 0, {"capacity": 100, "max_concurrency": 50, "seconds_per_call": 2.0}, 40),
        (1000, 0, 0, {"capacity": 50, "max_concurrency": 100, "seconds_per_call": 2.0}, 40),
        # each limit by itself
        (600, 0, 0, {**FREE, "requests_per_minute": 60}, 600 / PACE + 5),
        (600, 90_000, 30_000, {**FREE, "tokens_per_minute": 60_000}, 120 / PACE + 5),
        (600, 90_000, 30_000, {**FREE, "input_tokens_per_minute": 30_000}, 180 / PACE + 5),
        (600, 90_000, 30_000, {**FREE, "output_tokens_per_minute": 10_000}, 180 / PACE + 5),
        # the tightest of several
        (600, 90_000, 30_000, {**FREE, "requests_per_minute": 60, "tokens_per_minute": 60_000}, 600 / PACE + 5),
        (600, 90_000, 30_000, {"capacity": 1, "requests_per_minute": 60, "seconds_per_call": 3.0}, 1800),
    ],
)
def test_duration(rows: int, input_tokens: int, output_tokens: int, bounds: dict[str, Any], expected: float) -> None:
    assert realtime_seconds(rows, input_tokens, output_tokens, **bounds) == pytest.approx(expected)


@pytest.mark.parametrize(
    "bounds", [{"capacity": 0}, {"capacity": 9, "max_concurrency": 0}, {**FREE, "requests_per_minute": 0}]
)
def test_what_would_never_end_is_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="zero"):
        realtime_seconds(1, 1, 1, **bounds)


@given(
    rows=st.integers(0, 2_000_000),
    more=st.integers(1, 1000),
    tokens=st.integers(0, 10**9),
    limit=st.integers(1, 10**7),
    capacity=st.integers(1, 10_000),
)
def test_more_rows_take_no_less_and_tighter_limits_no_less(
    rows: int, more: int, tokens: int, limit: int, capacity: int
) -> None:
    took = realtime_seconds(rows, tokens, tokens, requests_per_minute=limit, capacity=capacity)
    assert realtime_seconds(rows + more, tokens, tokens, requests_per_minute=limit, capacity=capacity) >= took
    assert realtime_seconds(rows, tokens, tokens, requests_per_minute=limit + more, capacity=capacity) <= took
    assert realtime_seconds(rows, tokens, tokens, requests_per_minute=limit, capacity=capacity + more) <= took
    assert (
        realtime_seconds(rows, tokens, tokens, requests_per_minute=limit, tokens_per_minute=limit, capacity=capacity)
        >= took
    )


@pytest.mark.parametrize(
    "configured",
    [Configured(3000), Configured(None, 40_000), Configured(60_000, None, 20), Configured(3000, 30_000, 100)],
    ids=["requests", "tokens", "concurrency", "all"],
)
def test_the_limiter_takes_as_long(redis_url: str, configured: Configured) -> None:
    # given rows of 20 tokens whose calls take half a second, and a provider that is faster than what is configured
    rows = 1500
    with redis.Redis.from_url(redis_url) as client:
        took = Simulation(client, None, configured, latency_seconds=0.5).run(rows).done_at
    # when the time is foretold
    foretold = realtime_seconds(
        rows,
        10 * rows,
        10 * rows,
        requests_per_minute=configured.requests_per_minute,
        tokens_per_minute=configured.tokens_per_minute,
        max_concurrency=configured.max_concurrency,
        capacity=10_000,
        seconds_per_call=0.5,
    )
    # then it is met but for what the scheduler's ticks cost where each free slot waits for one
    assert foretold == pytest.approx(took, rel=0.15 if configured.max_concurrency == 20 else 0.03)
