"""Greenlets that run one item after another."""

from __future__ import annotations

import logging
from collections.abc import Callable

import gevent
import gevent.event
import pytest

from workers.runners import Runners


def turn_until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        gevent.sleep(0)
    raise AssertionError("it did not come about in a thousand turns")


def test_items_run_beside_each_other_and_a_few_greenlets_are_kept() -> None:
    # given: more items than greenlets are kept, each waiting until all of them run
    running: list[int] = []
    go, ended = gevent.event.Event(), list[int]()

    def run(item: int) -> None:
        running.append(item)
        go.wait()
        ended.append(item)

    runners = Runners(run, keep=3)
    # when
    for item in range(10):
        runners.start(item)
    # then: none has run in the turn that started it
    assert running == []
    turn_until(lambda: running == list(range(10)))
    go.set()
    turn_until(lambda: len(ended) == 10)
    assert len(runners._idle) == 3


def test_a_kept_greenlet_runs_the_next_item() -> None:
    # given
    by: list[tuple[str, gevent.Greenlet]] = []
    runners: Runners[str] = Runners(lambda item: by.append((item, gevent.getcurrent())), keep=1)
    runners.start("first")
    turn_until(lambda: len(runners._idle) == 1)
    # when
    runners.start("second")
    runners.start("beside it")
    turn_until(lambda: len(by) == 3)
    # then
    found = dict(by)
    assert found["first"] is found["second"]
    assert found["beside it"] is not found["first"]


def test_an_error_of_one_item_is_logged_and_the_next_runs(caplog: pytest.LogCaptureFixture) -> None:
    # given
    ended: list[int] = []

    def run(item: int) -> None:
        ended.append(100 // item)

    runners = Runners(run, keep=1)
    # when
    with caplog.at_level(logging.ERROR):
        runners.start(0)
        turn_until(lambda: len(runners._idle) == 1)
    runners.start(4)
    turn_until(lambda: ended == [25])
    # then
    assert "ZeroDivisionError" in caplog.text


def test_what_wakes_an_idle_greenlet_without_an_item_runs_nothing() -> None:
    # given
    ended: list[int] = []
    runners: Runners[int] = Runners(ended.append, keep=1)
    runners.start(1)
    turn_until(lambda: len(runners._idle) == 1)
    # when
    gevent.get_hub().loop.run_callback(runners._idle[0].greenlet.switch)
    for _ in range(3):
        gevent.sleep(0)
    # then
    assert ended == [1]
    runners.start(2)
    turn_until(lambda: ended == [1, 2])
