"""One running house for all of these tests; each test gets a project of its own in it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from launcher.client import Client
from launcher.house import House
from tests.canaries import WatchedHouse


@pytest.fixture(scope="package")
def running(new_database: Callable[[], str], new_redis: Callable[[], str]) -> Iterator[House]:
    """API, one worker, scheduler and simulator as real processes."""
    directory = Path(tempfile.mkdtemp(prefix="llm-service-openai-"))
    with WatchedHouse(
        directory,
        database_url=new_database(),
        redis_url=new_redis(),
        migrated=True,
        environment={"LLM_SERVICE_API_PROCESSES": "1"},
    ) as house:
        yield house
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def house(running: House) -> House:
    """The running house, its simulator as it was at the start."""
    running.simulator.reset()
    return running


@pytest.fixture
def caller(house: House) -> Client:
    """A new project with both providers, seen through our own API."""
    caller = house.new_client("test")
    for provider in ("openai", "anthropic"):
        made = caller.post("/v1/providers", {"providerType": provider, "apiKey": f"sk-test-{caller.project_id[-12:]}"})
        assert made.status_code == 200, made.text
    return caller


@pytest.fixture
def client(caller: Client) -> Iterator[openai.OpenAI]:
    """The package as a developer has it, with only base URL and key changed."""
    with openai.OpenAI(base_url=f"{caller.url}/v1", api_key=caller.token, timeout=20) as made:
        yield made


@pytest.fixture
def patient(client: openai.OpenAI) -> openai.OpenAI:
    """The same, which does not try again by itself."""
    return client.with_options(max_retries=0)
