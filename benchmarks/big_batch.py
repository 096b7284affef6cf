"""A million rows: taken in, run, given back and cancelled, in time per row and in the API's memory.

The cost of a row is compared with that in a small batch in the same run: seconds from acceptance to the end over the
number of rows, and processor time of all processes but the simulator over the number of rows.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Sequence

from benchmarks.common import (
    Submitted,
    all_succeeded,
    cancel,
    checked,
    new_tenant,
    pids,
    running_house,
    submit,
    wait_ended,
    warm_up,
)
from benchmarks.options import Option, parse
from benchmarks.report import Report
from benchmarks.usage import MIB, MemoryWatch, processor_seconds
from launcher.client import Client
from launcher.house import House

_ACCEPT_GOAL = 15_000.0
_RESULTS_GOAL = 20_000.0
_GROWTH_GOAL_MIB = 64.0
_COST_GOAL = 1.15
_CANCEL_GOAL_SECONDS = 1.0
_READ_BYTES = 256 << 10


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "big_batch",
        __doc__,
        arguments,
        rows=Option(1_000_000, 8000, "rows of the large batch"),
        small=Option(10_000, 2000, "rows of the small batch that it is compared with"),
        cancel_rows=Option(1_000_000, 8000, "rows of the batch that is cancelled"),
        latency=Option(0.0, 0.0, "the provider's latency in seconds"),
        workers=Option(2, 2, "worker processes"),
        runs=Option(1, 1, "how often everything is measured"),
    )
    report = Report("big_batch", options)
    with running_house(options, workers=options.workers, latency=options.latency) as house:
        client, _ = new_tenant(house)
        warm_up(house, client, options.small)
        for _ in range(options.runs):
            _run(house, client, report, options)
    report.finish()


def _run(house: House, client: Client, report: Report, options: Namespace) -> None:
    small_wall, small_processor = _cost_of_row(house, client, report, submit(client, options.small))
    submitted = _accept(house, client, report, options.rows)
    wall, processor = _cost_of_row(house, client, report, submitted)
    report.add("wall time of a row, large / small", wall / small_wall, "x", at_most=_COST_GOAL)
    report.add("processor time of a row, large / small", processor / small_processor, "x", at_most=_COST_GOAL)
    _results(house, client, report, submitted)
    checked(client.delete(f"/v1/batch/{submitted.id}", timeout=600), 204)
    _cancel(house, client, report, options.cancel_rows)


def _accept(house: House, client: Client, report: Report, count: int) -> Submitted:
    """Stream the rows in."""
    api = pids(house, "api")
    used = processor_seconds(api)
    with MemoryWatch(api) as watch:
        submitted = submit(client, count)
    report.add("accepted", count / submitted.accept_seconds, "rows/s", at_least=_ACCEPT_GOAL)
    report.add("accepting: the API's memory", watch.growth / MIB, "MiB more", at_most=_GROWTH_GOAL_MIB)
    report.add("accepting: the API's processor time a row", (processor_seconds(api) - used) / count * 1e6, "us")
    return submitted


def _cost_of_row(house: House, client: Client, report: Report, submitted: Submitted) -> tuple[float, float]:
    """Seconds of wall and of processor time that a row takes from its acceptance to its end."""
    everything = pids(house)
    used = processor_seconds(everything)
    done = all_succeeded(wait_ended(client, submitted.id, timeout_seconds=3600))
    wall = (done.ended_at - submitted.accepted_at) / submitted.rows
    processor = (processor_seconds(everything) - used) / submitted.rows
    report.add(f"{submitted.rows:,} rows: rate", 1 / wall, "rows/s")
    report.add(f"{submitted.rows:,} rows: processor time a row, all processes", processor * 1e6, "us")
    return wall, processor


def _results(house: House, client: Client, report: Report, submitted: Submitted) -> None:
    api = pids(house, "api")
    start = time.monotonic()
    with MemoryWatch(api) as watch:
        answer = checked(
            client.get(
                f"/v1/batch/{submitted.id}/results",
                headers={"accept": "application/x-ndjson"},
                stream=True,
                timeout=600,
            ),
            200,
        )
        found = sum(piece.count(b"\n") for piece in answer.iter_content(_READ_BYTES))
        seconds = time.monotonic() - start
    if found != submitted.rows:
        raise RuntimeError(f"{submitted.rows} rows have {found} results")
    report.add("results streamed", found / seconds, "rows/s", at_least=_RESULTS_GOAL)
    report.add("results: the API's memory", watch.growth / MIB, "MiB more", at_most=_GROWTH_GOAL_MIB)


def _cancel(house: House, client: Client, report: Report, count: int) -> None:
    """Cancel a batch as soon as it is accepted, with nearly all of it pending."""
    batch_id = submit(client, count).id
    sent_at, answered_at = cancel(client, batch_id)
    done = wait_ended(client, batch_id, timeout_seconds=1800)
    counts = done.batch["request_counts"]
    # No row is left now, so no call can come any more.
    last_call_at = house.simulator.ledger()["last_call_at"] or sent_at
    report.add("cancel: answered after", answered_at - sent_at, "s", at_most=_CANCEL_GOAL_SECONDS)
    report.add(
        "cancel: last call after the answer", max(0.0, last_call_at - answered_at), "s", at_most=_CANCEL_GOAL_SECONDS
    )
    report.add("cancel: rows that had run", count - counts["cancelled"], "rows")
    report.add("cancel: every row ended after", max(0.0, done.ended_at - answered_at), "s")


if __name__ == "__main__":
    main(sys.argv[1:])
