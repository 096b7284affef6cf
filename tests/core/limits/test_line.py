"""The line to Redis: everybody gets his own reply, trips are shared, and a connection that died idle is replaced."""

import hashlib
import threading

import pytest
import redis

from core.limits.line import Line
from core.limits.scripts import Script


class Echo(Script):
    """Says what it was told; told `wrong`, it fails."""

    def __init__(self) -> None:
        super().__init__("slots", common=False)
        self.text = "if ARGV[1] == 'wrong' then return redis.error_reply('WRONG it is') end return {KEYS[1], ARGV[1]}"
        self.digest = hashlib.sha1(self.text.encode()).hexdigest()


@pytest.fixture
def line(redis_url: str) -> Line:
    return Line(redis.Redis.from_url(redis_url))


def test_a_script_that_the_server_does_not_know_yet_is_sent_whole(line: Line) -> None:
    line._client.script_flush()
    assert line.run(Echo(), ("key",), ("a",)) == [b"key", b"a"]
    assert line.run(Echo(), ("key",), ("b",)) == [b"key", b"b"]


def test_many_at_once_get_their_own_replies_in_fewer_trips(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    # given: a first trip that is held up until all others have come
    echo, came, trips = Echo(), threading.Event(), []
    line.run(echo, ("key",), ("known",))
    exchange = line._exchange

    def held(asks):  # type: ignore[no-untyped-def]
        trips.append(len(asks))
        if len(trips) == 1:
            came.wait(10)
        return exchange(asks)

    monkeypatch.setattr(line, "_exchange", held)
    replies: dict[int, object] = {}

    def ask(number: int) -> None:
        try:
            replies[number] = line.run(echo, (f"key-{number}",), ("wrong" if number % 10 == 7 else str(number),))
        except redis.ResponseError as error:
            replies[number] = str(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    while len(line._waiting) + sum(trips) < 100:
        pass
    # when
    came.set()
    for thread in threads:
        thread.join()
    # then: one trip alone, the others in the fewest that are allowed, and each error is its own asker's
    assert trips[0] == 1
    assert trips[1:] == [64, 35]
    assert replies == {
        number: "WRONG it is" if number % 10 == 7 else [f"key-{number}".encode(), str(number).encode()]
        for number in range(100)
    }


def test_a_connection_that_died_idle_is_replaced(line: Line) -> None:
    echo = Echo()
    line.run(echo, ("key",), ("a",))
    line._client.client_kill_filter(_type="normal", skipme=True)
    assert line.run(echo, ("key",), ("b",)) == [b"key", b"b"]


def test_a_server_that_is_away_is_an_error_of_everybody_and_ends_with_it(redis_url: str) -> None:
    pool = redis.ConnectionPool.from_url(redis_url)
    line, port = Line(redis.Redis(connection_pool=pool)), pool.connection_kwargs["port"]
    pool.connection_kwargs["port"] = 1
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            line.run(Echo(), ("key",), ("a",))
    pool.connection_kwargs["port"] = port
    assert line.run(Echo(), ("key",), ("b",)) == [b"key", b"b"]
