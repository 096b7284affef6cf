"""A house with two workers for the tests that break nothing in it; each test has a tenant of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.client import Client
from launcher.house import House
from tests.browser import Browser, chromium
from tests.canaries import WatchedHouse
from tests.e2e.dashboard_user import WATCH, User


@pytest.fixture(scope="package")
def shared_house(
    new_database: Callable[[], str], new_redis: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """API, two workers, scheduler and simulator, started once for all files that this test process runs."""
    directory: Path = tmp_path_factory.mktemp("house")
    with WatchedHouse(directory, database_url=new_database(), redis_url=new_redis(), migrated=True, workers=2) as house:
        yield house


@pytest.fixture
def calm_house(shared_house: House) -> House:
    """The shared house, its simulator with an empty ledger and nothing wrong."""
    shared_house.simulator.reset()
    return shared_house


@pytest.fixture
def client(calm_house: House) -> Client:
    """A client of a tenant of this test's own, with both providers at the simulator."""
    return calm_house.new_client()


@pytest.fixture(scope="package")
def browser_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the browser keeps its profile, and in `downloads` what it saved."""
    chromium()
    directory: Path = tmp_path_factory.mktemp("browser")
    return directory


@pytest.fixture(scope="package")
def browser(browser_directory: Path) -> Iterator[Browser]:
    """A headless Chromium, started once, whose pages note the fields that they read and that are not there."""
    with Browser(browser_directory) as started:
        started.before_pages(WATCH)
        yield started


@pytest.fixture
def user(browser: Browser, client: Client) -> Iterator[User]:
    """A user of the dashboard with the keys of a tenant of this test's own."""
    found = User(browser, client)
    yield found
    found.leave()
