"""HTTP/1.1 on a socket: parses requests with httptools, answers them in order, and breaks connections on purpose."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol

import httptools

#: Anthropic's limit for a request to Messages, used for both vendors (PROVIDERS.md 4.3)
MAX_BODY_BYTES = 32 * 1024 * 1024

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Site is overloaded"}
_STATUS_LINES = {status: f"HTTP/1.1 {status} {reason}\r\n".encode() for status, reason in _REASONS.items()}
#: the only headers that any surface reads; the rest is not kept
_KEPT = frozenset({b"authorization", b"x-api-key", b"anthropic-version", b"anthropic-beta", b"content-type", b"host"})
_LINGER_ZERO = struct.pack("ii", 1, 0)


class Request:
    """One parsed request. Header names are lower-case bytes; `body` is whole, or went into `upload` as it came."""

    __slots__ = ("body", "headers", "keep_alive", "method", "path", "query", "too_large", "upload")

    def __init__(self) -> None:
        self.method = ""
        self.path = ""
        self.query = ""
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.keep_alive = True
        self.too_large = False
        self.upload: Upload | None = None


class Upload(Protocol):
    """Takes a large body piece by piece, so that the connection need not hold it."""

    def feed(self, data: bytes) -> None: ...


class InFlight(Protocol):
    """What a connection tells when its client has gone while an answer was due."""

    def abandon(self) -> None: ...


class _Clock:
    """The Date header's line, made once a second."""

    def __init__(self) -> None:
        self.second = 0
        self.line = b""

    def date(self) -> bytes:
        now = int(time.time())
        if now != self.second:
            self.second = now
            self.line = b"date: " + formatdate(now, usegmt=True).encode() + b"\r\n"
        return self.line


_clock = _Clock()


def head(status: int, content_type: bytes, extra: bytes = b"", length: int | None = None) -> bytes:
    """The bytes up to the blank line. `extra`: whole header lines. No length: the body follows in chunks."""
    size = b"transfer-encoding: chunked\r\n" if length is None else b"content-length: %d\r\n" % length
    line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d Status\r\n" % status
    return b"%bcontent-type: %b\r\n%b%b%b\r\n" % (line, content_type, _clock.date(), extra, size)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client's connection. Pipelined requests wait until the one before them is answered."""

    __slots__ = (
        "_body",
        "_request",
        "_size",
        "_waiting",
        "busy",
        "call",
        "dispatch",
        "full",
        "keep_alive",
        "loop",
        "parser",
        "receive",
        "room",
        "transport",
    )

    def __init__(
        self,
        dispatch: Callable[[Connection, Request], None],
        loop: asyncio.AbstractEventLoop,
        receive: Callable[[Request], Upload | None] = lambda _: None,
    ) -> None:
        self.dispatch = dispatch
        #: told of each request's head; may name what takes its body
        self.receive = receive
        self.loop = loop
        self.parser: Any = None
        self.transport: Any = None
        #: the inference call that is being answered, told when the client goes away
        self.call: InFlight | None = None
        self.busy = False
        self.keep_alive = True
        #: the client reads more slowly than it is sent to; `room` is called once when that has ended
        self.full = False
        self.room: Callable[[], None] | None = None
        self._request: Any = None
        self._body: bytes | bytearray = b""
        self._size = 0
        self._waiting: deque[Request] | None = None

    # -- asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        # The parser holds this object: without this line only the cycle collector frees either.
        self.parser = None
        call, self.call = self.call, None
        self.room = None
        if call is not None:
            call.abandon()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        room, self.room = self.room, None
        if room is not None:
            room()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return
        except httptools.HttpParserError:
            if self.transport is not None:
                body = b"Bad Request"
                self.transport.write(head(400, b"text/plain", b"connection: close\r\n", len(body)) + body)
                self.transport.close()

    # -- httptools' callbacks

    def on_message_begin(self) -> None:
        self._request = Request()
        self._body = b""
        self._size = 0

    def on_url(self, url: bytes) -> None:
        path, _, query = url.decode("latin-1").partition("?")
        self._request.path += path
        self._request.query += query

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _KEPT:
            self._request.headers[name] = value
        elif name == b"expect" and value.lower() == b"100-continue" and self.transport is not None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_headers_complete(self) -> None:
        self._request.method = self.parser.get_method().decode("latin-1")
        self._request.upload = self.receive(self._request)

    def on_body(self, data: bytes) -> None:
        if self._request.upload is not None:
            self._request.upload.feed(data)
            return
        self._size += len(data)
        if self._size > MAX_BODY_BYTES:
            self._body = b""
        elif not self._body:
            self._body = data
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += data

    def on_message_complete(self) -> None:
        request, self._request = self._request, None
        request.keep_alive = self.parser.should_keep_alive()
        request.body, self._body = self._body, b""
        request.too_large = self._size > MAX_BODY_BYTES
        if self.busy:
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append(request)
        else:
            self._start(request)

    def _start(self, request: Request) -> None:
        self.busy = True
        self.keep_alive = request.keep_alive
        self.dispatch(self, request)

    # -- answering

    def write(self, data: bytes) -> None:
        """Send bytes of the answer; silently nothing when the client has gone."""
        if self.transport is not None:
            self.transport.write(data)

    def finish(self) -> None:
        """The answer is complete: take the next request, or close if that is what was agreed."""
        self.call = None
        self.busy = False
        if self.transport is None:
            return
        if not self.keep_alive:
            self.transport.close()
        elif self._waiting:
            # By way of the loop: a long pipeline must not become deep recursion.
            self.busy = True
            self.loop.call_soon(self._next)

    def _next(self) -> None:
        if self._waiting and self.transport is not None:
            self._start(self._waiting.popleft())

    def close(self) -> None:
        """Close in order: what was written is sent, then FIN."""
        self.call = None
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """Break the connection: RST, so that the client sees a reset and not an end."""
        self.call = None
        if self.transport is None:
            return
        # uvloop hands out no real socket; the option belongs to the open file, so a duplicate sets it as well.
        duplicate = socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))
        try:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        finally:
            duplicate.close()
        self.transport.abort()
