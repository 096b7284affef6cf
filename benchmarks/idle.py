"""Processor time of a house that has nothing to do, by part: it is there beside every live call."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from benchmarks.common import new_tenant, processor_seconds_by_part, running_house, warm_up
from benchmarks.options import RUNS, Option, parse
from benchmarks.report import Report

_WORKER_GOAL = 1.0


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "idle",
        __doc__,
        arguments,
        seconds=Option(20.0, 2.0, "how long it is looked at"),
        settle=Option(5.0, 1.0, "how long it is left alone before, after its last batch"),
        workers=Option(1, 1, "worker processes"),
        runs=RUNS,
    )
    report = Report("idle", options)
    with running_house(options, workers=options.workers) as house:
        client, _ = new_tenant(house)
        for _ in range(options.runs):
            warm_up(house, client)
            time.sleep(options.settle)
            before, began = processor_seconds_by_part(house), time.monotonic()
            time.sleep(options.seconds)
            elapsed = time.monotonic() - began
            for part, seconds in processor_seconds_by_part(house).items():
                count = options.workers if part == "worker" else 1
                goal = _WORKER_GOAL if part == "worker" else None
                report.add(f"{part}, idle", 100 * (seconds - before[part]) / elapsed / count, "% core", at_most=goal)
    report.finish()


if __name__ == "__main__":
    main(sys.argv[1:])
