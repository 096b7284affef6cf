"""Fifty rows of one tenant beside a running huge batch of another, against the same fifty alone."""

from __future__ import annotations

import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Sequence

from benchmarks.common import (
    all_succeeded,
    cancel,
    checked,
    new_tenant,
    running_house,
    submit,
    wait_ended,
    wait_for_calls,
    warm_up,
)
from benchmarks.options import RUNS, Option, parse
from benchmarks.report import Report
from launcher.client import Client
from launcher.house import House

_RATIO_GOAL = 1.5


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "fairness",
        __doc__,
        arguments,
        rows=Option(1_000_000, 20_000, "rows of the huge batch"),
        small=Option(50, 50, "rows of the small batch"),
        times=Option(9, 3, "how many small batches a run sends, alone and beside; their median counts"),
        latency=Option((1.0, 0.1), (1.0,), "the provider's latencies in seconds"),
        workers=Option(2, 2, "worker processes"),
        runs=RUNS,
    )
    report = Report("fairness", options)
    with running_house(options, workers=options.workers) as house:
        huge, _ = new_tenant(house)
        small, _ = new_tenant(house)
        warm_up(house, huge)
        warm_up(house, small)
        for _ in range(options.runs):
            for latency in options.latency:
                house.simulator.config(latency=latency)
                _run(house, huge, small, report, f"latency {latency:g} s", options)
    report.finish()


def _run(house: House, huge: Client, small: Client, report: Report, at: str, options: Namespace) -> None:
    alone = [_small_batch(small, options.small) for _ in range(options.times)]
    house.simulator.reset(config=False)
    batch = submit(huge, options.rows)
    wait_for_calls(house, min(2000, options.rows // 10))
    before, began = house.simulator.ledger()["calls"], time.monotonic()
    beside = [_small_batch(small, options.small) for _ in range(options.times)]
    calls = house.simulator.ledger()["calls"] - before - options.small * options.times
    rate = calls / (time.monotonic() - began)
    if checked(huge.get(f"/v1/batch/{batch.id}"), 200).json()["ended_at"] is None:
        cancel(huge, batch.id)
        wait_ended(huge, batch.id, timeout_seconds=1800)
    else:
        report.say("the huge batch ended too soon: some of the small ones had the house to themselves")
    report.add(f"{at}: alone, accepted to ended", statistics.median(alone), "s")
    report.add(f"{at}: beside, accepted to ended", statistics.median(beside), "s")
    report.add(f"{at}: beside, the slowest", max(beside), "s")
    ratio = statistics.median(beside) / statistics.median(alone)
    report.add(f"{at}: beside / alone", ratio, "x", at_most=_RATIO_GOAL)
    report.add(f"{at}: the huge batch's calls meanwhile", rate, "calls/s")


def _small_batch(client: Client, count: int) -> float:
    """Seconds from acceptance to the end."""
    submitted = submit(client, count)
    return all_succeeded(wait_ended(client, submitted.id)).ended_at - submitted.accepted_at


if __name__ == "__main__":
    main(sys.argv[1:])
