"""Pauses of the machine, told from slowness of what is measured."""

from __future__ import annotations

import asyncio
import bisect
import statistics
import time


class Pauses:
    """When the machine stood still: moments at which a fixed piece of work takes several times as long as usual.

    Some virtual machines are slowed tenfold for a tenth of a second again and again; whoever is called then is late.
    """

    _EVERY_SECONDS = 0.005
    #: how many times its median a piece of work takes in a pause, and how long after one queues are worked off
    _TIMES, _AFTER_SECONDS = 3.0, 0.05

    def __init__(self) -> None:
        self._looks: list[tuple[float, float]] = []

    async def watch(self) -> None:
        while True:
            start = time.perf_counter()
            sum(number * number for number in range(1000))
            self._looks.append((start, time.perf_counter() - start))
            await asyncio.sleep(self._EVERY_SECONDS)

    def without(self, calls: list[tuple[float, float]]) -> list[float]:
        """The times of the calls, given with the moment of each, that met no pause."""
        usual = statistics.median(seconds for _, seconds in self._looks)
        slow = [start for start, seconds in self._looks if seconds > self._TIMES * usual]

        def met(due: float, seconds: float) -> bool:
            at = bisect.bisect_left(slow, due - self._AFTER_SECONDS)
            return at < len(slow) and slow[at] <= due + seconds

        return [seconds for due, seconds in calls if not met(due, seconds)]


def alone(seconds: float) -> list[float]:
    """How long a fixed piece of plain arithmetic takes, again and again, one part of the time in three.

    Asked before anything of the benchmark runs, it tells what pauses the machine has by itself.
    """
    took: list[float] = []
    until = time.perf_counter() + seconds
    while (start := time.perf_counter()) < until:
        sum(number * number for number in range(15_000))
        took.append(time.perf_counter() - start)
        time.sleep(2 * took[-1])
    return took
