"""Group commit: nothing is lost or written twice when the store fails, and writers share transactions."""

import threading

import psycopg
import pytest

from core.db import DatabaseDown
from core.dispatch.recorder import Recorder


def test_outcomes_that_arrive_during_a_flush_share_the_next_one() -> None:
    # given: a first flush that is held up
    written: list[list[int]] = []
    held, entered = threading.Event(), threading.Event()

    def write(outcomes: list[int]) -> None:
        entered.set()
        held.wait(5)
        written.append(outcomes)

    recorder: Recorder[int] = Recorder(write)
    recorder.put(0)
    assert entered.wait(5)
    # when: more arrive meanwhile
    for number in range(1, 50):
        recorder.put(number)
    held.set()
    assert recorder.drain(5)
    # then
    assert written == [[0], list(range(1, 50))]


def test_outcomes_of_another_key_do_not_wait_for_a_flush() -> None:
    # given: a flush of key 0 that is held up, and more of that key behind it
    written: list[list[int]] = []
    held, entered = threading.Event(), threading.Event()

    def write(outcomes: list[int]) -> None:
        if outcomes == [0]:
            entered.set()
            held.wait(5)
        written.append(outcomes)

    recorder: Recorder[int] = Recorder(write, key=lambda number: number % 2, threads=2)
    recorder.put(0)
    assert entered.wait(5)
    recorder.put(2)
    # when
    assert recorder.commit(1, timeout_seconds=5)
    # then: it was written, and nothing else of the first key
    assert written == [[1]]
    held.set()
    assert recorder.drain(5)
    assert written == [[1], [0], [2]]


def test_a_store_that_is_away_is_waited_for() -> None:
    written: list[int] = []
    failures = iter([DatabaseDown(), DatabaseDown()])

    def write(outcomes: list[int]) -> None:
        for error in failures:
            raise error
        written.extend(outcomes)

    recorder: Recorder[int] = Recorder(write)
    assert recorder.commit(7, timeout_seconds=10)
    assert written == [7]


def test_one_outcome_that_can_never_be_written_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.dispatch.recorder.RETRY_SECONDS", (0.001,))
    written: list[int] = []

    def write(outcomes: list[int]) -> None:
        if 13 in outcomes:
            raise ValueError("no")
        written.extend(outcomes)

    recorder: Recorder[int] = Recorder(write)
    for number in range(20):
        recorder.put(number)
    assert recorder.drain(10)
    assert sorted(written) == [number for number in range(20) if number != 13]


def test_what_is_not_storable_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # given: a wait that nobody would live to see
    monkeypatch.setattr("core.dispatch.recorder.RETRY_SECONDS", (3600.0,) * 5)
    written: list[int] = []

    def write(outcomes: list[int]) -> None:
        if 13 in outcomes:
            raise psycopg.DataError
        written.extend(outcomes)

    recorder: Recorder[int] = Recorder(write, instead=lambda number: -number if number > 0 else None)
    # when
    for number in range(20):
        recorder.put(number)
    # then: the others are written, and what stands for it
    assert recorder.drain(10)
    assert sorted(written) == sorted([-13, *(number for number in range(20) if number != 13)])


def test_a_commit_that_takes_too_long_says_so_and_goes_on() -> None:
    held = threading.Event()
    recorder: Recorder[int] = Recorder(lambda outcomes: held.wait(5))
    assert not recorder.commit(1, timeout_seconds=0.05)
    held.set()
    assert recorder.drain(5)


def test_a_refusal_after_a_long_outage_does_not_cost_the_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    # given: a database that was away for so long that as many refusals would have cost the outcome
    monkeypatch.setattr("core.dispatch.recorder.RETRY_SECONDS", (0.001,) * 3)
    written: list[int] = []
    failures = iter([*[DatabaseDown()] * 20, ValueError("a deadlock, say")])

    def write(outcomes: list[int]) -> None:
        for error in failures:
            raise error
        written.extend(outcomes)

    recorder: Recorder[int] = Recorder(write)
    # when
    recorder.put(7)
    # then
    assert recorder.drain(10)
    assert written == [7]


def test_one_transaction_takes_no_more_bytes_than_the_server_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # given: outcomes that wait while a flush is held up, each too large to go with two others
    monkeypatch.setattr("core.dispatch.recorder.MAX_FLUSH_BYTES", 100)
    written: list[list[int]] = []
    held, entered = threading.Event(), threading.Event()

    def write(outcomes: list[int]) -> None:
        entered.set()
        held.wait(5)
        written.append(outcomes)

    recorder: Recorder[int] = Recorder(write, size=lambda number: number)
    recorder.put(0)
    assert entered.wait(5)
    # when
    for number in (40, 50, 60, 1000, 10, 20):
        recorder.put(number)
    held.set()
    # then: in their order, and one that is too large goes alone
    assert recorder.drain(5)
    assert written == [[0], [40, 50], [60], [1000], [10, 20]]


def test_an_outcome_that_is_refused_each_time_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.dispatch.recorder.RETRY_SECONDS", (0.001,))
    written: list[str] = []

    def write(outcomes: list[str]) -> None:
        if "unstorable" in outcomes:
            raise ValueError("no")
        written.extend(outcomes)

    recorder: Recorder[str] = Recorder(write, instead=lambda outcome: f"not {outcome}")
    recorder.put("unstorable")
    assert recorder.drain(10)
    assert written == ["not unstorable"]
