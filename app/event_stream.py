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
    """The body of a streamed answer.

    The first piece is read in a greenlet of its own, so that an answer can begin with signs of life; all that follow
    are read and sent by the request's own greenlet, for a turn of the event loop would cost more than a piece does.
    """

    def __init__(
        self,
        events: Iterator[bytes],
        sock: Any,
        error_line: Callable[[Exception], bytes],
        keep_alive: bytes,
    ) -> None:
        self._events = events
        self._sock = sock
        self._error_line = error_line
        self._keep_alive = keep_alive
        self._request_id = request_id()
        self._greenlet: Any = gevent.getcurrent()
        #: the server's answer, for signs of life between pieces
        self._answer: Any = getattr(self._greenlet, "answer", None)
        #: the first piece, or what came in its place; signs of life before it
        self._first: gevent.queue.SimpleQueue[Any] = gevent.queue.SimpleQueue()
        #: taken from there and not given yet
        self._held: Any = None
        self._over = False
        #: since when a piece is waited for (monotonic seconds); 0: the caller is being sent one
        self._silent_since = 0.0
        if sock is not None:
            sock.settimeout(_STALLED_SECONDS)
        # What the request's log lines and spans know, the reading of its events knows too, wherever it is done.
        self._context = contextvars.copy_context()
        #: None when the first piece has come
        self._reader: gevent.Greenlet | None = gevent.spawn(self._read_first)
        _watch(self)

    def begin(self) -> None:
        """Wait for the first piece; raises what came in its place."""
        try:
            first = self._wait_for_first()
            if isinstance(first, Exception):
                raise first
        except BaseException:
            self.close()
            raise
        self._held = first

    def __iter__(self) -> _Sending:
        return self

    def __next__(self) -> bytes:
        if self._over:
            raise StopIteration
        piece, self._held = self._held, None
        if piece is None:
            piece = self._wait_for_first() if self._reader is not None else self._next()
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
        if self._reader is not None and not self._reader.ready():
            self._reader.kill(CallerGone, block=False)
        else:
            self._end_events()
        if self._sock is not None:
            try:
                self._sock.settimeout(None)
            except OSError:
                return

    def look(self, now: float) -> None:
        """If nothing came for a while: is the caller still there, and has he heard of us lately?"""
        if not self._silent_since:
            return
        if _has_gone(self._sock):
            if self._reader is not None:
                self.close()
                self._first.put(_ENDED)
            else:
                gevent.get_hub().loop.run_callback(self._leave)
        elif now - self._silent_since >= KEEP_ALIVE_SECONDS:
            if self._reader is not None:
                self._first.put(self._keep_alive)
            elif self._answer is not None:
                self._answer.interject(self._keep_alive)
                self._silent_since = now

    def _leave(self) -> None:
        """Called by the event loop: the caller has gone, unless a piece has come at last."""
        if self._silent_since:
            self._greenlet.throw(CallerGone)

    def _read_first(self) -> None:
        try:
            piece = self._context.run(next, self._events, _ENDED)
        except Exception as error:
            piece = error
        except CallerGone:
            return
        self._first.put(piece)

    def _wait_for_first(self) -> Any:
        """The first piece, or a sign of life in its place."""
        self._silent_since = time.monotonic()
        piece = self._first.get()
        self._silent_since = 0.0
        if piece is not self._keep_alive:
            self._reader = None
        return piece

    def _next(self) -> Any:
        """What comes next, read in this greenlet."""
        self._silent_since = time.monotonic()
        try:
            return self._context.run(next, self._events, _ENDED)
        except CallerGone:
            return _ENDED
        except Exception as error:
            return error
        finally:
            self._silent_since = 0.0

    def _end_events(self) -> None:
        """Tell events that stand at a piece that nobody takes another; those that have ended do not mind."""
        throw = getattr(self._events, "throw", None)
        if throw is None:
            return
        try:
            self._context.run(throw, CallerGone)
        except (CallerGone, StopIteration):
            return
        except Exception:
            log.exception("a stream could not be ended", extra={"request_id": self._request_id})


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
