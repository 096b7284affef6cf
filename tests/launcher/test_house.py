"""The house that tests use: every process of it can be killed, frozen and started again by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from launcher.client import Client, wait_until
from launcher.house import House
from tests import clusters
from tests.canaries import WatchedHouse

pytestmark = pytest.mark.e2e


def a_batch(client: Client) -> str:
    rows = [
        {"custom_id": str(n), "model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]} for n in range(3)
    ]
    answer = client.post("/v1/batch", {"requests": rows})
    assert answer.status_code == 201, answer.text
    batch_id: str = answer.json()["id"]
    return batch_id


@pytest.fixture(scope="module")
def house(cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with servers of its own, which is left to nobody else: the last test kills everything."""
    directory = tmp_path_factory.mktemp("house")
    clusters.copy_for_house(cluster, directory)
    with WatchedHouse(directory, migrated=True, environment={"LLM_SERVICE_API_PROCESSES": "1"}) as own:
        yield own


def test_two_clients_are_two_tenants(house: House) -> None:
    other = house.new_client()
    assert other.tenant_id != house.client.tenant_id
    mine = a_batch(house.client)
    assert other.get(f"/v1/batch/{mine}").status_code == 404
    house.client.wait_for_batch(mine)


def test_every_process_can_be_killed_and_comes_back(house: House) -> None:
    house.simulator.reset()
    assert house.names == ["postgres", "redis", "api", "worker-1", "scheduler"]
    assert house.client.wait_for_batch(a_batch(house.client))["request_counts"]["succeeded"] == 3
    assert house.simulator.ledger()["calls"] == 3

    for name in house.names:
        house.kill(name)
        assert not house.alive(name)
    with pytest.raises(requests.ConnectionError):
        house.client.get("/livez")
    for name in house.names:
        house.start_process(name)
    house.wait_ready()
    assert house.client.wait_for_batch(a_batch(house.client))["request_counts"]["succeeded"] == 3

    house.freeze("worker-1")
    wait_until(lambda: psutil.Process(house.pid("worker-1")).status() == psutil.STATUS_STOPPED, 5)
    house.thaw("worker-1")
    assert house.stop("worker-1")
