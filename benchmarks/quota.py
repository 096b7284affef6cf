"""How much of a provider's limit a batch uses, and how many calls run into it: limits configured, and learned.

The simulator enforces the limit with a bucket that refills continuously and holds `--burst` seconds of it. With one
second it admits no more in a minute than the limit says; with sixty, as some providers have it, twice as much in the
first. The share of the limit is rows per minute between the first and the last call; the share of what was admissible
counts in the bucket that was full at the first call.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from benchmarks.common import all_succeeded, new_tenant, running_house, set_workers, submit, wait_ended, warm_up
from benchmarks.options import RUNS, Option, parse
from benchmarks.report import Report
from launcher.house import House

_SHARE_GOAL = 98.0
_REFUSED_GOAL = {"configured": 0.1, "learned": 1.0}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "quota",
        __doc__,
        arguments,
        rows=Option(6000, 300, "rows of a batch"),
        limit=Option(3000, 3000, "requests per minute that the simulator enforces"),
        burst=Option(1.0, 1.0, "seconds of the limit that the simulator's bucket holds"),
        latency=Option(0.2, 0.2, "the provider's latency in seconds"),
        workers=Option((1, 4), (1, 4), "numbers of worker processes"),
        runs=RUNS,
    )
    report = Report("quota", options)
    with running_house(options, workers=max(options.workers), latency=options.latency) as house:
        for run in range(options.runs):
            for workers in options.workers:
                set_workers(house, workers)
                if run == 0:
                    warm_up(house, house.client)
                house.simulator.config(
                    limits={
                        "default": {"requests_per_minute": options.limit, "burst_seconds": options.burst},
                    }
                )
                for how in ("configured", "learned"):
                    _measure(house, report, how, f"{how}, {workers} worker{'s' if workers > 1 else ''}", options)
    report.finish()


def _measure(house: House, report: Report, how: str, label: str, options: Namespace) -> None:
    """One batch of a new tenant, whose key has a full bucket and of whose limit nothing is known yet."""
    count: int = options.rows
    limit: int = options.limit
    burst: float = options.burst
    client, _ = new_tenant(house, limits={"requestsPerMinute": limit} if how == "configured" else None)
    house.simulator.reset(config=False)
    submitted = submit(client, count)
    done = all_succeeded(wait_ended(client, submitted.id))
    ledger = house.simulator.ledger()
    seconds = ledger["last_call_at"] - ledger["first_call_at"]
    answered = ledger["by_status"].get("200", 0)
    admissible = limit / 60 * (seconds + burst)
    used = 100 * (answered - 1) * 60 / seconds / limit
    report.add(f"{label}: share of the limit used", used, "%", at_least=_SHARE_GOAL)
    report.add(f"{label}: share of what was admissible", 100 * answered / admissible, "%")
    refused = 100 * ledger["rate_limited"] / ledger["calls"]
    report.add(f"{label}: calls refused with 429", refused, "%", at_most=_REFUSED_GOAL[how])
    report.add(f"{label}: accepted to ended", done.ended_at - submitted.accepted_at, "s")


if __name__ == "__main__":
    main(sys.argv[1:])
