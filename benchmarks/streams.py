"""A thousand streams at once, ten events a second each: the longest stall, and what an event costs.

The same streams go without a gateway, through a bare pass-through and through the service, with one API process and
with two. A stall is the time between two events on one stream, which the provider sends 0.1 s apart; what the calls
without a gateway show is the simulator's and the generator's share of it. The end of an answer, which the simulator
sends as three more events, is told apart: the service gives it in one, once it knows the cost and has logged it.
"""

from __future__ import annotations

import statistics
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks import caller, usage
from benchmarks.caller import Load
from benchmarks.common import new_tenant, running_house
from benchmarks.contenders import OURS, Contender, bare, direct, ours
from benchmarks.options import RUNS, Option, parse
from benchmarks.report import Report
from benchmarks.usage import MIB, MemoryWatch
from launcher.house import House

_STALL_GOAL_MS = 250.0


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "streams",
        __doc__,
        arguments,
        streams=Option(1000, 100, "streams at once"),
        events=Option(10.0, 10.0, "events a second on each"),
        seconds=Option(10.0, 2.0, "how long each stream lasts"),
        ramp=Option(5.0, 1.0, "seconds over which they begin, so that their events do not come in step"),
        processes=Option((1, 2), (1,), "numbers of API processes, ours and the pass-through's"),
        runs=RUNS,
    )
    report = Report("streams", options)
    stream = {"chunks": max(1, int(options.seconds * options.events)), "interval": 1 / options.events}
    for processes in options.processes:
        environment = {"LLM_SERVICE_API_PROCESSES": str(processes)}
        with (
            running_house(options, workers=0, environment=environment, stream=stream, **_LONG) as house,
            _contenders(house, processes) as contenders,
        ):
            for contender in contenders:
                caller.run(Load(kind="closed", url=contender.url, headers=contender.headers, seconds=1.0))
            for _ in range(options.runs):
                for contender in contenders:
                    _measure(house, report, contender, processes, options)
    report.finish()


#: Answers long enough to be cut into an event for each tick.
_LONG = {"tokens": {"output": 256}}


@contextmanager
def _contenders(house: House, processes: int) -> Iterator[list[Contender]]:
    client, _ = new_tenant(house)
    with bare(house, processes=processes) as passing:
        # Without a gateway the number of processes makes no difference.
        found = [direct(house)] if processes == 1 else []
        yield [*found, passing, ours(house, client)]


def _measure(house: House, report: Report, contender: Contender, processes: int, options: Namespace) -> None:
    parts = contender.parts | {"simulator": [house.simulator.pid]}
    before = {part: usage.processor_seconds(pids) for part, pids in parts.items()}
    load = Load(
        kind="streams",
        url=contender.url,
        headers=contender.headers,
        callers=options.streams,
        rate=options.streams / options.ramp,
    )
    with MemoryWatch(contender.memory_of) as watch:
        loaded = caller.run(load)
    spent = {part: usage.processor_seconds(pids) - before[part] for part, pids in parts.items()}
    label = contender.name
    if contender.parts:
        label += f", {processes} process{'es' if processes > 1 else ''}"
    report.add(f"{label}: streams at once", loaded.at_once, "streams")
    # One stream more or less late is an accident; the longest of all is what is asked about.
    goal = _STALL_GOAL_MS if contender.name == OURS and processes == max(options.processes) else None
    report.add(f"{label}: longest time between events", max(loaded.gaps) * 1e3, "ms", at_most=goal)
    percentiles = statistics.quantiles(loaded.gaps, n=100, method="inclusive")
    report.add(f"{label}: time between events, p99", percentiles[98] * 1e3, "ms")
    report.add(f"{label}: from the last text to the end, p50", statistics.median(loaded.ends) * 1e3, "ms")
    report.add(f"{label}: events", loaded.events / loaded.seconds, "events/s")
    for part, seconds in spent.items():
        report.add(f"{label}: processor time an event, {part}", seconds / loaded.events * 1e6, "us")
    report.add(f"{label}: processor time an event, callers", loaded.processor_seconds / loaded.events * 1e6, "us")
    if contender.memory_of:
        report.add(f"{label}: memory", watch.peak / MIB, "MiB")


if __name__ == "__main__":
    main(sys.argv[1:])
