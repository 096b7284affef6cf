"""A batch as both vendors run it: checked, run, finished, cancelled or expired, by a clock that tests drive."""

from __future__ import annotations

import math
import random
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from simulator.native.blob import Blob, Lines

if TYPE_CHECKING:
    from simulator.config import BatchSpeed
    from simulator.native.state import Native

#: how long one batch works before others have their turn
_SLICE_SECONDS = 0.004
#: counts move at most so often
_STEP_SECONDS = 0.05
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class Batch(ABC):
    """Rows of `input`, for the key that made it.

    validating -> in_progress -> finalizing -> completed, or failed (after validating), expired, or cancelling ->
    cancelled. `at` has when each state began, in seconds of the native clock. What a state's time has come for is
    reckoned from those moments and not from when this process got round to it, so that a leap of the clock gives the
    same outcome as waiting.
    """

    vendor = ""
    prefix = ""

    def __init__(self, native: Native, key: str, source: Blob, speed: BatchSpeed) -> None:
        self.native = native
        self.id = f"{self.prefix}{native.simulation.number()}"
        self.key = key
        self.speed = speed
        self.state = "validating"
        self.created = native.now()
        self.at = {"validating": self.created}
        self.expires = self.created + speed.expires_after_seconds
        self.total = 0
        #: rows dealt with, and those that came to nothing because time or the caller ended the batch
        self.taken = self.swept = 0
        self.random = random.Random(self.id) if speed.shuffle else None
        self._source: Blob | None = source
        self._lines: Lines | None = None
        #: there is work that its time has come for
        self.behind = True

    # -- what a vendor does its own way

    @abstractmethod
    def validate(self, until: float) -> bool:
        """Check the input until the perf_counter says `until`; True when done. Ends in `failed` by calling `end`."""

    @abstractmethod
    def take(self, line: bytes) -> None:
        """Run the row."""

    @abstractmethod
    def sweep(self, line: bytes, state: str) -> None:
        """The row will not run, as the batch is `expired` or `cancelled`."""

    @abstractmethod
    def finished(self) -> None:
        """The batch has ended: make its results available."""

    # -- running

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def cancel(self) -> None:
        """Ask it to stop: rows whose time has come still run."""
        self._enter("cancelling", self.native.now())
        self.native.wake(self)

    def step(self, now: float) -> float | None:
        """Do a slice of what is due at `now`. Answers when to go on: `now` for at once, None for never."""
        if self.state == "validating":
            ready = self.created + self.speed.validation_seconds
            if now < ready:
                return ready
            if not self.validate(time.perf_counter() + _SLICE_SECONDS):
                return now
            if self.ended:
                return None
            self._enter("in_progress", ready)
        if self.state == "finalizing":
            return self._finalize(now)
        ends = min(self.expires, self.at.get("cancelling", math.inf))
        target = self._due(min(now, ends))
        if self.taken < target:
            self._work(target)
            return now
        if self.state == "cancelling":
            ready = self.at["cancelling"] + self.speed.cancelling_seconds
            return ready if now < ready else self._leave("cancelled", ready, now)
        if self.taken == self.total:
            self._enter("finalizing", min(now, self._time_of(self.total)))
            return self._finalize(now)
        if now >= self.expires:
            return self._leave("expired", self.expires, now)
        if target >= self._most():
            return self.expires
        return min(max(self._time_of(target + 1), now + _STEP_SECONDS), self.expires)

    def lines(self) -> Lines:
        """The input, as far as it was not yet read."""
        if self._lines is None:
            assert self._source is not None
            self._lines = Lines(self._source)
        return self._lines

    def rewind(self) -> None:
        """The next line is the first again."""
        self._lines = None

    def end(self, state: str, when: float) -> None:
        """The last state. The input is let go of."""
        self._enter(state, when)
        self.finished()
        self._source = self._lines = None

    def _enter(self, state: str, when: float) -> None:
        self.state = state
        self.at[state] = when

    def _finalize(self, now: float) -> float | None:
        ready = self.at["finalizing"] + self.speed.finalizing_seconds
        if now < ready:
            return ready
        self.end("completed", ready)
        return None

    def _leave(self, state: str, when: float, now: float) -> float | None:
        """Sweep up the rows that are left, in slices, and end."""
        until = time.perf_counter() + _SLICE_SECONDS
        while self.taken + self.swept < self.total:
            line = self.lines().take()
            assert line is not None
            self.sweep(line, state)
            self.swept += 1
            if time.perf_counter() > until:
                return now
        self.end(state, when)
        return None

    def _work(self, target: int) -> None:
        until = time.perf_counter() + _SLICE_SECONDS
        lines = self.lines()
        while self.taken < target:
            line = lines.take()
            assert line is not None
            self.take(line)
            self.taken += 1
            if time.perf_counter() > until:
                return

    def _seconds(self) -> float:
        """How long all rows take."""
        rate = self.speed.rows_per_second
        return max(self.speed.seconds, self.total / rate if rate else 0.0)

    def _most(self) -> int:
        return self.total if self.speed.stuck is None else int(self.total * self.speed.stuck)

    def _due(self, when: float) -> int:
        """How many rows are done at that time."""
        begun = self.at.get("in_progress", math.inf)
        if when < begun:
            return 0
        seconds = self._seconds()
        # A crumb more: the time of row n must give n rows.
        due = self.total if seconds <= 0 else int(self.total * (when - begun) / seconds + 1e-6)
        return max(self.taken, min(due, self._most()))

    def _time_of(self, rows: int) -> float:
        """When so many rows are done."""
        return self.at["in_progress"] + (self._seconds() * rows / self.total if self.total else 0.0)
