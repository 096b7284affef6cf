"""The scripts' arithmetic, on fakeredis, in a time that the tests move."""

from __future__ import annotations

from uuid import uuid4

import fakeredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import OverLimit, Unavailable
from core.limits import Configured, Limiter, LimitKey, family
from core.limits.types import CONCURRENCY, FIRST_ANSWERS, LIVE, PROVIDER_DOWN, REQUESTS, RETRY_AFTER, TOKENS
from core.providers.types import LimitReading, Usage
from tests.core.limits.simulation import START, Clock, overrun

SMALL = [(10, 10)] * 500


class Bench:
    """A limiter on a fake Redis whose time the test moves; live calls that wait move it too."""

    def __init__(self, name: str = "gpt-4o") -> None:
        self.clock = Clock()
        self.server = fakeredis.FakeServer()
        self.client = fakeredis.FakeRedis(server=self.server)
        self.limiter = Limiter(self.client, clock=self.clock, sleep=self.pass_time)
        self.key = LimitKey(uuid4(), name)

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    def take(self, configured: Configured, rows=SMALL, *, in_flight: int = 0):
        return self.limiter.take(self.key, configured, rows, in_flight=in_flight)

    def live(self, configured: Configured, *, timeout_seconds: float = 0.0):
        return self.limiter.acquire(self.key, configured, 10, 10, timeout_seconds=timeout_seconds)

    def told(self, *, good=0, failures=0, refused=0, retry_after=None, readings=()) -> None:
        feedback = self.limiter.feedback
        for _ in range(good):
            feedback.success(self.key)
        for _ in range(failures):
            feedback.failure(self.key)
        for _ in range(refused):
            feedback.penalise(self.key, retry_after)
        feedback.observe(self.key, list(readings))
        feedback.flush()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def reading(limit: int, remaining: int | None = None, kind: str = "requests") -> LimitReading:
    return LimitReading(kind=kind, limit=limit, remaining=remaining, reset_seconds=None)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4-0613", "gpt-4"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", "gpt-4o-mini"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("claude-opus-4-1", "claude-opus-4"),
        ("claude-3-5-sonnet-20241022", "claude-3-5-sonnet"),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet"),
        ("Llama-3.1-70B", "llama-3.1-70b"),
        ("", ""),
    ],
)
def test_snapshots_share_a_family(model, expected):
    assert family(model) == expected


@given(st.text(max_size=300))
def test_a_family_is_its_own_family(model):
    assert family(family(model)) == family(family(family(model)))
    assert len(family(model)) <= 128


def test_a_lost_state_starts_with_one_request_never_with_a_minute(bench):
    configured = Configured(3000)
    assert bench.take(configured).granted == 1
    bench.pass_time(60)
    bench.take(configured)
    bench.client.flushall()
    assert bench.take(configured).granted == 1


def test_the_grant_says_how_long_and_what_for(bench):
    first = bench.take(Configured(60))
    assert (first.granted, first.waiting_for) == (1, REQUESTS)
    bench.pass_time(first.wait_seconds - 0.01)
    assert bench.take(Configured(60)).granted == 0
    bench.pass_time(0.02)
    assert bench.take(Configured(60)).granted == 1


def test_tokens_are_reserved_and_given_back(bench):
    configured = Configured(None, 60_000)
    rows = [(100, 400)] * 10
    first = bench.take(configured, rows)
    assert (first.granted, first.waiting_for) == (1, TOKENS)
    for _ in range(first.granted):
        bench.limiter.feedback.settle(bench.key, (100, 400), None)
    bench.limiter.feedback.flush()
    assert bench.take(configured, rows).granted == 1


def test_a_row_larger_than_the_bucket_starts_and_is_paid_off(bench):
    configured = Configured(None, 60_000)
    assert bench.take(configured, [(30_000, 0)] * 2).granted == 1
    later = bench.take(configured, [(1, 0)])
    assert later.granted == 0
    assert later.wait_seconds == pytest.approx(29.65, abs=0.5)


def test_a_call_that_asks_for_more_than_a_minutes_limit_holds_up_no_more_than_a_minute(bench):
    configured = Configured(None, 60_000)
    assert bench.take(configured, [(10, 2_000_000_000)]).granted == 1
    later = bench.take(configured, [(1, 0)])
    assert (later.granted, later.waiting_for) == (0, TOKENS)
    assert later.wait_seconds == pytest.approx(60, abs=0.5)


