"""Fixtures of all tests: a PostgreSQL and a Valkey for each test process, an empty database for each test."""

from __future__ import annotations

import gc
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from launcher.postgres import Postgres
from launcher.valkey import Valkey
from tests import clusters, dealing
from tests.databases import Databases

if TYPE_CHECKING:
    from launcher.house import House

#: Databases of the test Valkey are used in pairs: the limiter's and, after it, Dramatiq's.
_REDIS_PAIRS = 128


# What is loaded while the tests are collected stays: a tenth of that time is looking through it for garbage.
gc.disable()


def pytest_collection_finish() -> None:
    """The collector works from here on, and leaves what was loaded alone."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first."""
    items.sort(key=lambda item: dealing.place(item.nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> dealing.Dealing:
    """What shares a house stays in one process."""
    return dealing.Dealing(config, log)


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """A directory for the servers of this test process, removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="llm-service-tests-"))
    # Root's PostgreSQL runs as another user, who has to get in.
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(server_directory: Path) -> Path:
    """A migrated data directory, which tests/clusters.py copies."""
    return clusters.make(server_directory / "cluster")


@pytest.fixture(scope="session")
def postgres(server_directory: Path, cluster: Path) -> Iterator[Postgres]:
    """A running PostgreSQL, one for each xdist worker: it starts in a second and nobody else can disturb it."""
    clusters.copy(cluster, server_directory / "postgres")
    server = Postgres(server_directory / "postgres", fast=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def valkey(server_directory: Path) -> Iterator[Valkey]:
    """A running Valkey, one for each xdist worker."""
    server = Valkey(server_directory / "redis", fast=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def databases(postgres: Postgres) -> Databases:
    """Those of this test process's server."""
    return Databases(postgres)


@pytest.fixture(scope="session")
def new_database(databases: Databases) -> Callable[[], str]:
    """Makes a migrated, empty database and gives its URL; for fixtures that outlive one test."""
    return databases.new


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """A migrated, empty database, which core.db of this process uses as well while the test runs."""
    from core import db

    url = databases.lend()
    db.configure(url)
    yield url
    db.configure(None)
    databases.take_back(url)


@pytest.fixture(scope="session")
def new_redis(valkey: Valkey) -> Callable[[], str]:
    """Empties a pair of databases and gives the URL of its first; Dramatiq's broker takes the next number."""
    pairs = itertools.cycle(range(_REDIS_PAIRS))

    def make() -> str:
        number = 2 * next(pairs)
        for database in (number, number + 1):
            with redis.Redis.from_url(valkey.url_of(database)) as client:
                client.flushdb()
        return valkey.url_of(number)

    return make


@pytest.fixture
def redis_url(new_redis: Callable[[], str]) -> str:
    """A clean pair of Redis databases."""
    return new_redis()


@pytest.fixture
def make_house(
    new_database: Callable[[], str], new_redis: Callable[[], str], tmp_path: Path
) -> Iterator[Callable[..., House]]:
    """Starts houses (launcher.house.House takes the arguments) and closes them at the end of the test.

    They share this test process's servers, on databases of their own. They log at DEBUG, and closing fails if a prompt
    or a secret is in what they wrote.
    """
    from tests.canaries import WatchedHouse

    houses: list[House] = []

    def make(**options: Any) -> House:
        stores = {"database_url": new_database(), "redis_url": new_redis()}
        house = WatchedHouse(tmp_path / f"house-{len(houses)}", migrated=True, **(stores | options))
        houses.append(house)
        return house.start()

    yield make
    for house in houses:
        house.close()
