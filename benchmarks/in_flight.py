"""How many calls the workers hold open at once against a slow provider, and in how much memory."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.common import all_succeeded, new_tenant, running_house, submit, wait_ended, warm_up
from benchmarks.options import Option, parse
from benchmarks.report import Report
from benchmarks.usage import MIB, MemoryWatch, memory, processor_seconds

_CALLS_GOAL = 10_000
_MEMORY_GOAL_MIB = 1024


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "in_flight",
        __doc__,
        arguments,
        rows=Option(11_000, 1000, "rows of the batch, which all are to be in flight at once"),
        latency=Option(30.0, 6.0, "the provider's latency in seconds"),
        workers=Option(3, 3, "worker processes"),
        runs=Option(3, 1, "how often it is measured"),
    )
    report = Report("in_flight", options)
    with running_house(options, workers=options.workers) as house:
        client, _ = new_tenant(house, limits={"maxConcurrency": options.rows})
        warm_up(house, client)
        workers = [house.pid(name) for name in house.names if name.startswith("worker-")]
        house.simulator.config(latency=options.latency)
        for _ in range(options.runs):
            house.simulator.reset(config=False)
            report.add("memory before, all workers", memory(workers) / MIB, "MiB")
            used = processor_seconds(workers)
            with MemoryWatch(workers) as watch:
                submitted = submit(client, options.rows)
                done = all_succeeded(wait_ended(client, submitted.id))
            ledger = house.simulator.ledger()
            report.add(
                "calls in flight at once",
                ledger["max_concurrency"],
                "calls",
                at_least=_CALLS_GOAL,
            )
            report.add("memory at most, all workers", watch.peak / MIB, "MiB", at_most=_MEMORY_GOAL_MIB)
            report.add("memory of a call", watch.growth / 1024 / ledger["max_concurrency"], "KiB")
            report.add("first to last call started", ledger["last_call_at"] - ledger["first_call_at"], "s")
            report.add("accepted to ended", done.ended_at - submitted.accepted_at, "s")
            report.add("workers' processor time a row", (processor_seconds(workers) - used) / options.rows * 1e3, "ms")
            report.add("calls beyond one a row", ledger["calls"] - options.rows, "calls")
    report.finish()


if __name__ == "__main__":
    main(sys.argv[1:])
