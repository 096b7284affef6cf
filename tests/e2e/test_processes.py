"""Processes that stop, start and multiply while a batch runs: no call is lost, and none is made twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from core.changes import CHANNEL
from launcher.house import House, wait_until
from tests.canaries import WatchedHouse
from tests.e2e.batches import check_counts, faults_of_results, results, rows, submit, wait_for_end

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def house(
    new_database: Callable[[], str], new_redis: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """Two workers that hold few calls, so that a batch lasts."""
    with WatchedHouse(
        tmp_path_factory.mktemp("house"),
        database_url=new_database(),
        redis_url=new_redis(),
        migrated=True,
        workers=2,
        environment={"LLM_SERVICE_WORKER_CONCURRENCY": "60", "LLM_SERVICE_API_PROCESSES": "1"},
    ) as own:
        yield own


def test_workers_that_come_and_go_in_order_repeat_nothing(house: House) -> None:
    # given: two workers in the middle of a batch
    house.simulator.config(latency={"kind": "uniform", "low": 0.1, "high": 1.0})
    batch_id = submit(house.client, rows("stop", 1200))["id"]
    house.simulator.wait_for(lambda ledger: ledger["executed"] >= 100, timeout_seconds=30)
    # when: one is stopped as an update would, a new one comes, and the other goes too
    assert house.stop("worker-1"), "it did not stop within its grace"
    house.start_process("worker-3")
    house.wait_ready()
    assert house.stop("worker-2")
    house.start_process("worker-1")
    # and: the scheduler and the API are restarted in order
    house.restart("scheduler")
    house.restart("api")
    # then: every row ran, and ran once
    batch = wait_for_end(house.client, batch_id)
    found = results(house.client, batch_id)
    assert faults_of_results(found, "stop", 1200) == []
    check_counts(batch, found)
    assert batch["request_counts"]["succeeded"] == 1200
    assert {row["attempts"] for row in found} == {1}
    ledger = house.simulator.ledger()
    assert (ledger["calls"], ledger["executed"], ledger["duplicates"], ledger["abandoned"]) == (1200, 1200, 0, 0)


def test_a_resume_that_no_worker_heard_of_takes_effect_all_the_same(house: House) -> None:
    # given: a batch that its workers know to be paused
    house.simulator.reset()
    house.simulator.config(latency=0.6)
    batch_id = submit(house.client, rows("unheard", 600))["id"]
    house.simulator.wait_for(lambda ledger: ledger["executed"] >= 20, timeout_seconds=30)
    assert house.client.post(f"/v1/batch/{batch_id}/pause").status_code == 200
    house.simulator.wait_for(lambda ledger: ledger["in_flight"] == 0)
    # when: the connections over which they hear of changes break just before the batch is resumed
    with psycopg.connect(house.address.database_url, autocommit=True) as connection:
        cut = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        ).fetchall()
    assert cut, "nobody listened"
    assert house.client.post(f"/v1/batch/{batch_id}/resume").status_code == 200
    # then
    batch = wait_for_end(house.client, batch_id, timeout_seconds=30)
    assert batch["request_counts"]["succeeded"] == 600


def test_an_api_process_hears_of_what_projects_change_also_after_its_connection_broke(house: House) -> None:
    with psycopg.connect(house.address.database_url, autocommit=True) as connection:

        def ears() -> list[int]:
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query = %s",
                (f'LISTEN "{CHANNEL}"',),
            )
            return [pid for (pid,) in found]

        wait_until(lambda: len(ears()) == 1, 10)
        first = ears()
        connection.execute("SELECT pg_terminate_backend(%s)", (first[0],))
        wait_until(lambda: len(ears()) == 1 and ears() != first, 10)
