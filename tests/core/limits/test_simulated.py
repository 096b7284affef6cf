"""A batch against a provider of 3,000 a minute: the quota is used, and not overrun, whatever the provider is like."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from core.limits import Configured
from tests.core.limits.simulation import FixedWindow, Simulation, SlidingWindow, TokenBucket, overrun

LIMIT = 3000
CONFIGURED = Configured(LIMIT)
LEARN = Configured()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def use(done_at: float, rows: int) -> float:
    return rows / done_at * 60 / LIMIT


@pytest.mark.parametrize(
    "new_provider",
    [lambda: TokenBucket(LIMIT), lambda: TokenBucket(LIMIT, 1), lambda: SlidingWindow(LIMIT)],
    ids=["minute", "second", "sliding"],
)
@pytest.mark.parametrize(("configured", "most_refused"), [(CONFIGURED, 0.001), (LEARN, 0.01)], ids=["set", "learned"])
def test_the_quota_is_used_and_not_overrun(client, new_provider, configured, most_refused):
    outcome = Simulation(client, new_provider(), configured).run(6000)
    assert use(outcome.done_at, 6000) >= 0.98
    assert outcome.refused_share <= most_refused
    assert overrun(outcome.batch_started, LIMIT) <= LIMIT / 60


@pytest.mark.parametrize("kind", ["second", "sliding"])
def test_a_lowered_limit_is_followed(client, kind):
    provider = TokenBucket(LIMIT, 1) if kind == "second" else SlidingWindow(LIMIT)
    simulation = Simulation(client, provider, LEARN)
    simulation.at(20, lambda: setattr(provider, "per_minute", 1500))
    outcome = simulation.run(2500)
    assert outcome.refused_share <= 0.02
    assert outcome.done_at <= 150


def test_a_raised_limit_is_followed(client):
    provider = TokenBucket(1500)
    simulation = Simulation(client, provider, LEARN)
    simulation.at(20, lambda: setattr(provider, "per_minute", LIMIT))
    outcome = simulation.run(2500)
    assert outcome.refused == 0
    assert outcome.done_at <= (20 + 2000 / 50) * 1.03


def test_somebody_else_on_the_same_key_is_made_room_for(client):
    provider = TokenBucket(LIMIT, 5)
    simulation = Simulation(client, provider, LEARN)

    def take_away() -> None:
        provider.admit(simulation.clock.now)
        simulation.at(1 / 25, take_away)

    simulation.at(0, take_away)
    outcome = simulation.run(1500)
    assert outcome.refused_share <= 0.05
    assert outcome.done_at <= 120


@pytest.mark.parametrize(
    ("kind", "retry_after", "latency", "processes", "most_refused"),
    [
        (lambda: TokenBucket(LIMIT, 1), False, 0.5, 1, 0.004),
        (lambda: TokenBucket(LIMIT, 10), True, 2.0, 4, 0.012),
        (lambda: FixedWindow(LIMIT), True, 0.5, 1, 0.05),
    ],
    ids=["a second", "ten seconds", "by the minute"],
)
def test_without_headers_429s_find_the_rate(client, kind, retry_after, latency, processes, most_refused):
    # given a provider that names no limit
    simulation = Simulation(
        client,
        kind(),
        LEARN,
        headers=False,
        retry_after=retry_after,
        latency_seconds=latency,
        processes=processes,
    )
    # when a batch runs for three and a half minutes
    outcome = simulation.run(10**9, seconds=200)
    # then its limit is used, and few calls were needed to find it
    settled = [at for at in outcome.admitted_at if at >= 80]
    assert len(settled) / (LIMIT / 60 * 120) >= 0.97
    assert sum(at >= 80 for at in outcome.refused_at) / len(settled) <= 0.01
    assert outcome.refused_share <= most_refused


def test_a_provider_that_counts_by_the_minute_and_does_not_say_so_is_asked_seldom(client):
    # given a provider that takes nothing more until the next minute begins, and names neither limit nor time
    simulation = Simulation(client, FixedWindow(600), LEARN, headers=False)
    # when
    outcome = simulation.run(10**9, seconds=440)
    # then its limit is used, and after the first minutes hardly a call is refused
    settled = [at for at in outcome.admitted_at if at >= 80]
    assert len(settled) / (600 / 60 * 360) >= 0.98
    assert sum(at >= 80 for at in outcome.refused_at) / len(settled) <= 0.01


def test_a_low_limit_that_headers_name_is_used(client):
    # given a provider that enforces sixty a minute as one a second, of which nothing is ever left
    simulation = Simulation(client, TokenBucket(60, 1), LEARN)
    outcome = simulation.run(10**9, seconds=280)
    settled = sum(at >= 80 for at in outcome.admitted_at)
    assert settled / 200 >= 0.93
    assert not [at for at in outcome.refused_at if at >= 80]


@pytest.mark.parametrize(("factor", "seconds"), [(0.5, 5.0), (2.0, 90.0)], ids=["lowered", "raised"])
def test_without_headers_a_changed_limit_is_found(client, factor, seconds):
    # given a provider whose limit changes after a minute
    provider = TokenBucket(LIMIT, 1)
    simulation = Simulation(client, provider, LEARN, headers=False)
    simulation.at(60, lambda: setattr(provider, "per_minute", LIMIT * factor))
    # when the time to find that out has passed
    outcome = simulation.run(10**9, seconds=190)
    since = 60 + seconds
    # then the new one is used
    settled = [at for at in outcome.admitted_at if at >= since]
    assert len(settled) / (LIMIT / 60 * factor * (190 - since)) >= 0.97
    assert outcome.refused_share <= 0.01


def test_live_calls_do_not_notice_the_batch(client):
    simulation = Simulation(client, TokenBucket(LIMIT), CONFIGURED)
    simulation.live(10)
    outcome = simulation.run(1500)
    assert outcome.refused == 0
    assert outcome.p95_live_wait() == 0
    assert outcome.live_over_limit == 0
    assert use(outcome.done_at, len(outcome.batch_started) + len(outcome.live_waits)) >= 0.97


def test_live_calls_do_not_notice_the_batch_with_few_slots(client):
    simulation = Simulation(client, None, Configured(None, None, 20), headers=False)
    simulation.live(4)
    outcome = simulation.run(800)
    assert outcome.p95_live_wait() <= 0.1
    assert outcome.done_at <= 800 / 18 * 0.5 * 1.4


def test_a_batch_keeps_its_share_under_too_much_live_traffic(client):
    simulation = Simulation(client, TokenBucket(LIMIT), CONFIGURED)
    simulation.live(55)
    outcome = simulation.run(10_000, seconds=40)
    assert outcome.refused == 0
    assert 0.08 <= len(outcome.batch_started) / (LIMIT * 40 / 60) <= 0.2
    assert len(outcome.live_waits) >= 0.85 * LIMIT * 40 / 60


def test_a_dead_provider_is_left_alone_and_found_again(client):
    simulation = Simulation(client, TokenBucket(LIMIT), CONFIGURED, down=lambda now: 5 < now < 30)
    outcome = simulation.run(1500)
    assert outcome.calls - 1500 <= 60
    assert outcome.done_at <= 30 + 20 + 1500 / 50
