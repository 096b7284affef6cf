"""A running house that the unmodified `anthropic` package talks to; both vendors stand behind it, simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import anthropic
import pytest

from launcher.house import House
from tests.canaries import WatchedHouse


@pytest.fixture(scope="package")
def service(
    new_database: Callable[[], str], new_redis: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """One house for all tests of the surface: each gets the simulator as it starts."""
    directory = tmp_path_factory.mktemp("anthropic-surface")
    # One API process: what it has seen of a change, the next request sees as well.
    environment = {"LLM_SERVICE_API_PROCESSES": "1"}
    house = WatchedHouse(
        directory, database_url=new_database(), redis_url=new_redis(), migrated=True, environment=environment
    )
    try:
        yield house.start()
    finally:
        house.close()


@pytest.fixture
def claude(service: House) -> Iterator[anthropic.Anthropic]:
    """The vendor's client, with nothing changed but the address and the key."""
    service.simulator.reset(config=True)
    with anthropic.Anthropic(base_url=service.url, api_key=service.client.token) as client:
        yield client
    service.simulator.reset(config=True)
