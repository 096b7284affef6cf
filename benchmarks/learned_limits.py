"""How limits are learned: of a provider that names them, of one whose 429s say when to return, of one that says none.

A simulation (tests/core/limits/simulation.py): the limiter's real scripts on a Valkey of its own, a provider of pure
arithmetic that is short of room all the time, and a clock that only the simulation moves. `used` is what the provider
took on, of what its limit allowed: from the first call, and `then` from second 80 on, when a bucket of a minute that
was full is empty. 429s are shares of all calls likewise.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import redis

from benchmarks.options import Option, parse
from benchmarks.report import Report
from core.limits import Configured
from launcher.valkey import Valkey
from tests.core.limits.simulation import FixedWindow, Provider, Simulation, TokenBucket

_KINDS: dict[str, Callable[[float], Provider]] = {
    "bucket of 1 s": lambda limit: TokenBucket(limit, 1),
    "bucket of 10 s": lambda limit: TokenBucket(limit, 10),
    "bucket of 60 s": lambda limit: TokenBucket(limit, 60),
    "by the minute": FixedWindow,
}
_TOLD = ("nothing", "Retry-After", "headers")
_CHANGES = {"": 1.0, "halved": 0.5, "doubled": 2.0}
#: Some thousand calls: simulated seconds by limit. They end with a minute of the clock.
_SECONDS = {60: 1220.0, 600: 920.0, 3000: 320.0, 30_000: 200.0}
_SETTLED_SECONDS = 80.0
_USED_GOAL, _REFUSED_GOAL = 98.0, 1.0


@dataclass(frozen=True, slots=True)
class Case:
    """A provider and those who call it; `change` comes to the limit in the middle."""

    told: str
    kind: str
    limit: int
    latency: float
    change: str = ""
    processes: int = 1

    def __str__(self) -> str:
        words = [f"{self.told:11}  {self.kind:14}  {self.limit:6,}/min  {self.latency:4} s"]
        words += [self.change] if self.change else []
        words += [f"{self.processes} processes"] if self.processes > 1 else []
        return "  ".join(words)

    def measure(self, client: redis.Redis, report: Report) -> None:
        seconds = _SECONDS[self.limit]
        provider = _KINDS[self.kind](self.limit)
        simulation = Simulation(
            client,
            provider,
            Configured(),
            headers=self.told == "headers",
            retry_after=self.told != "nothing",
            latency_seconds=self.latency,
            processes=self.processes,
        )
        simulation.most_rows = max(200, self.limit // 30)
        half, factor = seconds / 2, _CHANGES[self.change]
        simulation.at(half, lambda: setattr(provider, "per_minute", self.limit * factor))
        outcome = simulation.run(10**9, seconds=seconds)
        for name, since in (("", 0.0), (" then", _SETTLED_SECONDS)):
            allowed = self.limit / 60 * (half - since + factor * (seconds - half))
            admitted = sum(at >= since for at in outcome.admitted_at)
            refused = sum(at >= since for at in outcome.refused_at)
            goals = bool(since)
            report.add(f"{self}: used{name}", 100 * admitted / allowed, "%", at_least=_USED_GOAL if goals else None)
            report.add(
                f"{self}: 429s{name}",
                100 * refused / (admitted + refused),
                "%",
                at_most=_REFUSED_GOAL if goals else None,
            )


def cases(limits: Sequence[int], latencies: Sequence[float]) -> Iterator[Case]:
    """Every provider at every limit, at one latency; at 3,000 a minute all of them, changes and processes."""
    for told, kind, limit in product(_TOLD, _KINDS, limits):
        for latency in latencies if limit == 3000 else latencies[:1]:
            yield Case(told, kind, limit, latency)
    for told, kind, change in product(_TOLD, _KINDS, ("halved", "doubled")):
        yield Case(told, kind, 3000, latencies[0], change)
    for told, kind in product(_TOLD, _KINDS):
        yield Case(told, kind, 3000, latencies[0], processes=4)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "learned_limits",
        __doc__,
        arguments,
        limits=Option((60, 600, 3000, 30_000), (3000,), "requests a minute, of these: 60, 600, 3000, 30000"),
        latencies=Option(
            (0.5, 0.1, 2.0, 10.0), (0.5,), "the provider's latencies in seconds; the first for most cases"
        ),
    )
    report = Report("learned_limits", options)
    directory = Path(tempfile.mkdtemp(prefix="llm-service-benchmark-"))
    server = Valkey(directory, fast=True)
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            for case in cases(options.limits, options.latencies):
                case.measure(client, report)
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
    report.finish()


if __name__ == "__main__":
    main(sys.argv[1:])
