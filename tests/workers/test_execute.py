"""What becomes of a row whose call was not made, or whose answer cannot be kept."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import gevent
import pytest

from core import limits, loaded_connections
from core.crypto import KeyProblem
from core.db import DatabaseDown
from core.dispatch import workers
from core.dispatch.record import Again, Ended
from core.dispatch.start import Started, start
from core.errors import NotFound
from core.ids import new_id
from core.providers.types import Usage
from core.settings import settings
from core.states import FailureReason
from tests.core.dispatch.world import World, check_counters, execute, leases, statuses, succeeded
from workers.execute import KEYLESS_SECONDS, Executor


def started() -> Started:
    ids = {name: new_id() for name in ("batch_id", "connection_id")}
    return Started(
        id=7,
        fence=3,
        created_at=datetime.now(UTC),
        provider="openai",
        model="gpt-4o-mini",
        body="{}",
        attempts=5,
        strikes=5,
        estimated_input=11,
        estimated_output=22,
        **ids,
    )


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (KeyProblem("no such key"), Again(id=7, fence=3, delay_seconds=KEYLESS_SECONDS, attempts=0, strike=False)),
        (DatabaseDown(), Again(id=7, fence=3, delay_seconds=1.0, attempts=0, strike=False)),
        (NotFound(), FailureReason.NOT_CONFIGURED),
    ],
)
def test_what_was_taken_for_a_call_that_is_not_made_is_given_back(
    monkeypatch: pytest.MonkeyPatch, error: Exception, outcome: Again | FailureReason
) -> None:
    # given: a row on its last strike, whose connection cannot be used here
    row = started()
    given_back: list[object] = []

    def load(connection_id: object) -> object:
        raise error

    monkeypatch.setattr(loaded_connections, "load", load)
    monkeypatch.setattr(limits, "settle", lambda *settled: given_back.append(settled))
    # when
    found = Executor(1)._outcome_or_why_not(row)
    # then: only a provider that is gone ends it
    assert (found.reason if isinstance(found, Ended) else found) == outcome
    assert given_back == [(limits.LimitKey(row.connection_id, "gpt-4o-mini"), (11, 22), None)]


@pytest.mark.usefixtures("database_url")
def test_an_answer_that_the_database_refuses_ends_its_row_and_is_not_paid_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given: two answers, one with more tokens than their column holds
    monkeypatch.setattr("core.dispatch.recorder.RETRY_SECONDS", (0.001,))
    world, executor = World(), Executor(10)
    batch_id = world.submit(2)
    answers = [succeeded(row) for row in world.run()]
    answers[0].usage = Usage(input_tokens=2**31)
    executor.in_hand = {answer.id: answer.fence for answer in answers}
    # when
    for answer in answers:
        executor._recorder.put(answer)
    assert executor._recorder.drain(20)
    # then
    assert statuses(batch_id) == {"failed": 1, "succeeded": 1}
    check_counters(batch_id)
    assert (leases(), executor.in_hand) == ([], {})


@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize("lived", [True, False])
def test_rows_whose_start_outlasted_the_workers_life_are_not_called(
    monkeypatch: pytest.MonkeyPatch, lived: bool
) -> None:
    # given: a worker whose start takes long, and who was taken for dead meanwhile
    monkeypatch.setattr(settings(), "worker_lease_seconds", 60.0)
    world, executor = World(), Executor(10)
    world.submit(1)
    executor.worker_id = workers.register(10)
    ((row_id, fence),) = world.claim()
    run: list[int] = []
    monkeypatch.setattr(executor, "_run", lambda row: run.append(row.id))

    def start_slowly(*arguments: Any) -> list[Started]:
        found = start(*arguments)
        monkeypatch.setattr(settings(), "worker_lease_seconds", 0.0)
        if not lived:
            execute("DELETE FROM worker WHERE id = %s", (arguments[0],))
        return found

    monkeypatch.setattr("workers.execute.start", start_slowly)
    # when
    executor.take(leases()[0]["created_at"], [(row_id, fence)], first=True)
    gevent.sleep(0)
    assert executor._recorder.drain(10)
    # then
    (lease,) = leases()
    assert (run == [row_id]) == lived
    assert (lease["call_started_at"] is not None) == lived
    assert lease["attempts"] == 0


def test_a_drain_waits_for_what_is_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    # given: a start whose answer is still to come
    executor = Executor(10)
    executor.worker_id = new_id()
    asked, answered = threading.Event(), threading.Event()

    def start(*arguments: object) -> list[Started]:
        asked.set()
        answered.wait(10)
        return []

    monkeypatch.setattr("workers.execute.start", start)
    taking = threading.Thread(target=lambda: executor.take(datetime.now(UTC), [(7, 3)], first=True))
    taking.start()
    assert asked.wait(10)
    # when
    ended: list[bool] = []
    draining = threading.Thread(target=lambda: ended.append(executor.drain(10)))
    draining.start()
    draining.join(0.2)
    # then
    assert draining.is_alive()
    answered.set()
    draining.join(10)
    taking.join(10)
    assert ended == [True]
