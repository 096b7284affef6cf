"""Fixtures of all tests: a PostgreSQL and a Valkey for each test process, a fresh database for each test."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis
from psycopg import sql

from launcher.postgres import DATABASE, Postgres
from launcher.valkey import Valkey
from tests import clusters, dealing

if TYPE_CHECKING:
    from launcher.house import House

#: Numbers new databases; never used twice in a test process.
_numbers = itertools.count(1)
#: So many databases that tests have left are dropped at a time: each drop waits for what was written since the last.
_DROPPED_AT_ONCE = 8
_left: list[str] = []
#: Databases of the test Valkey are used in pairs: the limiter's and, after it, Dramatiq's.
_REDIS_PAIRS = 128


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
def template_database(postgres: Postgres) -> str:
    """The name of a database that all migrations ran on; others are cloned from it."""
    name = "template_migrated"
    _execute(postgres, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(DATABASE)))
    # Nobody can connect, so that a forgotten connection never stands in the way of a clone.
    _execute(postgres, sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
    return name


@pytest.fixture(scope="session")
def new_database(postgres: Postgres, template_database: str) -> Callable[[], str]:
    """Makes a migrated, empty database and gives its URL; for fixtures that outlive one test."""

    def make() -> str:
        name = f"test_{next(_numbers)}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        _execute(postgres, statement.format(sql.Identifier(name), sql.Identifier(template_database)))
        return postgres.url_of(name)

    return make


@pytest.fixture
def database_url(postgres: Postgres, new_database: Callable[[], str]) -> Iterator[str]:
    """A fresh, migrated database, which core.db of this process uses as well while the test runs."""
    from core import db

    url = new_database()
    db.configure(url)
    yield url
    db.configure(None)
    name = url.rpartition("/")[2]
    _execute(postgres, _END_CONNECTIONS.format(sql.Literal(name)))
    _left.append(name)
    if len(_left) == _DROPPED_AT_ONCE:
        while _left:
            _execute(postgres, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(_left.pop())))


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


_END_CONNECTIONS = sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}")


def _execute(server: Postgres, statement: sql.Composed) -> None:
    with psycopg.connect(server.url_of("postgres"), autocommit=True) as connection:
        connection.execute(statement)
