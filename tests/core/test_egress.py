"""The egress client against servers that misbehave: deadlines, caps, framing, reuse, names, certificates."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core import egress
from core.egress import clock, pool, resolve
from core.settings import settings
from tests.core.egress_server import Peer, Server, certificate, keep, serving


@pytest.fixture(autouse=True)
def _loopback_allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LLM_SERVICE_EGRESS_ALLOW", "127.0.0.0/8")
    settings.cache_clear()
    resolve.forget()
    yield
    pool.close_all()
    settings.cache_clear()
    resolve.forget()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What the resolver says of a name; the real one is not asked."""
    table: dict[str, list[str]] = {}

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        found = table.get(host.removesuffix("."))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return table


def post(url: str, body: bytes = b"{}", **options: Any) -> egress.Answer:
    return egress.request("POST", url, body=body, **{"timeout_seconds": 5, **options})


def raw(*pieces: bytes, end: Callable[[Peer], None] | None = None) -> Callable[[Peer, Server], None]:
    """A script: read one request, send these bytes, end (by closing)."""

    def script(peer: Peer, server: Server) -> None:
        peer.request()
        for piece in pieces:
            peer.send(piece)
        if end is not None:
            end(peer)

    return script


OK = b"HTTP/1.1 200 OK\r\n"


def test_a_call_and_its_answer() -> None:
    with serving(keep) as server:
        answer = post(server.url("/a?b=c"), b"hello", headers={"Authorization": "Bearer x"})

    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers["x-two"] == answer.headers["X-TWO"] == "a, b"
    assert "Content-Length" in answer.headers
    assert answer.headers.get("absent") is None
    head = server.requests[0].decode().lower()
    assert head.startswith("post /a?b=c http/1.1\r\n")
    assert f"host: 127.0.0.1:{server.port}\r\n" in head
    assert "content-length: 5\r\n" in head
    assert "authorization: bearer x\r\n" in head


def test_connections_are_kept_and_used_again() -> None:
    with serving(keep) as server:
        for number in range(5):
            assert post(server.url(), b"%d" % number).body == b"%d" % number
        with egress.stream("POST", server.url(), body=b"s", timeout_seconds=5) as stream:
            assert stream.read() == b"s"
        assert post(server.url()).status == 200

    assert server.connections == 1


def test_an_idle_connection_that_the_server_closed_is_not_used() -> None:
    closed = threading.Event()

    def once(peer: Peer, server: Server) -> None:
        peer.request()
        peer.answer()
        peer.sock.close()
        closed.set()

    with serving(once) as server:
        for _ in range(3):
            assert post(server.url()).status == 200
            closed.wait(5)
            closed.clear()

    assert server.connections == 3


@pytest.mark.parametrize("header", [b"Connection: close", b"Keep-Alive: timeout=1"])
def test_a_connection_that_the_server_will_close_is_not_kept(header: bytes) -> None:
    def script(peer: Peer, server: Server) -> None:
        while peer.request() is not None:
            peer.answer(b"", header)

    with serving(script) as server:
        post(server.url())
        post(server.url())

    assert server.connections == 2


def test_bytes_after_an_answer_never_reach_the_next_call() -> None:
    smuggled = OK + b"content-length: 5\r\n\r\nwrong"

    def script(peer: Peer, server: Server) -> None:
        while peer.request() is not None:
            peer.send(OK + b"content-length: 5\r\n\r\nright" + smuggled)

    with serving(script) as server:
        assert [post(server.url()).body for _ in range(3)] == [b"right"] * 3

    assert server.connections == 3


def test_a_post_on_a_kept_connection_is_not_repeated_when_it_may_have_run() -> None:
    # given a server that takes a second request and resets instead of answering
    def script(peer: Peer, server: Server) -> None:
        server.requests.append(peer.request() or b"")
        peer.answer()
        if (second := peer.request()) is not None:
            server.requests.append(second)
            peer.reset()

    with serving(script) as server:
        post(server.url())
        with pytest.raises(egress.ConnectionLost) as caught:
            post(server.url())

        # then the call says that it may have run, and a GET in the same place is simply repeated
        assert caught.value.sent
        assert len(server.requests) == 2
        post(server.url())
        assert egress.request("GET", server.url(), timeout_seconds=5).status == 200
        assert len(server.requests) == 5


def test_nobody_listens() -> None:
    with serving(keep) as server:
        url = server.url()
    with pytest.raises(egress.ConnectFailed) as caught:
        post(url)

    assert not caught.value.sent