def test_output_that_was_asked_for_and_not_produced_is_not_given_back_where_it_counts_up_front(bench):
    configured = Configured(None, 60_000)
    bench.take(configured, [(1000, 9000)])
    level = bench.limiter.state(bench.key.connection_id)["families"]["gpt-4o"]["level"]["tokens"]
    bench.limiter.feedback.settle_many([(bench.key, (1000, 9000), Usage(input_tokens=600, output_tokens=10))])
    bench.limiter.feedback.flush()
    after = bench.limiter.state(bench.key.connection_id)["families"]["gpt-4o"]["level"]["tokens"]
    assert after - level == pytest.approx(400)


def test_anthropic_output_counts_as_produced():
    bench = Bench("claude-sonnet-4")
    readings = [
        reading(1000, 900),
        reading(600_000, 600_000, "input_tokens"),
        reading(240_000, 240_000, "output_tokens"),
    ]
    bench.told(good=1, readings=readings)
    for _ in range(40):
        bench.limiter.feedback.settle(bench.key, (100, 4000), Usage(input_tokens=100, output_tokens=40))
        bench.told(good=1, readings=readings)
        bench.pass_time(1)
    # 1 % of what rows ask for is produced: the requests bound, not the output.
    assert bench.take(Configured(), [(100, 4000)] * 100).waiting_for == REQUESTS


def test_cached_input_does_not_count_for_anthropic():
    bench = Bench("claude-sonnet-4")
    bench.told(good=1, readings=[reading(60_000, 60_000, "input_tokens")])
    bench.take(Configured(), [(5000, 10)])
    before = bench.limiter.state(bench.key.connection_id)["families"]["claude-sonnet-4"]["level"]["input_tokens"]
    bench.limiter.feedback.settle(bench.key, (5000, 10), Usage(input_tokens=5000, cached_tokens=4000, output_tokens=1))
    bench.limiter.feedback.flush()
    after = bench.limiter.state(bench.key.connection_id)["families"]["claude-sonnet-4"]["level"]["input_tokens"]
    assert after - before == pytest.approx(4000)


def test_nothing_known_starts_slowly_and_doubles_with_answers(bench):
    first = bench.take(Configured())
    assert (first.granted, first.waiting_for) == (32, FIRST_ANSWERS)
    assert bench.take(Configured(), in_flight=32).granted == 0
    bench.told(good=32)
    assert bench.take(Configured(), in_flight=0).granted == 64


def test_headers_end_the_slow_start(bench):
    bench.take(Configured())
    bench.told(good=1, readings=[reading(10_000_000, 10_000_000)])
    assert bench.take(Configured()).granted == 500


def test_the_tighter_of_configured_and_learned_holds(bench):
    bench.told(good=1, readings=[reading(60, 60)])
    bench.pass_time(10)
    assert bench.take(Configured(3000)).granted == 1
    bench.told(good=1, readings=[reading(6000, 6000)])
    bench.pass_time(10)
    assert bench.take(Configured(3000)).granted == 24


def test_what_the_provider_says_is_left_bounds_what_starts(bench):
    bench.told(good=1, readings=[reading(3000, 2000)])
    bench.pass_time(10)
    bench.told(good=1, readings=[reading(3000, 3)])
    assert bench.take(Configured()).granted == 3


def test_retry_after_stops_batch_and_live(bench):
    configured = Configured(3000)
    bench.told(refused=5, retry_after=7.0)
    waiting = bench.take(configured)
    assert (waiting.granted, waiting.waiting_for) == (0, RETRY_AFTER)
    assert waiting.wait_seconds == pytest.approx(7)
    with pytest.raises(OverLimit) as caught:
        bench.live(configured, timeout_seconds=5)
    assert caught.value.retry_after_seconds == pytest.approx(7)
    began = bench.clock.now
    with bench.live(configured, timeout_seconds=8):
        assert bench.clock.now - began == pytest.approx(7, abs=0.2)


