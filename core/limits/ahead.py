"""Permits taken ahead: while live calls follow each other closely, one round trip to Redis brings the next few too.

Only what lies about unused is taken (acquire.lua: the upper half of each bucket and of the slots), only for some tens
of milliseconds, and what is not used goes back. So the limits hold as without it, and where they are tight each call
asks for itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from core.limits.tuning import MOST_AHEAD
from core.limits.types import Configured, LimitKey

#: As many as come within this time, and they are kept for so long.
_AHEAD_SECONDS = 0.05
_KEPT_SECONDS = 0.1
#: A call may use the permit of one that estimated down to half as many tokens; the difference is settled at once.
_LARGER_BY = 2
#: A longer time between two calls tells no more than this.
_LONGEST_GAP_SECONDS = 1.0
_GAP_WEIGHT = 0.1
#: Keys that are remembered. Families are names that callers choose.
_MOST_KEYS = 4096


@dataclass(slots=True)
class _Pace:
    """How closely the calls of a key follow each other."""

    last: float
    gap_seconds: float = _LONGEST_GAP_SECONDS


@dataclass(slots=True)
class Kept:
    """Permits of one key that nobody uses yet, each with the tokens that were taken for it."""

    configured: Configured
    input_tokens: int
    output_tokens: int
    count: int
    until: float
    #: how the limits stood, for `Meter`
    said: str


class Ahead:
    """The permits that one process has taken ahead."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paces: dict[LimitKey, _Pace] = {}
        self._kept: dict[LimitKey, Kept] = {}

    def use(self, key: LimitKey, configured: Configured, input_tokens: int, output_tokens: int) -> Kept | None:
        """One of the permits kept, if they are for such a call: what was taken for it."""
        now = time.monotonic()
        with self._lock:
            self._note(key, now)
            kept = self._kept.get(key)
            if (
                kept is None
                or now > kept.until
                or kept.configured != configured
                or input_tokens > kept.input_tokens * _LARGER_BY
                or output_tokens > kept.output_tokens * _LARGER_BY
            ):
                return None
            kept.count -= 1
            if not kept.count:
                del self._kept[key]
            return kept

    def wanted(self, key: LimitKey) -> int:
        """How many to take ahead with the call that asks now."""
        with self._lock:
            pace = self._paces.get(key)
            if pace is None or key in self._kept:
                return 0
            return min(MOST_AHEAD, int(_AHEAD_SECONDS / max(pace.gap_seconds, 1e-6)))

    def keep(
        self, key: LimitKey, configured: Configured, input_tokens: int, output_tokens: int, count: int, said: str
    ) -> bool:
        """Keep what was taken ahead; False if there is some already, and this has to go back."""
        with self._lock:
            if key in self._kept:
                return False
            until = time.monotonic() + _KEPT_SECONDS
            self._kept[key] = Kept(configured, input_tokens, output_tokens, count, until, said)
            return True

    def expired(self) -> list[tuple[LimitKey, Kept]]:
        """Take out what has been kept for too long, to be given back."""
        if not self._kept:
            return []
        now = time.monotonic()
        with self._lock:
            return self._take(key for key, kept in self._kept.items() if now > kept.until)

    def of(self, connection_id: UUID) -> list[tuple[LimitKey, Kept]]:
        """Take out all of a connection that rests or may be down."""
        if not self._kept:
            return []
        with self._lock:
            return self._take(key for key in self._kept if key.connection_id == connection_id)

    def any(self) -> bool:
        """True while something is kept."""
        return bool(self._kept)

    def _take(self, keys: Iterable[LimitKey]) -> list[tuple[LimitKey, Kept]]:
        return [(key, self._kept.pop(key)) for key in list(keys)]

    def _note(self, key: LimitKey, now: float) -> None:
        pace = self._paces.get(key)
        if pace is None:
            if len(self._paces) >= _MOST_KEYS:
                self._paces.clear()
            self._paces[key] = _Pace(now)
            return
        gap = min(_LONGEST_GAP_SECONDS, now - pace.last)
        pace.gap_seconds += (gap - pace.gap_seconds) * _GAP_WEIGHT
        pace.last = now
