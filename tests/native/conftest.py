"""A house whose provider batches are small and quick; each test has a tenant of its own, and its own provider keys."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.client import Client
from launcher.house import House
from tests.canaries import WatchedHouse

#: From so many rows of a model on, `auto` goes native here.
MIN_ROWS = 20
#: The unit of all waits between the steps of a shard.
POLL_SECONDS = 0.2

_numbers = itertools.count(1)


@pytest.fixture(scope="package")
def shared_house(
    new_database: Callable[[], str], new_redis: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """API, two workers, scheduler and simulator, started once for all files that this test process runs."""
    directory: Path = tmp_path_factory.mktemp("house")
    environment = {
        "LLM_SERVICE_NATIVE_MIN_ROWS": str(MIN_ROWS),
        "LLM_SERVICE_NATIVE_POLL_SECONDS": str(POLL_SECONDS),
    }
    with WatchedHouse(
        directory, database_url=new_database(), redis_url=new_redis(), migrated=True, workers=2, environment=environment
    ) as house:
        yield house


@pytest.fixture
def native_house(shared_house: House) -> House:
    """The shared house, its simulator with an empty ledger and nothing wrong."""
    shared_house.simulator.reset()
    return shared_house


@pytest.fixture
def client(native_house: House) -> Client:
    """A client of a tenant of this test's own, with both providers at the simulator under keys of its own."""
    client = native_house.new_client()
    number = next(_numbers)
    for provider_type, key in (("openai", f"sk-native-{number}"), ("anthropic", f"sk-ant-native-{number}")):
        assert client.post("/v1/providers", {"providerType": provider_type, "apiKey": key}).status_code == 200
    return client