def test_a_429_slows_and_the_rate_climbs_back_by_itself(bench):
    configured = Configured(3000)

    def in_ten_seconds() -> int:
        granted = 0
        for _ in range(100):
            bench.pass_time(0.1)
            granted += bench.take(configured).granted
        return granted

    bench.take(configured)
    assert in_ten_seconds() >= 496
    for _ in range(4):
        bench.told(refused=10, retry_after=1.0)
        bench.pass_time(2.1)
    slow = in_ten_seconds()
    for _ in range(4):
        in_ten_seconds()
    assert slow < 350
    assert in_ten_seconds() >= 496


def test_429s_of_one_moment_cut_once(bench):
    bench.take(Configured(6000))
    bench.told(refused=1, retry_after=0.1)
    for _ in range(20):
        bench.told(refused=100, retry_after=0.1)
    bench.pass_time(0.2)
    bench.take(Configured(6000))
    bench.pass_time(10)
    assert bench.take(Configured(6000)).granted >= 44


def test_only_429s_tell_the_limit_of_a_server_without_headers(bench):
    for _ in range(60):
        granted = bench.take(Configured()).granted
        bench.told(good=granted)
        bench.pass_time(0.1)
    bench.told(refused=1)
    bench.pass_time(2)
    assert bench.take(Configured()).granted <= 6


def _found_by_its_429s(bench) -> None:
    """Runs for ten seconds at forty a second, then into the limit, and rests."""
    for _ in range(100):
        bench.take(Configured(), SMALL[:4])
        bench.told(good=4)
        bench.pass_time(0.1)
    bench.told(refused=1)
    bench.pass_time(0.3)


def test_429s_of_calls_that_began_before_the_rest_are_no_news(bench):
    # given a rate that was found, and calls that go on at it
    _found_by_its_429s(bench)
    granted = bench.take(Configured()).granted
    bench.pass_time(0.1)
    # when calls that began before are refused late
    bench.limiter.feedback.penalise(bench.key, None, 0.5)
    bench.limiter.feedback.flush()
    # then nothing rests for them; for one that began since, it does
    granted += bench.take(Configured()).granted
    assert granted >= 1
    bench.limiter.feedback.penalise(bench.key, None, 0.05)
    bench.limiter.feedback.flush()
    assert bench.take(Configured()).waiting_for == RETRY_AFTER


def test_a_return_that_was_too_early_is_followed_by_single_calls_farther_apart(bench):
    # given a provider that has nothing left for half a minute
    _found_by_its_429s(bench)
    asked = []
    for _ in range(300):
        if granted := bench.take(Configured()).granted:
            asked.append((bench.clock.now, granted))
            bench.told(refused=granted)
        bench.pass_time(0.1)
    # then it is asked a few times, with one call each after the first
    assert 4 <= len(asked) <= 12
    assert {granted for _, granted in asked[1:]} == {1}
    assert asked[3][0] - asked[2][0] < asked[-1][0] - asked[-2][0]


def test_a_rate_that_nobody_uses_does_not_grow(bench):
    # given a rate that was found, and an hour in which a live call comes now and then
    _found_by_its_429s(bench)
    bench.take(Configured())
    for _ in range(120):
        bench.pass_time(30)
        bench.take(Configured(), SMALL[:1])
        bench.told(good=1)
    # when a batch comes
    granted = 0
    for _ in range(100):
        granted += bench.take(Configured()).granted
        bench.pass_time(0.1)
    # then it goes at about that rate
    assert 100 <= granted <= 450


def test_a_dead_provider_gets_probes_only_at_growing_intervals(bench):
    configured = Configured(6000)
    bench.take(configured)
    bench.told(failures=9)
    bench.pass_time(0.5)
    assert bench.take(configured).granted > 2
    bench.told(failures=1)
    closed = bench.take(configured)
    assert (closed.granted, closed.waiting_for) == (0, PROVIDER_DOWN)
    granted = []
    for _ in range(200):
        bench.pass_time(1)
        if count := bench.take(configured).granted:
            granted.append(count)
            bench.told(failures=count)
    assert set(granted) == {2}
    assert len(granted) <= 10
    assert bench.limiter.state(bench.key.connection_id)["breaker"] in ("open", "half-open")
    bench.told(good=1)
    assert bench.take(configured).granted > 2


def test_live_does_not_wait_long_for_a_dead_provider(bench):
    bench.told(failures=10)
    bench.pass_time(1.1)
    bench.take(Configured(60))
    with pytest.raises(OverLimit):
        bench.live(Configured(60), timeout_seconds=60)


