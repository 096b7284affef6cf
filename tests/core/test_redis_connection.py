"""What a pool of connections to Redis sees of one before it is used."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest
import redis

from core.redis_connection import LightConnection


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    pool = redis.BlockingConnectionPool.from_url(redis_url, connection_class=LightConnection, max_connections=1)
    with redis.Redis(connection_pool=pool) as client:
        client.ping()
        yield client


def held(client: redis.Redis) -> LightConnection:
    """The pool's only connection, as it lies there."""
    connection = client.connection_pool.get_connection()
    client.connection_pool.release(connection)
    assert isinstance(connection, LightConnection)
    return connection


def test_a_connection_that_the_server_closed_is_replaced(client: redis.Redis, redis_url: str) -> None:
    # given
    closed = client.client_id()
    with redis.Redis.from_url(redis_url) as other:
        other.client_kill_filter(_id=closed)
    # when, then
    assert client.ping()
    assert client.client_id() != closed


def test_a_reply_that_nobody_read_is_not_taken_for_the_next_ones(client: redis.Redis) -> None:
    # given: a caller that was called away after its command
    connection = held(client)
    connection.send_command("ECHO", "somebody else's")
    assert select.select([connection._sock], [], [], 10)[0]
    # when, then
    assert client.echo("mine") == b"mine"


def test_a_reply_that_was_read_ahead_is_seen_too(client: redis.Redis) -> None:
    # given: two replies that came in one piece, of which one was read
    connection = held(client)
    connection._parser._reader.feed(b"+read\r\n+read ahead\r\n")
    assert connection.read_response() == b"read"
    # when, then
    assert client.echo("mine") == b"mine"


def test_a_quiet_connection_is_used_again(client: redis.Redis) -> None:
    assert not held(client).can_read()
    assert client.client_id() == client.client_id()
