"""Request bodies that are produced while they are sent: length, memory, refusals, deadlines and repeats."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core import egress
from core.egress import Body, pool, resolve
from core.settings import settings
from tests.core.egress_server import Peer, Server, keep, serving


@pytest.fixture(autouse=True)
def _loopback_allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LLM_SERVICE_EGRESS_ALLOW", "127.0.0.0/8")
    settings.cache_clear()
    resolve.forget()
    yield
    pool.close_all()
    settings.cache_clear()
    resolve.forget()


def post(url: str, body: Body, **options: Any) -> egress.Answer:
    return egress.request("POST", url, body=body, **{"timeout_seconds": 5, **options})


def of(*pieces: bytes, length: int | None = None) -> Body:
    return Body(sum(map(len, pieces)) if length is None else length, lambda: iter(pieces))


PIECES = [
    (b"one",),
    (b"", b"a", b"", b"bc", b""),
    tuple(b"%07d" % number for number in range(100_000)),
    (b"x" * (3 << 20), b"y"),
    (b"x" * (256 << 10), b"y" * (256 << 10)),
]


@pytest.mark.parametrize("pieces", PIECES)
def test_the_server_gets_the_pieces_as_one_body(pieces: tuple[bytes, ...]) -> None:
    with serving(keep) as server:
        for _ in range(2):
            assert post(server.url(), of(*pieces)).body == b"".join(pieces)

    assert server.connections == 1
    assert b"content-length: %d\r\n" % sum(map(len, pieces)) in server.requests[0]


@pytest.mark.parametrize(
    ("pieces", "length"),
    [((b"abc",), 4), ((b"abc",), 2), ((b"abc", b"d"), 3), ((), 1), ((b"x" * (2 << 20), b"y"), 2 << 20)],
)
def test_a_body_of_another_length_never_looks_whole(pieces: tuple[bytes, ...], length: int) -> None:
    # given a server that keeps what it gets
    got = bytearray()

    def script(peer: Peer, server: Server) -> None:
        while data := peer.sock.recv(1 << 20):
            got.extend(data)

    with serving(script) as server, pytest.raises(egress.BodyFailed, match=r"announced") as caught:
        post(server.url(), of(*pieces, length=length))

    # then it has less than was announced, and the call says that it cannot have run
    assert not caught.value.sent
    assert len(got.partition(b"\r\n\r\n")[2]) < length


@pytest.mark.parametrize("error", [RuntimeError("mine"), OSError("disk"), TimeoutError("mine")])
def test_an_error_of_the_producer_is_not_one_of_the_connection(error: Exception) -> None:
    closed = []

    def pieces() -> Iterator[bytes]:
        try:
            yield b"x" * (1 << 20)
            raise error
        finally:
            closed.append(True)

    with serving(keep) as server:
        with pytest.raises(egress.BodyFailed if isinstance(error, OSError) else RuntimeError):
            post(server.url(), Body(2 << 20, pieces))
        # then the connection is not used again
        assert post(server.url(), of(b"next")).body == b"next"

    assert closed == [True]
    assert server.connections == 2


@pytest.mark.parametrize("status", [b"413 Too Large", b"401 Unauthorized"])
def test_a_refusal_before_the_whole_body_was_read_is_the_answer(status: bytes) -> None:
    closed = []

    def pieces() -> Iterator[bytes]:
        try:
            for _ in range(64):
                yield bytes(1 << 20)
        finally:
            closed.append(True)

    def polite(peer: Peer, server: Server) -> None:
        peer.sock.recv(1000)
        peer.send(b"HTTP/1.1 " + status + b"\r\ncontent-length: 3\r\n\r\nno!")
        peer.sock.shutdown(socket.SHUT_WR)
        while peer.sock.recv(1 << 20):
            pass

    with serving(polite) as server:
        answer = post(server.url(), Body(64 << 20, pieces))

    assert (answer.status, answer.body) == (int(status[:3]), b"no!")
    assert closed == [True]


def test_a_server_that_closes_in_the_middle_had_no_whole_request() -> None:
    def script(peer: Peer, server: Server) -> None:
        peer.sock.recv(1000)
        peer.reset()

    with serving(script) as server, pytest.raises(egress.ConnectionLost) as caught:
        post(server.url(), Body(64 << 20, lambda: iter([bytes(1 << 20)] * 64)))

    assert not caught.value.sent


def test_a_kept_connection_that_was_closed_gets_a_body_produced_anew() -> None:
    # given a server that closes its connection on the second request, before it has read all of it
    gone = threading.Event()

    def script(peer: Peer, server: Server) -> None:
        server.requests.append(peer.request() or b"")
        peer.answer()
        if server.connections == 1:
            peer.sock.recv(1000)
            peer.reset()
            gone.set()

    made = []

    def pieces() -> Iterator[bytes]:
        made.append(True)
        yield bytes(1 << 20)
        gone.wait(5)
        yield bytes(1 << 20)

    with serving(script) as server:
        post(server.url(), of(b"first"))
        assert post(server.url(), Body(2 << 20, pieces)).status == 200

    assert len(made) == 2
    assert len(server.requests[1].partition(b"\r\n\r\n")[2]) == 2 << 20


def test_a_post_that_may_have_run_is_not_repeated() -> None:
    made = []

    def pieces() -> Iterator[bytes]:
        made.append(True)
        yield b"x"

    def script(peer: Peer, server: Server) -> None:
        peer.request()
        peer.answer()
        peer.request()
        peer.reset()

    with serving(script) as server:
        post(server.url(), of(b"first"))
        with pytest.raises(egress.ConnectionLost) as caught:
            post(server.url(), Body(1, pieces))

    assert caught.value.sent
    assert len(made) == 1


def test_the_deadline_holds_while_the_body_is_produced_and_sent() -> None:
    def slow() -> Iterator[bytes]:
        for _ in range(200):
            time.sleep(0.02)
            yield bytes(1 << 18)

    with serving(keep) as server:
        started = time.monotonic()
        with pytest.raises(egress.TimedOut) as caught:
            post(server.url(), Body(200 << 18, slow), timeout_seconds=0.3)
        assert time.monotonic() - started < 2
        assert not caught.value.sent

    with serving(lambda peer, server: time.sleep(3)) as server, pytest.raises(egress.TimedOut) as caught:
        post(server.url(), Body(64 << 20, lambda: iter([bytes(1 << 20)] * 64)), timeout_seconds=0.3)
    assert not caught.value.sent


UNDER_GEVENT = """
from gevent import monkey; monkey.patch_all()
import time, pytest
from core import egress
from tests.core.egress_server import keep, serving

