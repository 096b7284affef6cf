"""Pages of logs among a million rows and more: every filter, the second page, the last, one log, and the export.

A page is held against 100 ms however many rows there are; one that has to look at many rows gives what it found in its
time, with a cursor. PostgreSQL's plan of the page in the middle of the batch is printed at the end.
"""

from __future__ import annotations

import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from benchmarks import history
from benchmarks.common import checked, pids, running_house
from benchmarks.options import Option, parse
from benchmarks.report import Report
from benchmarks.usage import MIB, MemoryWatch, processor_seconds
from core import db, ids
from core.logbook import search
from launcher.client import Client
from launcher.house import House

_GOAL_MS = 100.0
_GROWTH_GOAL_MIB = 64.0
_READ_BYTES = 256 << 10


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "logs",
        __doc__,
        arguments,
        rows=Option(1_000_000, 20_000, "completions, half of them one batch"),
        times=Option(15, 3, "how often each page is asked for in a run; their median counts"),
        exported=Option(500_000, 10_000, "rows that are exported at the most"),
        runs=Option(3, 1, "how often everything is measured"),
    )
    report = Report("logs", options)
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
    (provider_id, *_) = [found["id"] for found in checked(client.get("/v1/providers"), 200).json()["data"]]
    batch_id, progress = history.write_completions(tenant_id, project_id, ids.parse("prov", provider_id), options.rows)
    for done in progress:
        report.say(f"{done:,} rows are written")
    batch = ids.public("batch", batch_id)
    pages = _pages(client, batch, options.rows)
    for _ in range(options.runs):
        for name, query in pages.items():
            _page(house, client, report, name, query, options.times)
        _walk(client, report, {"status": "expired"}, "a status of one row")
        _walk(client, report, {"q": "needle"}, "a word of one prompt")
        for kind in ("application/x-ndjson", "text/csv"):
            _export(house, client, report, kind, batch, options.exported)
    for line in _plan(tenant_id, project_id, batch_id):
        report.say(line)


def _pages(client: Client, batch: str, rows: int) -> dict[str, dict[str, Any]]:
    """The queries, by what they are called."""
    first = checked(client.get(_path(client), params={"limit": 100}), 200).json()
    days = (datetime.now(UTC) - timedelta(days=history.BATCH_DAYS_AGO)).isoformat()
    middle = checked(
        client.get(_path(client), params={"custom_id": f"row-{rows - rows // 4}", "batch_id": batch}), 200
    ).json()["data"][0]["id"]
    oldest = (datetime.now(UTC) - timedelta(days=history.DAYS - 1)).isoformat()
    return {
        "the newest": {},
        "the second": {"cursor": first["next_cursor"]},
        "in the middle of the batch": {"cursor": middle},
        "of the oldest day": {"to": oldest},
        "from and to": {"from": oldest, "to": days},
        "batch_id": {"batch_id": batch},
        "batch_id and status": {"batch_id": batch, "status": "failed"},
        "custom_id": {"custom_id": f"row-{rows - 1}"},
        "model": {"model": "claude-sonnet-4-5"},
        "provider": {"provider": "anthropic"},
        "status, one in fifty": {"status": "failed"},
        "status, one row of all": {"status": "expired"},
        "min_duration_ms, one in a hundred": {"min_duration_ms": 15000},
        "q, one in a hundred": {"q": "common"},
        "q, one row of all": {"q": "needle"},
        "q, none": {"q": "nobody wrote this"},
        "q and status": {"q": "order", "status": "failed"},
    }


def _page(house: House, client: Client, report: Report, name: str, query: dict[str, Any], times: int) -> None:
    processes = pids(house, "api", "postgres")
    used = processor_seconds(processes)
    took, found = [], 0
    for _ in range(times):
        began = time.perf_counter()
        answer = checked(client.get(_path(client), params={**query, "limit": 100}), 200)
        took.append(time.perf_counter() - began)
        found = len(answer.json()["data"])
    used = processor_seconds(processes) - used
    report.add(f"{name}: page ({found} found)", statistics.median(took) * 1000, "ms", at_most=_GOAL_MS)
    report.add(f"{name}: processor time, API and PostgreSQL", used / times * 1000, "ms")


def _walk(client: Client, report: Report, query: dict[str, Any], what: str) -> None:
    """Follow the cursor to the end: every page is in time, and together they find what there is."""
    cursor, pages, found, slowest = None, 0, 0, 0.0
    started = time.perf_counter()
    while True:
        began = time.perf_counter()
        params = {**query, "limit": 100} | ({"cursor": cursor} if cursor else {})
        page = checked(client.get(_path(client), params=params), 200).json()
        slowest = max(slowest, time.perf_counter() - began)
        pages += 1
        found += len(page["data"])
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break
    if found != 1:
        raise RuntimeError(f"{what}: found {found} times")
    report.add(f"{what}: all rows looked at", time.perf_counter() - started, "s")
    report.add(f"{what}: pages until then", pages, "pages")
    report.add(f"{what}: the slowest page", slowest * 1000, "ms")


def _export(house: House, client: Client, report: Report, kind: str, batch: str, most: int) -> None:
    lines = 0
    began = time.perf_counter()
    with MemoryWatch(pids(house, "api")) as watch:
        answer = checked(
            client.get(_path(client), params={"batch_id": batch}, headers={"accept": kind}, stream=True, timeout=900),
            200,
        )
        with answer:
            for piece in answer.iter_content(_READ_BYTES):
                lines += piece.count(b"\n")
                if lines >= most:
                    break
    seconds = time.perf_counter() - began
    report.add(f"export as {kind}", lines / seconds, "rows/s")
    report.add(f"export as {kind}: the API's memory", watch.growth / MIB, "MiB more", at_most=_GROWTH_GOAL_MIB)


def _plan(tenant_id: UUID, project_id: UUID, batch_id: UUID) -> list[str]:
    """PostgreSQL's plan of a page in the middle of the batch, run."""
    with db.connection(tenant_id) as connection:
        row = connection.execute(
            "SELECT created_at, id FROM completion WHERE batch_id = %s AND tenant_id = %s ORDER BY id"
            " OFFSET (SELECT total / 2 FROM batch WHERE id = %s) LIMIT 1",
            (batch_id, tenant_id, batch_id),
        ).fetchone()
        assert row is not None
        values = {
            "tenant": tenant_id,
            "project": project_id,
            "floor": row["created_at"] - timedelta(days=1),
            "at": row["created_at"],
            "id": row["id"],
        }
        plan = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {search.ROWS} LIMIT 101", values)
        return [line["QUERY PLAN"] for line in plan]


def _path(client: Client) -> str:
    return f"/v1/logs/{client.tenant_id}/{client.project_id}"


if __name__ == "__main__":
    main(sys.argv[1:])
