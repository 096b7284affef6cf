"""Rows per second end to end, from accepted to stored, beside a bare aiohttp script and the naive Dramatiq actor.

Ours is timed from the 201 to `ended_at`, when the last answer and the batch's end are committed; the bare script from
its first request to its last answer. Each number of calls in flight is set as the connection's maxConcurrency for us
and as the semaphore for the script. The naive actor makes fewer calls where the provider is slow: its 16 threads need
minutes for what its rate already shows.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from benchmarks import bare_aiohttp, naive_dramatiq
from benchmarks.common import (
    all_succeeded,
    new_tenant,
    processor_seconds_by_part,
    running_house,
    set_limits,
    set_workers,
    submit,
    wait_ended,
    warm_up,
)
from benchmarks.options import RUNS, Option, parse
from benchmarks.report import Report
from benchmarks.usage import MIB, MemoryWatch
from launcher.client import Client
from launcher.house import House

#: What is asked of us, by the provider's latency in seconds.
_ROWS_PER_SECOND_AT_ZERO = 2500.0
_TIMES_NAIVE_AT_ZERO = 2.5
_TIMES_BARE_AT_ONE = 1.3


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "throughput",
        __doc__,
        arguments,
        rows=Option(5000, 600, "rows of a batch"),
        latency=Option((0.0, 1.0), (0.0, 1.0), "the provider's latencies in seconds"),
        workers=Option((1, 2), (1, 2), "numbers of worker processes"),
        in_flight=Option((1000, 5000), (300,), "calls in flight at once, ours and the bare script's"),
        naive_seconds=Option(20.0, 4.0, "how long the naive actor is measured where the provider is slow"),
        runs=RUNS,
    )
    report = Report("throughput", options)
    # One worker process alone must be able to hold as many calls as the script.
    environment = {"LLM_SERVICE_WORKER_CONCURRENCY": str(max(options.in_flight))}
    with running_house(options, workers=max(options.workers), environment=environment) as house:
        client, _ = new_tenant(house)
        warm_up(house, client)
        for _ in range(options.runs):
            for latency in options.latency:
                house.simulator.config(latency=latency)
                _compare(house, client, report, latency, options.rows, options)
    report.finish()


def _compare(house: House, client: Client, report: Report, latency: float, count: int, options: Namespace) -> None:
    """One round: everybody does the same calls, one after the other."""
    at = f"latency {latency:g} s"
    naive = _naive(house, report, at, latency, count, options.naive_seconds)
    for in_flight in options.in_flight:
        bare = bare_aiohttp.run(house.simulator.openai_url, count, in_flight)
        report.add(f"{at}: bare aiohttp, {in_flight} in flight", count / bare, "rows/s")
        set_limits(client, maxConcurrency=in_flight)
        for workers in options.workers:
            set_workers(house, workers)
            ours = _ours(house, client, report, f"{at}: {_workers(workers)}, {in_flight} in flight", count, latency)
            label = f"{at}: {_workers(workers)}, {in_flight} in flight"
            report.add(f"{label}: wall / bare", ours / bare, "x", at_most=_TIMES_BARE_AT_ONE if latency == 1 else None)
            report.add(
                f"{label}: rate / naive",
                count / ours / naive,
                "x",
                at_least=_TIMES_NAIVE_AT_ZERO if latency == 0 else None,
            )


def _ours(house: House, client: Client, report: Report, label: str, count: int, latency: float) -> float:
    """Run a batch; seconds from its acceptance to its end."""
    house.simulator.reset(config=False)
    workers = [house.pid(name) for name in house.names if name.startswith("worker-") and house.alive(name)]
    with MemoryWatch(workers) as watch:
        submitted = submit(client, count)
        before = processor_seconds_by_part(house)
        done = all_succeeded(wait_ended(client, submitted.id))
    after = processor_seconds_by_part(house)
    seconds = done.ended_at - submitted.accepted_at
    goal = _ROWS_PER_SECOND_AT_ZERO if latency == 0 else None
    report.add(label, count / seconds, "rows/s", at_least=goal)
    report.add(f"{label}: by the client's clock", count / (done.seen_at - submitted.accepted_at), "rows/s")
    report.add(f"{label}: submission included", count / (done.ended_at - submitted.sent_at), "rows/s")
    report.add(f"{label}: most at once", house.simulator.ledger()["max_concurrency"], "calls")
    report.add(f"{label}: workers' memory", watch.peak / MIB, "MiB")
    for part, used in after.items():
        report.add(f"{label}: processor time a row, {part}", (used - before[part]) / count * 1e6, "us")
    return seconds


def _naive(house: House, report: Report, at: str, latency: float, count: int, seconds: float) -> float:
    """Rows per second of the naive actor, from its first call: the sending of its messages is not held against it."""
    threads = naive_dramatiq.PROCESSES * naive_dramatiq.THREADS
    if latency:
        count = min(count, max(threads, int(threads * seconds / latency)))
    took = naive_dramatiq.run(house, count)
    rate = count / took.since_called
    report.add(f"{at}: naive Dramatiq actor, {threads} threads, {count} rows", rate, "rows/s")
    report.add(f"{at}: naive Dramatiq actor, its messages' sending included", count / took.since_sent, "rows/s")
    return rate


def _workers(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"


if __name__ == "__main__":
    main(sys.argv[1:])