def test_concurrency_is_shared_by_batch_and_live(bench):
    configured = Configured(None, None, 20)
    assert bench.take(configured, in_flight=0).granted == 20
    with pytest.raises(OverLimit):
        bench.live(configured)
    assert bench.take(configured, in_flight=10).waiting_for == LIVE
    bench.pass_time(1)
    bench.take(configured, [], in_flight=10)
    held = [bench.live(configured) for _ in range(10)]
    with pytest.raises(OverLimit):
        bench.live(configured)
    held[0].release()
    held[0].release()
    bench.limiter.feedback.flush()
    bench.live(configured)
    assert bench.limiter.state(bench.key.connection_id)["live_in_flight"] == 10


def test_batches_leave_slots_for_the_next_live_call(bench):
    configured = Configured(None, None, 20)
    bench.live(configured).release()
    bench.limiter.feedback.flush()
    assert bench.take(configured, in_flight=0).granted == 18
    bench.pass_time(30)
    assert bench.take(configured, in_flight=18).waiting_for == CONCURRENCY
    assert bench.take(configured, in_flight=18).granted == 2


def test_slots_of_a_dead_process_come_back(bench):
    configured = Configured(None, None, 5)
    other = Limiter(bench.client, clock=bench.clock, sleep=bench.pass_time)
    for _ in range(5):
        other.acquire(bench.key, configured, 1, 1, timeout_seconds=0)
    with pytest.raises(OverLimit):
        bench.live(configured)
    bench.pass_time(16)
    assert bench.live(configured)


def test_live_borrows_and_batches_pay_it_back(bench):
    configured = Configured(600)
    bench.take(configured)
    for _ in range(15):
        bench.live(configured)
    waiting = bench.take(configured)
    assert waiting.granted == 0
    bench.pass_time(2.5)
    assert bench.take(configured).granted >= 1


def test_neither_starves():
    bench = Bench()
    configured = Configured(600)
    live, batch = 0, 0
    for _ in range(600):
        bench.pass_time(0.1)
        for _ in range(3):
            try:
                bench.live(configured)
                live += 1
            except OverLimit:
                break
        batch += bench.take(configured).granted
    assert batch >= 50
    assert live >= 500
    assert live + batch <= 625


def test_an_unreachable_store_is_unavailable_and_feedback_is_silent(bench):
    bench.server.connected = False
    with pytest.raises(Unavailable):
        bench.take(Configured())
    with pytest.raises(Unavailable):
        bench.live(Configured())
    bench.told(good=1)


def test_every_key_ends_and_lies_on_one_node(bench):
    bench.take(Configured(60))
    bench.live(Configured(6000))
    bench.told(good=1, readings=[reading(100, 50)])
    names = bench.client.keys("*")
    assert len(names) == 4
    for name in names:
        assert 0 < bench.client.ttl(name) <= 86400
        assert f"{{{bench.key.connection_id}}}".encode() in name


@settings(max_examples=25, deadline=None)
@given(
    limit=st.integers(1, 4000),
    gaps=st.lists(st.floats(0, 20), min_size=5, max_size=60),
    asked=st.integers(1, 300),
    flush_at=st.integers(0, 100),
)
def test_no_minute_holds_more_than_the_limit_and_the_small_burst(limit, gaps, asked, flush_at):
    bench = Bench()
    times: list[float] = []
    for number, gap in enumerate(gaps):
        bench.pass_time(gap)
        # Half a burst may be lost with the state, never a minute.
        if number == flush_at:
            bench.client.flushall()
        granted = bench.take(Configured(limit), [(1, 1)] * asked).granted
        times += [bench.clock.now - START] * granted
    if times:
        burst = max(1, limit / 60 * 0.5)
        assert overrun(times, limit) <= burst + 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 20_000), st.floats(0, 5)), min_size=1, max_size=40))
def test_tokens_never_exceed_the_limit_by_more_than_a_burst_and_a_row(rows):
    bench = Bench()
    limit, used = 120_000, 0.0
    for input_tokens, output_tokens, gap in rows:
        bench.pass_time(gap)
        if bench.take(Configured(None, limit), [(input_tokens, output_tokens)]).granted:
            used += input_tokens + output_tokens
            elapsed = bench.clock.now - START
            assert used <= limit * elapsed / 60 + limit / 120 + input_tokens + output_tokens
