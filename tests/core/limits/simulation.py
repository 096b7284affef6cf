"""A provider with limits, a batch and live callers, in a time that only the simulation moves."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from uuid import uuid4

import redis

from core.limits import Configured, Limiter, LimitKey, Meter
from core.limits.feedback import Feedback
from core.providers.types import LimitReading, Usage

START = 1_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class TokenBucket:
    """Refilled continuously, holds `burst_seconds` of its rate."""

    def __init__(self, per_minute: float, burst_seconds: float = 60.0) -> None:
        self.per_minute = per_minute
        self.burst_seconds = burst_seconds
        self.level = per_minute / 60 * burst_seconds
        self.at = START

    def admit(self, now: float, units: float = 1.0) -> float:
        """Seconds to wait; 0: taken."""
        rate = self.per_minute / 60
        self.level = min(rate * self.burst_seconds, self.level + (now - self.at) * rate)
        self.at = now
        if self.level + 1e-6 < units:
            return (units - self.level) / rate
        self.level -= units
        return 0.0

    def remaining(self, now: float) -> int:
        return int(self.level)


class SlidingWindow:
    """No sixty seconds hold more than the limit."""

    def __init__(self, per_minute: float) -> None:
        self.per_minute = per_minute
        self.taken: deque[tuple[float, float]] = deque()
        self.sum = 0.0

    def admit(self, now: float, units: float = 1.0) -> float:
        self._forget(now)
        if self.sum + units > self.per_minute:
            return self.taken[0][0] + 60 - now if self.taken else 1.0
        self.taken.append((now, units))
        self.sum += units
        return 0.0

    def remaining(self, now: float) -> int:
        self._forget(now)
        return int(self.per_minute - self.sum)

    def _forget(self, now: float) -> None:
        while self.taken and self.taken[0][0] <= now - 60:
            self.sum -= self.taken.popleft()[1]


class FixedWindow:
    """The limit anew on every full minute of the clock."""

    def __init__(self, per_minute: float) -> None:
        self.per_minute = per_minute
        self.window = 0.0
        self.taken = 0.0

    def admit(self, now: float, units: float = 1.0) -> float:
        """Seconds to wait; 0: taken."""
        self._turn(now)
        if self.taken + units > self.per_minute:
            return self.window + 60 - now
        self.taken += units
        return 0.0

    def remaining(self, now: float) -> int:
        self._turn(now)
        return max(0, int(self.per_minute - self.taken))

    def _turn(self, now: float) -> None:
        window = now // 60 * 60
        if window > self.window:
            self.window, self.taken = window, 0.0


Provider = TokenBucket | SlidingWindow | FixedWindow


@dataclass
class Outcome:
    """What the simulation saw."""

    calls: int = 0
    refused: int = 0
    done_at: float = 0.0
    #: when calls were refused, and when the provider took them on
    refused_at: list[float] = field(default_factory=list)
    admitted_at: list[float] = field(default_factory=list)
    batch_started: list[float] = field(default_factory=list)
    live_waits: list[float] = field(default_factory=list)
    live_over_limit: int = 0

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.calls)

    def p95_live_wait(self) -> float:
        waits = sorted(self.live_waits)
        return waits[int(0.95 * (len(waits) - 1))]


class Simulation:
    """Runs `limiter` against a provider: the scheduler asks every tick, answers come after a latency.

    Parameters
    ----------
    headers : answers tell the limit and what is left of it, and 429s when to come back.
    retry_after : 429s tell that even without headers.
    jitter_seconds : calls start up to so much later than they were granted.
    refusal_seconds : how long a 429 takes.
    processes : so many make the calls, each telling Redis of its own, at moments apart.
    """

    def __init__(
        self,
        client: redis.Redis,
        provider: Provider | None,
        configured: Configured,
        *,
        headers: bool = True,
        retry_after: bool = False,
        latency_seconds: float = 0.5,
        jitter_seconds: float = 0.02,
        refusal_seconds: float = 0.01,
        tick_seconds: float = 0.05,
        processes: int = 1,
        family: str = "gpt-4o",
        down: Callable[[float], bool] = lambda now: False,
    ) -> None:
        self.clock = Clock()
        self.limiter = Limiter(client, clock=self.clock)
        self.key = LimitKey(uuid4(), family)
        self.provider = provider
        self.configured = configured
        self.headers = headers
        self.retry_after = headers or retry_after
        self.latency = latency_seconds
        self.jitter = jitter_seconds
        self.refusal = refusal_seconds
        self.tick = tick_seconds
        self.processes = [self.limiter.feedback]
        self.processes += [Feedback(client, clock=self.clock) for _ in range(processes - 1)]
        self.down = down
        #: that are asked for at a time; each is written and read at every tick
        self.most_rows = 100
        self.random = random.Random(7)
        self.outcome = Outcome()
        self.left = 0
        self.in_flight = 0
        self._live_line: deque[float] = deque()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something so many seconds after now."""
        heapq.heappush(self._events, (self.clock.now + seconds, next(self._numbers), do))

    def run(self, rows: int, *, seconds: float = 1000.0) -> Outcome:
        """Until the rows are done or the time is over."""
        self.left = rows
        until = START + seconds
        self._schedule()
        for number, feedback in enumerate(self.processes):
            self.at(self.tick * number / len(self.processes), partial(self._flush, feedback))
        while self._events and (self.left or self.in_flight or not rows) and self._events[0][0] < until:
            self.clock.now, _, do = heapq.heappop(self._events)
            do()
        self.outcome.done_at = self.clock.now - START
        return self.outcome

    def _flush(self, feedback: Feedback) -> None:
        feedback.flush()
        self.at(self.tick, lambda: self._flush(feedback))

    def _schedule(self) -> None:
        if self.left:
            rows = [(10, 10)] * min(self.left, self.most_rows)
            granted = self.limiter.take(self.key, self.configured, rows, in_flight=self.in_flight).granted
            self.left -= granted
            self.in_flight += granted
            for _ in range(granted):
                self.outcome.batch_started.append(self.clock.now)
                self.at(self.random.random() * self.jitter, lambda: self._call(self._batch_ended))
        self.at(self.tick, self._schedule)

    def _batch_ended(self, good: bool) -> None:
        self.in_flight -= 1
        self.left += not good

    def _call(self, ended: Callable[[bool], None]) -> None:
        self.outcome.calls += 1
        feedback = self.processes[self.outcome.calls % len(self.processes)]
        began = self.clock.now
        down = self.down(self.clock.now - START)
        wait = 0.0 if self.provider is None or down else self.provider.admit(self.clock.now)
        readings = []
        if self.provider is not None and self.headers:
            limit, remaining = int(self.provider.per_minute), self.provider.remaining(self.clock.now)
            readings = [LimitReading(kind="requests", limit=limit, remaining=remaining, reset_seconds=None)]

        def answer() -> None:
            if down:
                feedback.failure(self.key)
            elif wait > 0:
                feedback.observe(self.key, readings)
                feedback.penalise(self.key, max(1.0, wait) if self.retry_after else None, self.clock.now - began)
            else:
                feedback.observe(self.key, readings)
                feedback.settle(self.key, (10, 10), Usage(input_tokens=10, output_tokens=8))
                feedback.success(self.key)
            ended(not down and wait == 0)

        if wait > 0:
            self.outcome.refused += 1
            self.outcome.refused_at.append(began - START)
        elif not down:
            self.outcome.admitted_at.append(began - START)
        self.at(self.refusal if wait > 0 or down else self.latency * (0.9 + 0.2 * self.random.random()), answer)

    def live(self, per_second: float, *, first: float = 0.0, until: float = 1e9) -> None:
        """Live callers come at random from `first` on."""

        def arrive() -> None:
            if self.clock.now - START < until:
                self.at(self.random.expovariate(per_second), arrive)
                self._live_line.append(self.clock.now)
                if len(self._live_line) == 1:
                    self._ask_live()

        self.at(first, arrive)

    def _ask_live(self) -> None:
        # As Limiter.acquire does, with an event for each wait: only the first in line asks.
        if not self._live_line:
            return
        since = self._live_line[0]
        wait, waiting_for = self.limiter._ask(self.key, self.configured, 10, 10, Meter())
        if waiting_for is None:
            self.outcome.live_waits.append(self.clock.now - since)
            self._call(lambda good: self.limiter.feedback.ended(self.key.connection_id))
        elif self.clock.now - since > 10:
            self.outcome.live_over_limit += 1
        else:
            self.at(max(0.001, min(wait or 0.02, 0.1)), self._ask_live)
            return
        self._live_line.popleft()
        self._ask_live()


def overrun(times: list[float], limit: int) -> int:
    """By how much the fullest sixty seconds exceed the limit; below zero: what was left in it."""
    most, first = 0, 0
    for last, now in enumerate(times):
        while times[first] <= now - 60:
            first += 1
        most = max(most, last - first + 1)
    return most - limit
