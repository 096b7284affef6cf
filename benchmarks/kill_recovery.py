"""How long after the SIGKILL of a worker its rows run again on another one."""

from __future__ import annotations

import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg

from benchmarks.common import (
    all_succeeded,
    new_tenant,
    running_house,
    set_workers,
    submit,
    wait_ended,
    warm_up,
)
from benchmarks.options import RUNS, Option, parse
from benchmarks.report import Report
from launcher.client import Client
from launcher.house import House

_GOAL_SECONDS = 45.0
_POLL_SECONDS = 0.1


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "kill_recovery",
        __doc__,
        arguments,
        rows=Option(4000, 400, "rows of the batch"),
        latency=Option(5.0, 3.0, "the provider's latency in seconds"),
        workers=Option(2, 2, "worker processes, of which one is killed"),
        runs=RUNS,
    )
    report = Report("kill_recovery", options)
    with running_house(options, workers=options.workers, latency=options.latency) as house:
        client, _ = new_tenant(house)
        warm_up(house, client)
        for _ in range(options.runs):
            set_workers(house, options.workers)
            _kill(house, client, report, options)
    report.finish()


def _kill(house: House, client: Client, report: Report, options: Namespace) -> None:
    house.simulator.reset(config=False)
    batch = submit(client, options.rows)
    with psycopg.connect(house.address.database_url, autocommit=True) as connection:
        pid = _busiest(connection, options.rows)
        victim = next(name for name in house.names if name.startswith("worker-") and house.pid(name) == pid)
        house.kill(victim)
        killed_at = time.time()
        # The dead end no row, so what they hold now is what has to be run again.
        lost: dict[int, int] = dict(
            connection.execute(f"SELECT lease.completion_id, lease.fence {_HELD}", (pid,)).fetchall()
        )
        if not lost:
            raise RuntimeError("the worker held no row when it was killed")
        again = _wait_until_run_again(connection, lost)
    after = sorted(at.timestamp() - killed_at for at in again.values())
    done = all_succeeded(wait_ended(client, batch.id))
    ledger = house.simulator.ledger()
    report.add("rows that it held", len(lost), "rows")
    report.add("first of them run again after", after[0], "s")
    report.add("half of them run again after", statistics.median(after), "s")
    report.add("last of them run again after", after[-1], "s", at_most=_GOAL_SECONDS)
    report.add("batch ended after", done.ended_at - killed_at, "s")
    report.add("calls beyond one a row", ledger["calls"] - options.rows, "calls")


_HELD = (
    "FROM lease JOIN worker ON worker.id = lease.worker_id WHERE worker.pid = %s AND lease.call_started_at IS NOT NULL"
)
_HOLDERS = (
    "SELECT worker.pid, count(*) FROM lease JOIN worker ON worker.id = lease.worker_id"
    " WHERE lease.call_started_at IS NOT NULL GROUP BY worker.pid ORDER BY count(*) DESC"
)


def _busiest(connection: psycopg.Connection[Any], rows: int) -> int:
    """The process id of the worker with most rows in a call, once half of the rows are in one."""
    deadline = time.monotonic() + 60
    while True:
        holders = connection.execute(_HOLDERS).fetchall()
        if sum(held for _, held in holders) >= rows // 2:
            return holders[0][0]
        if time.monotonic() > deadline:
            raise TimeoutError(f"{rows // 2} rows are never in a call at once: (pid, rows) {holders}")
        time.sleep(_POLL_SECONDS)


def _wait_until_run_again(connection: psycopg.Connection[Any], lost: dict[int, int]) -> dict[int, datetime]:
    """When the call of each lost row was started anew, by the database, whose clock is ours."""
    again: dict[int, datetime] = {}
    deadline = time.monotonic() + 180
    while len(again) < len(lost):
        missing = [row_id for row_id in lost if row_id not in again]
        found = connection.execute(
            "SELECT completion_id, fence, call_started_at FROM lease"
            " WHERE completion_id = ANY(%s) AND call_started_at IS NOT NULL",
            (missing,),
        )
        again |= {row_id: started_at for row_id, fence, started_at in found if fence > lost[row_id]}
        # A call that was shorter than the time between two looks: the row remembers when it started.
        found = connection.execute(
            "SELECT id, started_at FROM completion WHERE id = ANY(%s) AND status <> 'pending'", (missing,)
        )
        again |= dict(found.fetchall())
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(lost) - len(again)} of {len(lost)} rows have not run again within 180 s")
        time.sleep(_POLL_SECONDS)
    return again


if __name__ == "__main__":
    main(sys.argv[1:])
