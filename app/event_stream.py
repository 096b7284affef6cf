"""Answers that arrive bit by bit: server-sent events sent on as they come, with signs of life in between."""

from __future__ import annotations

import contextvars
import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.queue
from flask import Response, request

from app.telemetry import request_id
from core.errors import ServiceError
from core.providers.sse import KEEP_ALIVE, event
from core.streaming import CallerGone

log = logging.getLogger(__name__)

#: Seconds of silence after which a comment keeps proxies and callers from giving up.
KEEP_ALIVE_SECONDS = 15.0
#: How often a silent stream looks whether its caller is still there, in seconds.
_LOOK_SECONDS = 1.0
#: Pieces that wait for a caller who reads slowly; then the provider waits, too.
_WAITING_PIECES = 8
#: A caller who takes nothing for so long has gone, whatever his connection says.
_STALLED_SECONDS = 60.0

_HEADERS = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}
_ENDED = object()


def error_line(error: Exception) -> bytes:
    """The event that says why there will be no more."""
    message = error.detail if isinstance(error, ServiceError) else "The service failed; report it with the request id."
    kind = getattr(error, "reason", "server_error")
    return event({"error": {"message": message, "type": str(kind), "param": None, "code": None}})


def stream(
    events: Iterator[bytes],
    *,
    error_line: Callable[[Exception], bytes] = error_line,
    keep_alive: bytes = KEEP_ALIVE,
) -> Response:
    """The answer to a request with `stream: true`, once there is something to send.

    What `events` raises before its first piece is raised here and becomes an ordinary error, unless that takes longer
    than KEEP_ALIVE_SECONDS: then the answer has begun with a comment, and the error is its last event. When the caller
    goes away, CallerGone is raised in `events` wherever it waits.

    Parameters
    ----------
    error_line : makes that last event.
    keep_alive : what is sent in a silence.
    """
    sending = _Sending(events, request.environ.get("gunicorn.socket"), error_line, keep_alive)
    sending.begin()
    # Straight to the server: these are bytes, and `sending` closes itself.
    return Response(sending, mimetype="text/event-stream", headers=_HEADERS, direct_passthrough=True)


class _Sending:
    """The body of a streamed answer: `events` run in a greenlet of their own, so that silence can be noticed."""

    def __init__(
        self,
        events: Iterator[bytes],
        sock: Any,
        error_line: Callable[[Exception], bytes],
        keep_alive: bytes,
    ) -> None:
        self._sock = sock
        self._error_line = error_line
        self._keep_alive = keep_alive
        self._request_id = request_id()
        self._pieces: gevent.queue.Queue[Any] = gevent.queue.Queue(_WAITING_PIECES)
        #: taken from the queue and not given yet
        self._held: list[Any] = []
        self._over = False
        #: since when a piece is waited for (monotonic seconds); 0: the caller is being sent one
        self._silent_since = 0.0
        if sock is not None:
            sock.settimeout(_STALLED_SECONDS)
        # What the request's log lines and spans know, its greenlet knows too.
        self._reader = gevent.spawn(contextvars.copy_context().run, self._read, events)
        _watch(self)

    def begin(self) -> None:
        """Wait for the first piece; raises what came in its place."""
        try:
            first = self._get()
            if isinstance(first, Exception):
                raise first
        except BaseException:
            self.close()
            raise
        self._held.insert(0, first)

    def __iter__(self) -> _Sending:
        return self

    def __next__(self) -> bytes:
        if self._over:
            raise StopIteration
        piece = self._held.pop(0) if self._held else self._get()
        if isinstance(piece, bytes):
            return piece
        self._over = True
        if piece is _ENDED:
            raise StopIteration
        log.warning("a stream failed after it had begun: %s", piece, extra={"request_id": self._request_id})
        return self._error_line(piece)

    def close(self) -> None:
        """The server calls this when the answer is over, for whatever reason."""
        self._over = True
        _open.discard(self)
        self._reader.kill(CallerGone, block=False)
        if self._sock is not None:
            try:
                self._sock.settimeout(None)
            except OSError:
                return

    def look(self, now: float) -> None:
        """If nothing came for a while: is the caller still there, and has he heard of us lately?"""
        if not self._silent_since or not self._pieces.empty():
            return
        if _has_gone(self._sock):
            self.close()
            self._pieces.put_nowait(_ENDED)
        elif now - self._silent_since >= KEEP_ALIVE_SECONDS:
            self._pieces.put_nowait(self._keep_alive)

    def _read(self, events: Iterator[bytes]) -> None:
        try:
            for piece in events:
                self._pieces.put(piece)
            self._pieces.put(_ENDED)
        except Exception as error:
            self._pieces.put(error)
        except CallerGone:
            return
        finally:
            close = getattr(events, "close", None)
            if close is not None:
                close()

    def _get(self) -> Any:
        """What comes next; pieces that have gathered meanwhile go out together."""
        self._silent_since = time.monotonic()
        piece = self._pieces.get()
        self._silent_since = 0.0
        if not isinstance(piece, bytes) or self._pieces.empty():
            return piece
        gathered = [piece]
        while not self._pieces.empty():
            more = self._pieces.get_nowait()
            if not isinstance(more, bytes):
                self._held.append(more)
                break
            gathered.append(more)
        return b"".join(gathered)


#: The streamed answers of this process that are on their way. One greenlet looks after all of them: a timer for each
#: piece of each would cost more than the piece.
_open: set[_Sending] = set()
_watcher: gevent.Greenlet | None = None


def _watch(sending: _Sending) -> None:
    global _watcher
    _open.add(sending)
    if _watcher is None or _watcher.dead:
        _watcher = gevent.spawn(_look_after_all)


def _look_after_all() -> None:
    while _open:
        gevent.sleep(_LOOK_SECONDS)
        now = time.monotonic()
        for sending in list(_open):
            sending.look(now)


def _has_gone(sock: Any) -> bool:
    """True if the caller has closed the connection. Looks without waiting and takes nothing from it."""
    plain = getattr(sock, "_sock", None)
    if plain is None:
        return False
    try:
        return plain.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
