"""Many callers at once against a real server: together they never get more than the limit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from uuid import UUID, uuid4

import pytest
import redis

from core.errors import OverLimit
from core.limits import Configured, Limiter, LimitKey


def _limiter(url: str) -> Limiter:
    return Limiter(redis.Redis(connection_pool=redis.BlockingConnectionPool.from_url(url, max_connections=8)))


def _hammer(url: str, connection_id: UUID, seconds: float, all_there, granted) -> None:
    limiter, key, sum_ = _limiter(url), LimitKey(connection_id, "gpt-4o"), 0
    # A process may take longer to start than it hammers.
    all_there.wait(60)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum_ += limiter.take(key, Configured(6000), [(1, 1)] * 50, in_flight=0).granted
    granted.put(sum_)


def test_processes_together_keep_the_rate(redis_url):
    # given a bucket of which nothing was taken yet, and three processes that begin at one moment
    context = multiprocessing.get_context("spawn")
    granted, all_there, connection_id, seconds = context.Queue(), context.Barrier(3), uuid4(), 2.0
    key = LimitKey(connection_id, "gpt-4o")
    began = time.monotonic()
    _limiter(redis_url).take(key, Configured(6000), [], in_flight=0)
    processes = [
        context.Process(target=_hammer, args=(redis_url, connection_id, seconds, all_there, granted)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    # when each takes all that it is given
    total = sum(granted.get(timeout=120) for _ in processes)
    took = time.monotonic() - began
    for process in processes:
        process.join()
    # then together it is the rate, and the half second that was saved up
    assert 50 <= total <= took * 100 + 51


def test_live_slots_are_never_exceeded_and_all_come_back(redis_url):
    limiter, key, configured = _limiter(redis_url), LimitKey(uuid4(), "gpt-4o"), Configured(None, None, 7)
    limiter.feedback.start()
    lock, held, most, done = threading.Lock(), [0], [0], [0]

    def caller() -> None:
        for _ in range(10):
            with limiter.acquire(key, configured, 1, 1, timeout_seconds=60):
                with lock:
                    held[0] += 1
                    most[0] = max(most[0], held[0])
                time.sleep(0.001)
                with lock:
                    held[0] -= 1
                    done[0] += 1

    threads = [threading.Thread(target=caller) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done[0] == 300
    assert 1 <= most[0] <= 7
    limiter.feedback.flush()
    assert limiter.state(key.connection_id)["live_in_flight"] == 0


def _hold_for_ever(url: str, connection_id: UUID, holding) -> None:
    limiter = _limiter(url)
    limiter.acquire(LimitKey(connection_id, "gpt-4o"), Configured(None, None, 1), 1, 1, timeout_seconds=0)
    holding.set()
    threading.Event().wait()


def test_the_slot_of_a_killed_process_comes_back(redis_url):
    context = multiprocessing.get_context("spawn")
    holding, connection_id = context.Event(), uuid4()
    process = context.Process(target=_hold_for_ever, args=(redis_url, connection_id, holding))
    process.start()
    assert holding.wait(30)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    limiter, key, configured = _limiter(redis_url), LimitKey(connection_id, "gpt-4o"), Configured(None, None, 1)
    with pytest.raises(OverLimit):
        limiter.acquire(key, configured, 1, 1, timeout_seconds=0)
    assert limiter.acquire(key, configured, 1, 1, timeout_seconds=30).waited_seconds <= 20


def test_scripts_are_sent_again_to_a_server_that_forgot_them(redis_url):
    limiter, key = _limiter(redis_url), LimitKey(uuid4(), "gpt-4o")
    with redis.Redis.from_url(redis_url) as client:
        for _ in range(2):
            limiter.take(key, Configured(60), [(1, 1)], in_flight=0)
            limiter.feedback.success(key)
            limiter.feedback.flush()
            client.script_flush()
        assert limiter.state(key.connection_id)["families"]["gpt-4o"]["waiting_for"] is not None
