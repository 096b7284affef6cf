"""Statistics of a month at ten million completions: GET /v1/stats in full, beside counting over the rows themselves.

The sums are those that ten million rows of five models leave over thirty days. Counting is one GROUP BY over fewer rows
(`--counted`), by hour as the answer's series is: what it would take at ten million is that many times more.
A completion ends before each look, so that today is added up anew each time; the first look adds up all days.
"""

from __future__ import annotations

import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from uuid import UUID

from benchmarks import history
from benchmarks.common import checked, pids, running_house
from benchmarks.options import Option, parse
from benchmarks.report import Report
from benchmarks.usage import processor_seconds
from core import db, ids
from launcher.client import Client
from launcher.house import House

_GOAL_MS = 50.0
#: What is asked for.
_QUERIES = {
    "by day": "",
    "by hour": "interval=hour",
    "by day, grouped by model": "group_by=model",
    "by day, grouped by status": "group_by=status",
    "by hour, grouped by model": "interval=hour&group_by=model",
    "by hour, grouped by status": "interval=hour&group_by=status",
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "statistics",
        __doc__,
        arguments,
        rows=Option(10_000_000, 100_000, "completions that the sums are of"),
        counted=Option(1_000_000, 20_000, "rows that are counted for comparison"),
        times=Option(25, 5, "how often each query is asked in a run; their median counts"),
        runs=Option(3, 1, "how often everything is measured"),
    )
    report = Report("statistics", options)
    with running_house(options, workers=0) as house:
        db.configure(house.address.database_url)
        try:
            _measure(house, report, options)
        finally:
            db.configure(None)
    report.finish()


def _measure(house: House, report: Report, options: Namespace) -> None:
    client = house.client
    tenant_id, project_id = ids.parse("tenant", client.tenant_id), ids.parse("proj", client.project_id)
    sums = history.write_sums(tenant_id, project_id, options.rows)
    report.say(f"{options.rows:,} completions are {sums:,} sums")
    (connection_id, *_) = [found["id"] for found in checked(client.get("/v1/providers"), 200).json()["data"]]
    _, progress = history.write_completions(tenant_id, project_id, ids.parse("prov", connection_id), options.counted)
    for done in progress:
        report.say(f"{done:,} rows to be counted are written")
    for _ in range(options.runs):
        for name, query in _QUERIES.items():
            _ask(house, client, report, name, query, options.times)
        seconds = _median(lambda: _count(project_id), 3)
        report.add(f"counting {options.counted:,} rows by hour and model instead", seconds * 1000, "ms")


def _ask(house: House, client: Client, report: Report, name: str, query: str, times: int) -> None:
    path = f"/v1/stats/{client.tenant_id}/{client.project_id}?{query}"
    began = time.perf_counter()
    size = len(checked(client.get(path), 200).content)
    first = time.perf_counter() - began
    processes = pids(house, "api", "postgres")
    used = processor_seconds(processes)
    tenant_id, project_id = ids.parse("tenant", client.tenant_id), ids.parse("proj", client.project_id)
    seconds = _median(
        lambda: checked(client.get(path), 200), times, before=lambda: history.end_one(tenant_id, project_id)
    )
    used = processor_seconds(processes) - used
    report.add(f"{name}: answered after", seconds * 1000, "ms", at_most=_GOAL_MS)
    report.add(f"{name}: the first look", first * 1000, "ms")
    report.add(f"{name}: processor time, API and PostgreSQL", used / times * 1000, "ms")
    report.add(f"{name}: size of the answer", size / 1000, "kB")


def _count(project_id: UUID) -> None:
    with db.connection() as connection:
        connection.execute(
            "SELECT date_trunc('hour', ended_at, 'UTC'), model, count(*), sum(input_tokens), sum(output_tokens),"
            " sum(cost_usd), percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY ended_at - started_at)"
            " FROM completion WHERE project_id = %s AND ended_at IS NOT NULL GROUP BY 1, 2",
            (project_id,),
        ).fetchall()


def _median(what: Callable[[], object], times: int, before: Callable[[], object] = lambda: None) -> float:
    """Seconds that it takes in the median; what is done before each is not counted."""
    found = []
    for _ in range(times):
        before()
        began = time.perf_counter()
        what()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


if __name__ == "__main__":
    main(sys.argv[1:])
