"""Who leads: one scheduler, and another one soon when it dies, or when it only freezes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from core import db
from launcher.house import wait_until
from scheduler import leader
from tests.chaos.ground import Ground
from tests.e2e import batches

SILENT_SECONDS = 0.5


class Over(Exception):
    """The test is."""


@pytest.fixture
def standby(monkeypatch: pytest.MonkeyPatch, database_url: str) -> Iterator[Callable[[], threading.Event]]:
    """Starts to lead, or to stand by, in this process; gives the event that says which. Ends with the test."""
    over = threading.Event()
    started: list[threading.Thread] = []

    def sleep(seconds: float) -> None:
        if over.wait(seconds):
            raise Over

    monkeypatch.setattr(leader, "SILENT_SECONDS", SILENT_SECONDS)
    monkeypatch.setattr(leader, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(leader, "settings", lambda: SimpleNamespace(database_url=database_url))
    monkeypatch.setattr(leader, "time", SimpleNamespace(sleep=sleep))

    def run(leading: threading.Event) -> None:
        with suppress(Over):
            leader.lead(leading)

    def start() -> threading.Event:
        leading = threading.Event()
        started.append(threading.Thread(target=run, args=(leading,), daemon=True))
        started[-1].start()
        return leading

    yield start
    over.set()
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


def connect(url: str, name: str) -> psycopg.Connection:
    return psycopg.connect(url, autocommit=True, **{**db.CONNECT, "application_name": name})


def hold(connection: psycopg.Connection) -> None:
    assert connection.execute("SELECT pg_try_advisory_lock(%s)", (leader.LEADER_LOCK,)).fetchone() == (True,)


def test_a_silent_leader_is_replaced_and_its_locks_are_let_go(
    database_url: str, standby: Callable[[], threading.Event]
) -> None:
    # given: a leader that is frozen in the middle of a transaction, and an API that has nothing to do with it
    name = f"{leader.PROCESS}frozen"
    api, lock, other = (connect(database_url, who) for who in ("llm-service", name, name))
    hold(lock)
    other.execute("BEGIN")
    other.execute("LOCK TABLE batch")
    # when
    leading = standby()
    # then
    assert leading.wait(10)
    for dead in (lock, other):
        with pytest.raises(psycopg.OperationalError):
            dead.execute("SELECT 1")
    api.execute("SET lock_timeout = '5s'; UPDATE batch SET priority = priority")


def test_a_leader_that_speaks_goes_on_leading(database_url: str, standby: Callable[[], threading.Event]) -> None:
    with connect(database_url, f"{leader.PROCESS}alive") as lock:
        hold(lock)
        leading = standby()
        for _ in range(30):
            assert not leading.wait(SILENT_SECONDS / 10)
            lock.execute("SELECT 1")


@pytest.mark.e2e
def test_another_leads_within_ten_seconds_of_a_freeze_and_the_frozen_one_does_no_harm(
    server_directory: Path,
) -> None:
    # given: a leader in the middle of a batch, and one that stands by
    with Ground(server_directory / "leaders", workers=1, durable=False) as ground:

        def submitted(name: str, count: int) -> str:
            return str(batches.submit(ground.client, batches.rows(name, count), processing="realtime")["id"])

        ground.simulator.config(latency=0.05)
        ground.start_process("scheduler-2")
        ground._wait_for("scheduler-2", 30.0)
        wait_until(lambda: ground.leader_address() is not None, 10.0)
        before = ground.leader_address()
        first = submitted("first", 2000)
        wait_until(lambda: ground.simulator.ledger()["calls"] > 100, 30.0)
        # when
        ground.freeze("scheduler")
        # then: another leads, and the rows go on
        wait_until(lambda: ground.leader_address() not in (None, before), 10.0)
        second = submitted("second", 500)
        ground.client.wait_for_batch(second)
        # and: the one that was frozen comes back in the middle of it, and no row runs twice
        third = submitted("third", 500)
        ground.thaw("scheduler")
        for batch_id in (first, third):
            assert ground.client.wait_for_batch(batch_id)["status"] == "completed"
        assert ground.simulator.ledger()["calls"] == 3000
