"""Permits taken ahead: fewer round trips for calls that follow closely, and the same accounts in the end."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
import redis

from core.errors import OverLimit
from core.limits import Configured, Limiter, LimitKey, Meter, keys
from core.limits.ahead import Ahead
from launcher.client import wait_until

_FREE = Configured()


class _Counting(Limiter):
    """Counts how often it asks Redis for a live call."""

    def __init__(self, client: redis.Redis, **options) -> None:
        super().__init__(client, **options)
        self.asked = 0

    def _ask(self, *arguments):
        self.asked += 1
        return super()._ask(*arguments)


@pytest.fixture
def store(redis_url) -> Iterator[redis.Redis]:
    with redis.Redis(connection_pool=redis.BlockingConnectionPool.from_url(redis_url, max_connections=8)) as client:
        yield client


@pytest.fixture
def limiter(store) -> _Counting:
    made = _Counting(store)
    made.feedback.start()
    return made


def _key() -> LimitKey:
    return LimitKey(uuid4(), "gpt-4o")


def _calls(limiter: Limiter, key: LimitKey, count: int, configured: Configured = _FREE, tokens=(10, 10)) -> None:
    for _ in range(count):
        limiter.acquire(key, configured, *tokens, timeout_seconds=10).release()


def _until_all_is_back(limiter: Limiter, key: LimitKey) -> None:
    wait_until(lambda: limiter.state(key.connection_id)["live_in_flight"] == 0, 30)


def _stored(store: redis.Redis, key: LimitKey, field: str) -> float:
    return float(store.hget(keys.of_family(key), field) or 0)


def test_calls_that_follow_closely_ask_for_several_at_once(limiter, store):
    key = _key()
    _calls(limiter, key, 400)
    # all that started is counted, and what was taken ahead and not used is given back
    assert limiter.asked < 300
    _until_all_is_back(limiter, key)
    assert _stored(store, key, "taken") == 400


def test_the_first_calls_ask_each_for_itself(limiter):
    key = _key()
    _calls(limiter, key, 10)
    assert limiter.asked == 10


def test_nothing_is_taken_ahead_where_nobody_gives_it_back(store):
    limiter = _Counting(store)
    _calls(limiter, _key(), 200)
    assert limiter.asked == 200


@pytest.mark.parametrize(
    "configured",
    [
        pytest.param(Configured(max_concurrency=2), id="two slots"),
        pytest.param(Configured(requests_per_minute=120), id="a bucket of one request"),
        pytest.param(Configured(tokens_per_minute=2400), id="a bucket of twenty tokens, of which a call takes all"),
    ],
)
def test_where_a_limit_is_tight_each_call_asks_for_itself(limiter, configured):
    key = _key()
    free = LimitKey(key.connection_id, "free")
    _calls(limiter, free, 300)
    # (as close on each other as those before)
    limiter.feedback._ahead._paces[key] = limiter.feedback._ahead._paces[free]
    before = limiter.asked
    _calls(limiter, key, 3, configured)
    assert limiter.asked - before >= 3
    assert limiter.feedback.wanted_ahead(key) > 0


def test_a_call_of_another_size_settles_the_difference(store):
    # given time that stands still, and a permit for a call of 1,000 tokens in and 1,000 out
    limiter, key, configured = _still(store), _key(), Configured(tokens_per_minute=60_000_000)
    _calls(limiter, key, 1, configured, (1000, 1000))
    _keep(limiter, key, configured, (1000, 1000))
    before = _level(limiter, key)
    # when one of 400 and 100 uses it
    _calls(limiter, key, 1, configured, (400, 100))
    limiter.feedback.flush()
    # then Redis was not asked, and told of what it does not take
    assert limiter.asked == 1
    assert _level(limiter, key) == pytest.approx(before + 600 + 900)


def test_what_is_kept_is_for_the_limits_that_the_owner_set():
    key = _key()
    ahead = Ahead()
    ahead.keep(key, _FREE, 10, 10, 2, "")
    assert ahead.use(key, Configured(requests_per_minute=5), 10, 10) is None
    assert ahead.use(key, _FREE, 20, 20) is not None
    assert ahead.use(key, _FREE, 21, 10) is None
    assert ahead.use(key, _FREE, 10, 21) is None
    assert ahead.use(key, _FREE, 0, 0) is not None
    assert ahead.use(key, _FREE, 10, 10) is None


@pytest.mark.parametrize(
    "bad_news",
    [
        pytest.param(lambda feedback, key: feedback.penalise(key, 30.0), id="429"),
        pytest.param(lambda feedback, key: feedback.failure(key), id="5xx"),
    ],
)
def test_what_was_taken_ahead_goes_back_on_bad_news(store, bad_news):
    limiter, key = _still(store), _key()
    _calls(limiter, key, 1)
    _keep(limiter, key, _FREE, (10, 10))
    bad_news(limiter.feedback, key)
    assert not limiter.feedback.use_ahead(key, _FREE, 10, 10, Meter())
    limiter.feedback.flush()
    assert limiter.state(key.connection_id)["live_in_flight"] == 0


def test_a_connection_that_rests_lets_nobody_pass_on_a_permit_from_before(store):
    limiter, key = _still(store), _key()
    _calls(limiter, key, 1)
    _keep(limiter, key, _FREE, (10, 10))
    limiter.feedback.penalise(key, 30.0)
    limiter.feedback.flush()
    with pytest.raises(OverLimit):
        limiter.acquire(key, _FREE, 10, 10, timeout_seconds=1)


def _still(store: redis.Redis) -> _Counting:
    """A limiter whose time stands still, and that tells Redis nothing by itself."""
    return _Counting(store, clock=lambda: 1_000_000.0)


def _keep(limiter: Limiter, key: LimitKey, configured: Configured, tokens: tuple[int, int]) -> None:
    """One permit for a call of so many tokens, as if it had been granted ahead."""
    limiter.feedback.asking(key.connection_id)
    limiter.feedback.asked(key.connection_id, granted=1)
    limiter.feedback.keep_ahead(key, configured, *tokens, 1, "")


def _level(limiter: Limiter, key: LimitKey) -> float:
    return limiter.state(key.connection_id)["families"][key.family]["level"]["tokens"]
