"""Whether workers' heartbeats could arrive lately: judged by whether this scheduler's own questions were answered."""

from __future__ import annotations

import time
from collections.abc import Callable

#: A longer time without an answer of the database is a gap: it was down, frozen, or cut off from here.
GAP_SECONDS = 5.0


class Contact:
    """How long the database has answered this process without a gap. A scheduler that stands by keeps count as well.

    Parameters
    ----------
    clock : monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard_at: float | None = None
        #: the end of the last gap
        self._since: float | None = None

    def heard(self) -> None:
        """The database has answered; to be called about once a second."""
        now = self._clock()
        if self._heard_at is not None and now - self._heard_at > GAP_SECONDS:
            self._since = now
        self._heard_at = now

    def steady_for(self, seconds: float) -> bool:
        """Whether there was no gap in these last seconds; a process that is younger than that knows of none."""
        now = self._clock()
        if self._heard_at is None or now - self._heard_at > GAP_SECONDS:
            return False
        return self._since is None or now - self._since >= seconds
