"""The live path beside a bare pass-through, LiteLLM's proxy and Portkey's gateway: requests/s, added latency, memory.

Everybody is called by the same generator and calls the same simulator, in turn, with two processes each. Ours has
everything on: keys checked, routing, limits, budgets, each completion committed to PostgreSQL before its answer ends,
metrics. The others log nothing. Added latency is against the median of the same calls without a gateway.
"""

from __future__ import annotations

import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack

import psycopg

from benchmarks import caller, pauses, usage
from benchmarks.caller import Load
from benchmarks.common import new_tenant, running_house
from benchmarks.contenders import BARE, OURS, PEER_STARTS, Contender, direct, ours
from benchmarks.options import RUNS, Option, parse
from benchmarks.report import Report
from benchmarks.usage import MIB, MemoryWatch
from launcher.house import House

_REQUESTS_GOAL = 2000.0
#: 2,000 of the 4,400 that the pass-through does on the machine for which the goals were set.
_SHARE_GOAL = 0.45
#: Milliseconds added, by (to the first token of a stream, percentile).
_ADDED_GOALS_MS = {(False, 50): 3.0, (False, 99): 10.0, (True, 50): 3.0}
_MEMORY_GOAL_MIB = 300.0
#: A piece of work that takes so many times its median met a pause of the machine.
_PAUSE_TIMES = 3.0
#: How a streamed answer comes: a piece every so many seconds, as from a model that thinks before it speaks on.
_STREAM = {"chunks": 4, "interval": 0.01}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "gateway",
        __doc__,
        arguments,
        contenders=Option(("bare", "portkey", "litellm"), ("bare",), "who runs beside us"),
        callers=Option(32, 32, "callers that send their next call when they have an answer"),
        rate=Option(200.0, 100.0, "calls a second of the measurement of latency"),
        streams=Option(50.0, 50.0, "streamed calls a second of the measurement of the first token"),
        seconds=Option(6.0, 1.0, "how long each measurement lasts"),
        runs=RUNS,
    )
    report = Report("gateway", options)
    _say_pauses(report, options.seconds)
    with running_house(options, workers=1) as house, ExitStack() as running:
        client, _ = new_tenant(house)
        contenders = [direct(house), ours(house, client)]
        for name in options.contenders:
            if name:
                contenders.append(running.enter_context(PEER_STARTS[name](house)))
                report.say(f"{contenders[-1].name} runs")
        for contender in contenders:
            caller.run(Load(kind="closed", url=contender.url, headers=contender.headers, seconds=1.0))
        for _ in range(options.runs):
            _round(house, report, contenders, options)
    report.finish()


def _say_pauses(report: Report, seconds: float) -> None:
    """What the machine does to plain arithmetic while nothing else runs: no percentile below can be better."""
    took = pauses.alone(seconds)
    usual = statistics.median(took)
    for percent in (50, 99):
        report.add(f"machine alone: a piece of arithmetic, p{percent}", _percentile(took, percent) * 1e3, "ms")
    report.add("machine alone: the longest, of the median", max(took) / usual, "x")
    slow = sum(each for each in took if each > _PAUSE_TIMES * usual)
    report.add("machine alone: of the time, in pieces three times the median or more", slow / sum(took) * 100, "%")


def _round(house: House, report: Report, contenders: Sequence[Contender], options: Namespace) -> None:
    """Everybody once, in the same order."""
    without: dict[bool, float] = {}
    rates: dict[str, float] = {}
    commits = _commit_seconds(house, options.rate)
    for percent in (50, 99):
        report.add(f"a commit alone at {options.rate:g}/s, p{percent}", _percentile(commits, percent) * 1e3, "ms")
    for contender in contenders:
        is_ours = contender.name == OURS
        with MemoryWatch(contender.memory_of) as watch:
            rates[contender.name] = _throughput(
                house, report, contender, options, at_least=_REQUESTS_GOAL if is_ours else None
            )
            for stream in (False, True):
                house.simulator.config(stream=_STREAM if stream else {})
                what = "to the first token" if stream else f"at {options.rate:g}/s"
                try:
                    paced = caller.run(_paced(contender, options, stream))
                except RuntimeError as error:
                    if is_ours:
                        raise
                    report.say(f"{contender.name}: {what} cannot be measured: {str(error)[-300:]}")
                    continue
                finally:
                    house.simulator.config(stream={})
                if not contender.parts:
                    without[stream] = statistics.median(paced.waited)
                    report.add(f"{contender.name}: {what}, p50", without[stream] * 1e3, "ms")
                    continue
                for percent in (50, 99):
                    goal = _ADDED_GOALS_MS.get((stream, percent)) if is_ours else None
                    added = _percentile(paced.waited, percent) - without[stream]
                    report.add(f"{contender.name}: added {what}, p{percent}", added * 1e3, "ms", at_most=goal)
                calm = len(paced.calm) / len(paced.waited)
                if len(paced.calm) > 1:
                    added = _percentile(paced.calm, 99) - without[stream]
                    report.add(f"{contender.name}: added {what}, p99 of calls without a pause", added * 1e3, "ms")
                report.add(f"{contender.name}: {what}, calls without a pause of the machine", calm * 100, "%")
        if contender.memory_of:
            goal = _MEMORY_GOAL_MIB if is_ours else None
            report.add(f"{contender.name}: memory", watch.peak / MIB, "MiB", at_most=goal)
    if BARE in rates:
        report.add(f"{OURS}: requests/s against {BARE}", rates[OURS] / rates[BARE], "x", at_least=_SHARE_GOAL)


def _commit_seconds(house: House, rate: float) -> list[float]:
    """The times that the disk takes for commits of one transaction each, which every live call waits for."""
    waited = []
    with psycopg.connect(house.address.database_url, autocommit=True) as connection:
        for _ in range(400):
            start = time.perf_counter()
            connection.execute("SELECT pg_logical_emit_message(true, 'benchmark', 'commit')")
            waited.append(time.perf_counter() - start)
            time.sleep(max(0.0, 1 / rate - waited[-1]))
    return waited


def _paced(contender: Contender, options: Namespace, stream: bool) -> Load:
    return Load(
        kind="paced",
        url=contender.url,
        headers=contender.headers,
        callers=8,
        seconds=options.seconds,
        rate=options.streams if stream else options.rate,
        stream=stream,
    )


def _throughput(
    house: House, report: Report, contender: Contender, options: Namespace, *, at_least: float | None
) -> float:
    """Measure it; requests a second."""
    parts = contender.parts | {"simulator": [house.simulator.pid]}
    before = {part: usage.processor_seconds(pids) for part, pids in parts.items()}
    load = Load(
        kind="closed", url=contender.url, headers=contender.headers, callers=options.callers, seconds=options.seconds
    )
    loaded = caller.run(load)
    spent = {part: usage.processor_seconds(pids) - before[part] for part, pids in parts.items()}
    label = f"{contender.name}: {options.callers} callers"
    report.add(label, loaded.answers / loaded.seconds, "requests/s", at_least=at_least)
    for part, seconds in spent.items():
        report.add(f"{label}, processor time a request, {part}", seconds / loaded.answers * 1e3, "ms")
    report.add(f"{label}, processor time a request, callers", loaded.processor_seconds / loaded.answers * 1e3, "ms")
    return loaded.answers / loaded.seconds


def _percentile(waited: Sequence[float], percent: int) -> float:
    return statistics.quantiles(waited, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    main(sys.argv[1:])