def test_connecting_has_a_time_limit_of_its_own() -> None:
    # given a listener whose queue is full: it accepts nothing
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)

        started = time.monotonic()
        with pytest.raises(egress.ConnectFailed) as caught:
            post(f"http://127.0.0.1:{port}/", timeout_seconds=30, connect_timeout_seconds=0.3)

        assert time.monotonic() - started < 5
        assert not caught.value.sent
        for filler in fillers:
            filler.close()


def drip(peer: Peer, server: Server) -> None:
    """One byte each 50 ms, for ever."""
    peer.request()
    peer.send(OK + b"content-length: 1000000\r\n\r\n")
    while True:
        peer.send(b"x")
        time.sleep(0.05)


def drip_head(peer: Peer, server: Server) -> None:
    peer.request()
    peer.send(OK)
    while True:
        peer.send(b"x: y\r\n")
        time.sleep(0.05)


def silence(peer: Peer, server: Server) -> None:
    peer.request()
    peer.request()


@pytest.mark.parametrize(("head", "piece"), [(b"content-length: 1000000\r\n\r\n", b"x"), (b"", b"x: y\r\n")])
def test_the_deadline_is_of_the_whole_call(head: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    # given: a call's time that passes with what it is sent, 50 ms with each piece, however busy the machine is
    began = now = time.monotonic()
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: now))

    def drip_for_three_seconds(peer: Peer, server: Server) -> None:
        nonlocal now
        peer.request()
        peer.send(OK + head)
        for _ in range(60):
            peer.send(piece)
            now += 0.05
            time.sleep(0.005)

    # when
    with serving(drip_for_three_seconds) as server, pytest.raises(egress.TimedOut) as caught:
        post(server.url(), timeout_seconds=0.5)
    # then: it did not end before, and not because the server did
    assert now - began > 0.4
    assert caught.value.sent


def test_the_deadline_holds_where_nothing_comes() -> None:
    with serving(silence) as server:
        started = time.monotonic()
        with pytest.raises(egress.TimedOut) as caught:
            post(server.url(), timeout_seconds=0.5)

    assert 0.4 < time.monotonic() - started < 3
    assert caught.value.sent