closed = []
def slow():
    try:
        for _ in range(100):
            time.sleep(1)
            yield bytes(1000)
    finally:
        closed.append(True)

with serving(keep) as server:
    body = egress.Body(3 << 20, lambda: iter([bytes(1 << 20)] * 3))
    assert len(egress.request("POST", server.url(), body=body, timeout_seconds=5).body) == 3 << 20
    started = time.monotonic()
    with pytest.raises(egress.TimedOut) as caught:
        egress.request("POST", server.url(), body=egress.Body(100_000, slow), timeout_seconds=0.3)
    assert not caught.value.sent and time.monotonic() - started < 1 and closed == [True]

# a stream that stands still
def still(peer, server):
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\\r\\ncontent-length: 9\\r\\n\\r\\nabc")
    peer.request()
with serving(still) as server:
    started = time.monotonic()
    with egress.stream("GET", server.url(), timeout_seconds=60, idle_seconds=0.3) as stream:
        assert next(stream) == b"abc"
        with pytest.raises(egress.TimedOut):
            next(stream)
    assert time.monotonic() - started < 5
print("done")
"""


def test_the_same_under_gevent() -> None:
    root = Path(__file__).parents[2]

    done = subprocess.run([sys.executable, "-c", UNDER_GEVENT], cwd=root, capture_output=True, text=True, timeout=30)

    assert done.stdout.strip().endswith("done"), done.stderr
