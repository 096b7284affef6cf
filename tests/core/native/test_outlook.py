"""What bounds rows in real time: what owners configured, what providers said, and what workers hold."""

from __future__ import annotations

from uuid import uuid4

import pytest

from core import db, limits
from core.dispatch import workers
from core.limits import Configured, LimitKey
from core.native import outlook
from core.providers.types import LimitReading, Usage
from core.settings import settings


@pytest.fixture
def redis_here(redis_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REDIS_URL", redis_url)
    settings.cache_clear()
    yield
    settings.cache_clear()


def _reading(kind: str, limit: int) -> LimitReading:
    return LimitReading(kind=kind, limit=limit, remaining=limit, reset_seconds=None)


def test_the_tighter_of_configured_and_learned_holds(redis_here: None) -> None:
    # given a provider that said its limits of one family
    connection_id = uuid4()
    limits.observe(LimitKey(connection_id, "gpt-4o"), [_reading("requests", 500), _reading("tokens", 200_000)])
    limits.flush()
    # when a snapshot of that family is looked at, with one tighter and one wider limit of the owner's
    found = outlook.limits_of(connection_id, "gpt-4o-2024-08-06", Configured(100, 900_000, 7))
    # then each is the tighter one
    assert (found.requests_per_minute, found.tokens_per_minute, found.max_concurrency) == (100, 200_000, 7)
    assert found.known
    assert found.output_ratio == 1.0
    # and another family is not concerned
    other = outlook.limits_of(connection_id, "gpt-5", Configured())
    assert not other.known
    assert other.max_concurrency == settings().default_max_concurrency


def test_claude_counts_what_it_produces(redis_here: None) -> None:
    connection_id = uuid4()
    key = LimitKey(connection_id, "claude-sonnet-4")
    before = outlook.limits_of(connection_id, "claude-sonnet-4-5", Configured())
    for _ in range(40):
        limits.observe(key, [_reading("output_tokens", 60_000)])
        limits.settle(key, (10, 1000), Usage(input_tokens=10, output_tokens=100))
        limits.success(key)
        limits.flush()
    found = outlook.limits_of(connection_id, "claude-sonnet-4-5", Configured())
    assert before.output_ratio == 0.5
    assert found.output_ratio == pytest.approx(0.1, abs=0.05)
    assert found.output_tokens_per_minute == 60_000
    # a tenth of a million tokens at 60,000 a minute
    assert 80 < found.seconds(1000, 10_000, 1_000_000, capacity=1000) < 200


def test_without_redis_the_owners_limits_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    settings.cache_clear()
    try:
        assert outlook.learned(uuid4()) is None
        found = outlook.limits_of(uuid4(), "gpt-4o", Configured(requests_per_minute=60))
    finally:
        settings.cache_clear()
    assert (found.requests_per_minute, found.tokens_per_minute) == (60, None)


def test_capacity_is_that_of_the_live_workers(database_url: str) -> None:
    with db.connection() as connection:
        assert outlook.capacity(connection) == settings().worker_concurrency
    first, second = workers.register(30), workers.register(12)
    with db.connection() as connection:
        assert outlook.capacity(connection) == 42
    workers.retire(first)
    workers.heartbeat(second, 0, draining=False)
    with db.connection() as connection:
        assert outlook.capacity(connection) == 12
