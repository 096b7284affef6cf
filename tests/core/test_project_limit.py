"""A project's limit of requests to the API: counted in Redis, in one round trip, and never in the way without it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from core import limits, project_limit
from core.identity import Principal
from core.project_limit import _window
from core.settings import settings


@pytest.fixture
def store(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setattr(project_limit, "_resting_until", 0.0)
    settings.cache_clear()
    with redis.Redis.from_url(redis_url) as client:
        yield client
    settings.cache_clear()


def a_project(limit: int | None) -> Principal:
    return Principal(uuid4(), uuid4(), uuid4(), limit)


def test_so_many_a_minute_and_no_more(store: redis.Redis) -> None:
    project, other = a_project(3), a_project(3)

    windows = [project_limit.hit(project) for _ in range(5)]

    assert [window.remaining for window in windows if window] == [2, 1, 0, 0, 0]
    assert [window.refused_seconds is None for window in windows if window] == [True, True, True, False, False]
    refused = windows[3]
    assert refused is not None
    assert refused.refused_seconds is not None
    # This minute has just begun: it has to end first.
    assert 50 < refused.refused_seconds <= 61
    assert 100 < refused.reset_seconds <= 120
    # and somebody else's count is his own
    theirs = project_limit.hit(other)
    assert theirs is not None
    assert theirs.remaining == 2


def test_callers_at_once_get_the_limit_together(store: redis.Redis) -> None:
    project = a_project(40)
    passed = []

    def ask() -> None:
        for _ in range(20):
            window = project_limit.hit(project)
            assert window is not None
            passed.append(window.refused_seconds is None)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert passed.count(True) == 40
    assert len(passed) == 80


def test_the_lower_of_both_limits_holds(store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_SERVICE_API_REQUESTS_PER_MINUTE", "100")
    settings.cache_clear()

    assert project_limit.limit_of(a_project(None)) == 100
    assert project_limit.limit_of(a_project(7)) == 7
    assert project_limit.limit_of(a_project(1000)) == 100


def test_one_round_trip_and_none_without_a_limit(store: redis.Redis) -> None:
    project_limit.hit(a_project(5))

    def commands() -> int:
        # INFO counts itself as well
        return int(store.info("stats")["total_commands_processed"])

    before = commands()
    assert project_limit.hit(a_project(None)) is None
    assert commands() == before + 1
    # Scripts count what they call, so their number is taken from the log of connections instead.
    calls = store.info("commandstats")["cmdstat_evalsha"]["calls"]
    asked = _asked_for_scripts(store)
    project_limit.hit(a_project(5))
    assert store.info("commandstats")["cmdstat_evalsha"]["calls"] == calls + 2
    assert _asked_for_scripts(store) == asked


def _asked_for_scripts(store: redis.Redis) -> int:
    """How often the server was asked whether it knows a script; other tests of this process may have asked."""
    return int(store.info("commandstats").get("cmdstat_script|exists", {"calls": 0})["calls"])


def test_a_server_that_has_forgotten_the_scripts_counts_right(store: redis.Redis) -> None:
    project = a_project(5)
    project_limit.hit(project)
    store.script_flush()

    window = project_limit.hit(project)

    assert window is not None
    assert window.remaining == 3


def test_without_redis_everybody_passes_and_it_is_left_alone(
    store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    settings.cache_clear()
    asked = []
    monkeypatch.setattr(project_limit.log, "warning", lambda *_: asked.append(1))

    assert [project_limit.hit(a_project(1)) for _ in range(10)] == [None] * 10
    assert asked == [1]


def test_while_redis_hangs_one_request_tries_and_the_others_pass(
    store: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a Redis that takes connections and says nothing, known to be away, its rest over
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        monkeypatch.setattr(limits, "_TIMEOUT_SECONDS", 0.3)
        settings.cache_clear()
        monkeypatch.setattr(project_limit, "_resting_until", 0.001)
        tried: list[object] = []
        trying = threading.Thread(target=lambda: tried.append(project_limit.hit(a_project(1))))
        trying.start()
        while project_limit._resting_until == 0.001:
            time.sleep(0.001)
        # when others come meanwhile, then they do not wait
        began = time.monotonic()
        assert [project_limit.hit(a_project(1)) for _ in range(100)] == [None] * 100
        assert time.monotonic() - began < 0.2
        assert trying.is_alive()
        trying.join()
        assert tried == [None]
    # and once it answers again, requests are counted
    monkeypatch.setenv("REDIS_URL", redis_url)
    settings.cache_clear()
    monkeypatch.setattr(project_limit, "_resting_until", 0.001)
    assert project_limit.hit(a_project(1)) is not None
    assert project_limit._resting_until == 0.0


@given(
    limit=st.integers(1, 1000),
    previous=st.integers(0, 1000),
    current=st.integers(0, 1000),
    elapsed=st.integers(0, 59_999),
)
def test_after_the_time_it_names_a_request_passes(limit: int, previous: int, current: int, elapsed: int) -> None:
    # given counters as the library leaves them, `elapsed` milliseconds into the minute
    previous, current = min(previous, limit), min(current, limit)
    fading = 60_000 - elapsed if previous else 0
    window = _window(limit, False, previous, fading, current, 120_000 - elapsed if current else 0)
    assert window.refused_seconds is not None
    later = window.refused_seconds * 1000 + 1

    # then, by the rule in the library's script, one more fits when that time is over
    if elapsed + later < 60_000:
        counted = int(previous * max(0, fading - later) / 60_000) + current
    else:
        counted = int(current * max(0.0, 120_000 - elapsed - later) / 60_000)
    assert counted + 1 <= limit
