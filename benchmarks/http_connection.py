"""A connection of the load generator: HTTP/1.1 read on a raw socket, only as far as its framing and its events go."""

from __future__ import annotations

import asyncio
import time
from typing import Any

_LAST_CHUNK = b"0\r\n\r\n"
#: in the event that says why an answer ended
_FINISHED = b'"finish_reason":"'


class Connection(asyncio.Protocol):
    """One keep-alive connection, one call at a time; the answer is read as far as its framing and its events go."""

    def __init__(self) -> None:
        self.transport: Any = None
        self._done: asyncio.Future[None] | None = None
        self._missing = 0
        self._chunked = False
        #: of the call being made: when its first event came, or 0; when its last piece came
        self.first_event_at = 0.0
        self._last_piece_at = 0.0
        self.events = 0
        #: of a stream: when the last piece before its end came, or 0; when it ended
        self.end_began_at = self.ended_at = 0.0
        #: times between pieces of a stream; None: they are not asked for
        self.gaps: list[float] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error or ConnectionError("the connection was closed before the answer's end"))

    def call(self, request: bytes) -> asyncio.Future[None]:
        """Send it; done when the whole answer is there."""
        self.first_event_at = self._last_piece_at = 0.0
        self._missing, self._chunked = 0, False
        self._done = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._done

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
            over = self._missing <= 0
        elif self._chunked:
            over = self._event(data)
        else:
            over = self._head(data)
        if over and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _head(self, data: bytes) -> bool:
        """The start of an answer; heads come in one piece from every contender."""
        end = data.find(b"\r\n\r\n")
        if end < 0 or not data.startswith(b"HTTP/1.1 200"):
            self._fail(data)
            return False
        head = data[:end].lower()
        at = head.find(b"content-length:")
        if at < 0:
            self._chunked = True
            return self._event(data[end + 4 :])
        self._missing = end + 4 + int(head[at + 15 :].split(b"\r", 1)[0]) - len(data)
        return self._missing <= 0

    def _event(self, data: bytes) -> bool:
        """A piece of a chunked answer."""
        if b"data:" in data:
            now = time.perf_counter()
            if not self.first_event_at:
                self.first_event_at = now
            elif self.gaps is not None and not self.end_began_at:
                if _FINISHED in data:
                    self.end_began_at = self._last_piece_at
                else:
                    self.gaps.append(now - self._last_piece_at)
            self._last_piece_at = now
            if self.gaps is not None:
                self.events += data.count(b"data:")
            if b'"error"' in data:
                self._fail(data)
        return data.endswith(_LAST_CHUNK)

    def _fail(self, data: bytes) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(RuntimeError(f"answered {data[:1000]!r}"))
