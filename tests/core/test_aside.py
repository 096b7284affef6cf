"""What fails is set aside, for longer each time, and what is everybody's is not."""

from __future__ import annotations

import pytest
import redis

from core.aside import MOST_SECONDS, Aside
from core.db import DatabaseDown
from core.errors import Unavailable
from core.metrics_dispatch import TASK_FAILURES


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def fails(aside: Aside[str], name: str) -> None:
    with aside.turn(name):
        raise ValueError("a bad row")


def test_one_that_fails_waits_longer_each_time_and_the_others_do_not() -> None:
    clock = Clock()
    aside: Aside[str] = Aside("dispatch", "lane", clock)
    waited = []
    for _ in range(9):
        fails(aside, "bad")
        assert aside.waits("bad")
        assert not aside.waits("good")
        began = clock.now
        while aside.waits("bad"):
            clock.now += 0.5
        waited.append(clock.now - began)
    assert waited == [1, 2, 4, 8, 16, 32, MOST_SECONDS, MOST_SECONDS, MOST_SECONDS]


def test_what_fails_for_days_goes_on_being_set_aside() -> None:
    clock = Clock()
    aside: Aside[str] = Aside("dispatch", "lane", clock)
    for _ in range(1100):
        fails(aside, "bad")
        clock.now += MOST_SECONDS
    fails(aside, "bad")
    assert aside.waits("bad")


def test_a_good_turn_forgets_the_failures() -> None:
    clock = Clock()
    aside: Aside[str] = Aside("dispatch", "lane", clock)
    for _ in range(3):
        fails(aside, "bad")
    with aside.turn("bad"):
        pass
    assert not aside.waits("bad")
    fails(aside, "bad")
    clock.now += 1
    assert not aside.waits("bad")


def test_each_failure_is_counted_for_the_task() -> None:
    counter = TASK_FAILURES.labels("dispatch")
    before = counter._value.get()
    fails(Aside("dispatch", "lane"), "bad")
    assert counter._value.get() == before + 1


@pytest.mark.parametrize("outage", [Unavailable("away"), DatabaseDown(), redis.ConnectionError("away")])
def test_a_store_that_is_away_sets_nothing_aside(outage: Exception) -> None:
    aside: Aside[str] = Aside("dispatch", "lane")
    with pytest.raises(type(outage)), aside.turn("good"):
        raise outage
    assert not aside.waits("good")
