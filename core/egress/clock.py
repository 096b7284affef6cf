"""The wall-clock limit of one call: it holds however slowly the bytes come, under gevent and under plain threads."""

from __future__ import annotations

import sys
import time
from functools import lru_cache
from socket import socket
from types import TracebackType
from typing import Any

from core.egress.errors import TimedOut


@lru_cache(maxsize=1)
def _gevent() -> Any:
    """gevent if this process's sockets are gevent's, else None."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("socket"):
        return None
    import gevent

    return gevent


class _Rung(BaseException):
    """Raised in the greenlet that waits when the time has run out; it leaves the clock's block as TimedOut."""


class Clock:
    """Runs out at `ends_at` (monotonic seconds). Inside `with clock:`, waiting beyond that raises TimedOut.

    Under gevent a timer interrupts whatever the greenlet waits for, because gevent's own time-outs of TLS sockets
    begin anew with every byte. Without gevent each operation on a socket gets what is left (`arm`): Python's own
    sockets hold that over the whole operation.

    `sent` is what TimedOut will say; whoever sends the request sets it. With `lasting` the timer runs on between one
    block and the next, where it does nothing, until `stop`: one for each piece of a stream would cost more than it.
    """

    __slots__ = ("_rings_at", "_rung", "_timer", "_waiting", "ends_at", "lasting", "sent")

    def __init__(self, seconds: float) -> None:
        self.ends_at = time.monotonic() + seconds
        self.sent = False
        self.lasting = False
        self._timer: Any = None
        self._rings_at = 0.0
        #: the greenlet inside the block
        self._waiting: Any = None
        self._rung: _Rung | None = None

    def left(self) -> float:
        """Seconds left; TimedOut when there are none."""
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise TimedOut(sent=self.sent)
        return left

    def arm(self, sock: socket) -> None:
        """Give the next operation on this socket what is left of the time."""
        if self._timer is None:
            sock.settimeout(self.left())

    def stop(self) -> None:
        """Nobody waits by this clock any more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()
            timer.close()

    def __enter__(self) -> Clock:
        gevent = _gevent()
        if gevent is not None:
            left = self.left()
            if self._timer is None or self.ends_at < self._rings_at:
                self._start(left)
            self._waiting = gevent.getcurrent()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._waiting = None
        if not self.lasting:
            self.stop()
        if error is not None and (error is self._rung or isinstance(error, TimeoutError)):
            raise TimedOut(sent=self.sent) from None

    def _start(self, seconds: float) -> None:
        self.stop()
        self._rings_at = self.ends_at
        self._timer = _gevent().get_hub().loop.timer(seconds)
        self._timer.start(self._ring)

    def _ring(self) -> None:
        """Called by the event loop; early if the end was put off, or if the loop's own time was behind."""
        left = self.ends_at - time.monotonic()
        if left > 0:
            self._start(max(left, 0.001))
            return
        self.stop()
        if self._waiting is not None:
            self._rung = _Rung()
            self._waiting.throw(self._rung)
