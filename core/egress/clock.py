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
def _gevent_timeout() -> Any:
    """gevent's Timeout if this process's sockets are gevent's, else None."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("socket"):
        return None
    from gevent import Timeout

    return Timeout


class Clock:
    """Runs out at `ends_at` (monotonic seconds). Inside `with clock:`, waiting beyond that raises TimedOut.

    Under gevent a timer interrupts whatever the greenlet waits for, because gevent's own time-outs of TLS sockets
    begin anew with every byte. Without gevent each operation on a socket gets what is left (`arm`): Python's own
    sockets hold that over the whole operation.

    `sent` is what TimedOut will say; whoever sends the request sets it.
    """

    __slots__ = ("_timer", "ends_at", "sent")

    def __init__(self, seconds: float) -> None:
        self.ends_at = time.monotonic() + seconds
        self.sent = False
        self._timer: Any = None

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

    def __enter__(self) -> Clock:
        timeout = _gevent_timeout()
        if timeout is not None:
            self._timer = timeout.start_new(self.left())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.close()
        if error is not None and (error is timer or isinstance(error, TimeoutError)):
            raise TimedOut(sent=self.sent) from None