def test_a_request_that_could_not_be_sent_in_time_was_not_sent() -> None:
    with serving(lambda peer, server: time.sleep(3)) as server, pytest.raises(egress.TimedOut) as caught:
        post(server.url(), bytes(32 << 20), timeout_seconds=0.5)

    assert not caught.value.sent


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (raw(), egress.ConnectionLost),
        (raw(end=Peer.reset), egress.ConnectionLost),
        (raw(OK), egress.ConnectionLost),
        (raw(OK + b"content-length: 9\r\n\r\nabc"), egress.ConnectionLost),
        (raw(OK + b"content-length: 9\r\n\r\nabc", end=Peer.reset), egress.ConnectionLost),
        (raw(OK + b"transfer-encoding: chunked\r\n\r\n5\r\nab"), egress.ConnectionLost),
        (raw(OK + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n"), egress.ConnectionLost),
        (raw(OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n"), egress.BadAnswer),
        (raw(OK + b"transfer-encoding: chunked\r\n\r\n2\r\nabc\r\n"), egress.BadAnswer),
        (raw(OK + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n"), egress.BadAnswer),
        (raw(OK + b"transfer-encoding: gzip, chunked\r\n\r\n"), egress.BadAnswer),
        (raw(OK + b"content-length: -1\r\n\r\n"), egress.BadAnswer),
        (raw(OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab"), egress.BadAnswer),
        (raw(OK + b"x y: z\r\n\r\n"), egress.BadAnswer),
        (raw(OK + b"a: b\r\n folded\r\n\r\n"), egress.BadAnswer),
        (raw(OK + b"content-encoding: br\r\ncontent-length: 2\r\n\r\nab"), egress.BadAnswer),
        (raw(OK + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\nab"), egress.BadAnswer),
        (raw(OK + b"content-encoding: gzip\r\n\r\n" + gzip.compress(b"abc")[:-4]), egress.BadAnswer),
        (raw(b"SSH-2.0-OpenSSH\r\n\r\n"), egress.BadAnswer),
        (raw(b"HTTP/2 200\r\n\r\n"), egress.BadAnswer),
        (raw(b"HTTP/1.1 101 Switching\r\n\r\n"), egress.BadAnswer),
        (raw(OK + b"x: " + b"y" * 70_000 + b"\r\n\r\n"), egress.TooMuchData),
    ],
)
def test_what_is_no_whole_answer_is_a_typed_error(script: Any, error: type[egress.EgressError]) -> None:
    with serving(script) as server, pytest.raises(error) as caught:
        post(server.url())

    assert caught.value.sent


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ([OK + b"content-length: 0\r\n\r\n"], b""),
        ([OK + b"\r\nuntil closed"], b"until closed"),
        ([b"HTTP/1.0 200 OK\r\n\r\n", b"old"], b"old"),
        ([b"HTTP/1.1 200\r\ncontent-length: 1\r\n\r\nx"], b"x"),
        (
            [
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n"
                + OK
                + b"content-length: 1\r\n\r\nx"
            ],
            b"x",
        ),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], b""),
        ([OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nt: u\r\n\r\n"], b"abcde"),
        ([OK + b"transfer-encoding: chunked\r\n\r\n", b"3\r", b"\nab", b"c\r", b"\n0\r\n", b"\r\n"], b"abc"),
        ([OK + b"content-encoding: gzip\r\n\r\n" + gzip.compress(b"abc") + gzip.compress(b"de")], b"abcde"),
        ([OK + b"content-encoding: deflate\r\n\r\n" + zlib.compress(b"abc")], b"abc"),
        ([OK + b"content-encoding: GZIP\r\ncontent-length: 0\r\n\r\n"], b""),
    ],
)
def test_every_framing_of_an_answer(pieces: list[bytes], body: bytes) -> None:
    with serving(raw(*pieces)) as server:
        assert post(server.url()).body == body


def test_a_redirect_is_an_answer_and_not_followed() -> None:
    with serving(keep) as other:
        target = raw(b"HTTP/1.1 302 Found\r\nlocation: " + other.url().encode() + b"\r\ncontent-length: 0\r\n\r\n")
        with serving(target) as server:
            assert post(server.url()).status == 302

    assert other.connections == 0


def test_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(keep) as proxy, serving(keep) as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
        post(server.url())

    assert proxy.connections == 0


def test_a_refusal_before_the_whole_body_was_read_is_still_the_answer() -> None:
    def script(peer: Peer, server: Server) -> None:
        peer.sock.recv(1000)
        peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        peer.sock.shutdown(socket.SHUT_WR)
        while peer.sock.recv(1 << 20):
            pass

    with serving(script) as server:
        answer = post(server.url(), bytes(8 << 20))

    assert (answer.status, answer.body) == (413, b"big")


def test_a_body_over_the_cap_ends_the_call() -> None:
    def endless(peer: Peer) -> None:
        while True:
            peer.send(bytes(65536))

    for script in (raw(OK + b"\r\n", end=endless), raw(OK + b"content-length: 99999999999\r\n\r\n", end=endless)):
        with serving(script) as server, pytest.raises(egress.TooMuchData):
            post(server.url(), max_bytes=1_000_000)
    with serving(keep) as server:
        assert len(post(server.url(), bytes(1000), max_bytes=1000).body) == 1000
        with pytest.raises(egress.TooMuchData):
            post(server.url(), bytes(1001), max_bytes=1000)


def test_a_gzip_bomb_is_stopped_while_it_unfolds() -> None:
    # given 128 MiB of zeros in 128 KiB
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(128)) + squeeze.flush()

    with serving(raw(OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb), bomb)) as server:
        with pytest.raises(egress.TooMuchData):
            post(server.url(), max_bytes=4 << 20)
        # then a stream that reads only the beginning unfolds only the beginning
        with egress.stream("GET", server.url(), timeout_seconds=5) as stream:
            assert len(next(stream)) <= 1 << 16


def test_a_stream_gives_each_piece_when_it_arrives() -> None:
    go_on = threading.Event()

    def script(peer: Peer, server: Server) -> None:
        peer.request()
        peer.send(OK + b"transfer-encoding: chunked\r\n\r\n7\r\ndata: 1\r\n")
        go_on.wait(5)
        peer.send(b"7\r\ndata: 2\r\n0\r\n\r\n")

    with serving(script) as server, egress.stream("POST", server.url(), body=b"", timeout_seconds=5) as stream:
        assert stream.status == 200
        assert next(stream) == b"data: 1"
        go_on.set()
        assert list(stream) == [b"data: 2"]


def test_leaving_a_stream_early_closes_the_connection() -> None:
    left = threading.Event()

    def script(peer: Peer, server: Server) -> None:
        peer.request()
        try:
            peer.send(OK + b"\r\n")
            while True:
                peer.send(bytes(1000))
                time.sleep(0.005)
        except OSError:
            left.set()

    with serving(script) as server:
        with egress.stream("GET", server.url(), timeout_seconds=5) as stream:
            next(stream)
        assert left.wait(5)


def test_a_stream_ends_at_its_deadline_and_at_its_cap() -> None:
    with serving(drip) as server:
        with (
            egress.stream("GET", server.url(), timeout_seconds=0.5) as stream,
            pytest.raises(egress.TimedOut) as caught,
        ):
            list(stream)
        assert caught.value.sent
        with (
            egress.stream("GET", server.url(), timeout_seconds=5, max_bytes=3) as stream,
            pytest.raises(egress.TooMuchData),
        ):
            list(stream)


def test_a_stream_that_stands_still_ends_before_its_deadline() -> None:
    def script(peer: Peer, server: Server) -> None:
        peer.request()
        peer.send(OK + b"content-length: 10\r\n\r\nabc")
        peer.request()

    with serving(script) as server:
        started = time.monotonic()
        with egress.stream("GET", server.url(), timeout_seconds=60, idle_seconds=0.3) as stream:
            assert next(stream) == b"abc"
            # the reader's own time is not the server's
            time.sleep(0.5)
            with pytest.raises(egress.TimedOut):
                next(stream)
        assert 0.7 < time.monotonic() - started < 10
    # and a slow one that goes on does not
    with (
        serving(drip) as server,
        egress.stream("GET", server.url(), timeout_seconds=60, idle_seconds=1) as stream,
    ):
        assert len(b"".join(next(stream) for _ in range(30))) >= 30


@pytest.mark.parametrize("headers", [{"a": "b\r\nc: d"}, {"a\n": "b"}, {"a": "b\0"}, {"Host": "evil"}, {"a": "ключ"}])
def test_a_header_cannot_break_out_of_its_line(headers: dict[str, str]) -> None:
    with serving(keep) as server, pytest.raises(ValueError):
        post(server.url(), headers=headers)

    assert server.connections == 0


def test_every_address_of_a_name_must_be_acceptable(names: dict[str, list[str]]) -> None:
    with serving(keep) as server:
        names["good.example"] = ["127.0.0.1"]
        names["mixed.example"] = ["127.0.0.1", "10.0.0.1"]

        assert post(server.url(host="good.example")).status == 200
        with pytest.raises(egress.AddressRefused, match=r"mixed\.example"):
            post(server.url(host="mixed.example"))

    assert server.connections == 1
    assert b"host: good.example:%d\r\n" % server.port in server.requests[0].lower()


def test_a_name_that_turns_inside_is_refused_at_the_next_look(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a name that was acceptable, with a connection kept open
    with serving(keep) as server:
        names["turns.example"] = ["127.0.0.1"]
        post(server.url(host="turns.example"))

        # when it points inside and the decision runs out
        names["turns.example"] = ["192.168.0.1"]
        later = time.monotonic() + resolve.DECISION_SECONDS + 1
        monkeypatch.setattr(time, "monotonic", lambda: later)

        # then no call goes there, nor over the kept connection
        with pytest.raises(egress.AddressRefused):
            post(server.url(host="turns.example"))
    assert len(server.requests) == 1


def test_the_second_address_is_tried_when_the_first_does_not_answer(names: dict[str, list[str]]) -> None:
    with serving(keep) as server:
        names["two.example"] = ["127.9.9.9", "127.0.0.1"]

        assert post(server.url(host="two.example")).status == 200


def test_a_name_that_does_not_resolve(names: dict[str, list[str]]) -> None:
    with pytest.raises(egress.ConnectFailed) as caught:
        post("https://nowhere.example/")
    assert not caught.value.sent

    egress.check("https://nowhere.example/")
    for url in ("http://nowhere.example/", "https://10.0.0.1/", "https://user@nowhere.example/"):
        with pytest.raises(egress.AddressRefused):
            egress.check(url)


def test_private_addresses_are_refused_without_the_operators_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_SERVICE_EGRESS_ALLOW", "")
    settings.cache_clear()
    resolve.forget()
    with serving(keep) as server:
        for host in ("127.0.0.1", "[::ffff:127.0.0.1]", "localhost"):
            for scheme in ("http", "https"):
                with pytest.raises(egress.AddressRefused):
                    post(server.url(scheme=scheme, host=host))

    assert server.connections == 0


def test_the_certificate_is_checked_against_the_name(
    names: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a server for good.example, whose certificate is trusted; bad.example leads to it as well
    file, context = certificate(tmp_path, "good.example")
    names["good.example"] = names["bad.example"] = ["127.0.0.1"]
    seen: list[str | None] = []
    context.sni_callback = lambda sock, name, _: seen.append(name)
    pool.trust.cache_clear()
    with serving(keep, context) as server:
        with pytest.raises(egress.ConnectFailed, match=r"certificate of good\.example"):
            post(server.url(scheme="https", host="good.example"))
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        pool.trust.cache_clear()

        # then only its own name opens it, and is what the server is told
        for _ in range(2):
            assert post(server.url(scheme="https", host="good.example"), b"over TLS").body == b"over TLS"
        with pytest.raises(egress.ConnectFailed, match=r"certificate of bad\.example"):
            post(server.url(scheme="https", host="bad.example"))
        with pytest.raises(egress.ConnectFailed, match=r"certificate of 127\.0\.0\.1"):
            post(server.url(scheme="https"))
    pool.trust.cache_clear()

    assert seen == ["good.example", "good.example", "bad.example", None]
    assert len(server.requests) == 2


def test_no_plain_http_server_is_taken_for_tls() -> None:
    with serving(lambda peer, server: peer.send(OK)) as server, pytest.raises(egress.EgressError) as caught:
        post(server.url(scheme="https"))

    assert not caught.value.sent


UNDER_GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, time, gevent, pytest
from gevent.pool import Pool
from pathlib import Path
from core import egress
from core.egress import resolve
from tests.core.egress_server import keep, serving, certificate
from tests.core.test_egress import drip, drip_head, silence

def call(url, **options):
    return egress.request("POST", url, body=b"hi", **{"timeout_seconds": 5, **options})

with serving(keep) as server:
    answers = Pool(50).map(lambda n: call(server.url()).body, range(500))
    assert answers == [b"hi"] * 500
    assert server.connections <= 50, server.connections

for script in (drip, drip_head, silence):
    with serving(script) as server:
        started = time.monotonic()
        with pytest.raises(egress.TimedOut) as caught:
            call(server.url(), timeout_seconds=0.3)
        assert caught.value.sent and time.monotonic() - started < 2

# TLS records that come byte by byte
file, context = certificate(Path(sys.argv[1]), "localhost")
import os; os.environ["SSL_CERT_FILE"] = str(file)
def drip_tls(peer, server):
    import ssl
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(inward, outward, server_side=True)
    def flush(slow=False):
        data = outward.read()
        for part in ([data[i:i+1] for i in range(len(data))] if slow else [data]):
            peer.sock.sendall(part)
            if slow: time.sleep(0.02)
    while True:
        try:
            tls.do_handshake(); break
        except ssl.SSLWantReadError:
            flush(); inward.write(peer.sock.recv(65536))
    flush(); peer.sock.recv(65536)
    tls.write(bytes(16000)); flush(slow=True)
with serving(drip_tls) as server:
    started = time.monotonic()
    with pytest.raises(egress.TimedOut) as caught:
        call(server.url(scheme="https", host="localhost"), timeout_seconds=0.5)
    assert caught.value.sent and time.monotonic() - started < 2
with serving(lambda peer, server: time.sleep(5)) as server:
    started = time.monotonic()
    with pytest.raises(egress.ConnectFailed):
        call(server.url(scheme="https", host="localhost"), connect_timeout_seconds=0.3)
    assert time.monotonic() - started < 2

# a caller's own time limit passes through, and its connection is not used again
with serving(silence) as server:
    with gevent.Timeout(0.2, False):
        call(server.url())
        raise AssertionError
    started = time.monotonic()
    with pytest.raises(egress.TimedOut):
        call(server.url(), timeout_seconds=0.3)
    assert server.connections == 2
# a killed greenlet leaves no connection that could bring its answer to somebody else
with serving(silence) as server:
    victim = gevent.spawn(call, server.url())
    while not server.connections:
        gevent.sleep(0.01)
    victim.kill()
    with pytest.raises(egress.TimedOut):
        call(server.url(), timeout_seconds=0.3)
    assert server.connections == 2
# a stream's time runs on while nobody waits for its next piece, and interrupts nothing else meanwhile
with serving(drip) as server:
    with egress.stream("GET", server.url(), timeout_seconds=0.4) as stream:
        next(stream)
        started = time.monotonic()
        gevent.sleep(0.6)
        assert time.monotonic() - started > 0.59
        with pytest.raises(egress.TimedOut):
            next(stream)
    started = time.monotonic()
    with egress.stream("GET", server.url(), timeout_seconds=0.4) as stream, pytest.raises(egress.TimedOut):
        for piece in stream:
            gevent.sleep(0.01)
    assert 0.3 < time.monotonic() - started < 5
print("done")
"""


def test_the_same_under_gevent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_SERVICE_EGRESS_ALLOW", "127.0.0.0/8,::1/128")
    root = Path(__file__).parents[2]

    done = subprocess.run(
        [sys.executable, "-c", UNDER_GEVENT, str(tmp_path)], cwd=root, capture_output=True, text=True, timeout=60
    )

    assert done.stdout.strip().endswith("done"), done.stderr
