"""Latency of live completions on a key that a batch keeps busy, against the same key idle.

Calls go out on a schedule, whatever the earlier ones do, and each is timed from its own moment: a service that stalls
cannot hide it by being asked less.
"""

from __future__ import annotations

import http.client
import secrets
import statistics
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks import rows
from benchmarks.common import (
    cancel,
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

_RATIO_GOAL = 1.2
_THREADS = 64


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "live_beside_batch",
        __doc__,
        arguments,
        latency=Option(0.1, 0.1, "the provider's latency in seconds"),
        limit=Option(6000, 6000, "requests per minute that the connection has, configured and enforced"),
        burst=Option(5.0, 5.0, "seconds of the limit that the simulator's bucket holds"),
        rate=Option(10.0, 10.0, "live calls per second"),
        rows=Option(400, 40, "live calls, on the idle and on the busy key each"),
        workers=Option(2, 2, "worker processes"),
        runs=RUNS,
    )
    report = Report("live_beside_batch", options)
    limits = {"default": {"requests_per_minute": options.limit, "burst_seconds": options.burst}}
    with running_house(options, workers=options.workers, latency=options.latency, limits=limits) as house:
        warm_up(house, house.client, 100)
        for _ in range(options.runs):
            _run(house, report, options)
    report.finish()


def _run(house: House, report: Report, options: Namespace) -> None:
    client, _ = new_tenant(house, limits={"requestsPerMinute": options.limit})
    with _LiveCalls(client, options.rate) as live:
        live.measure(_THREADS)
        idle = live.measure(options.rows)
        # More rows than can run in the time, so that the batch wants the whole limit until the end.
        seconds = options.rows / options.rate
        batch = submit(client, int(options.limit / 60 * (seconds + 15)))
        house.simulator.reset(config=False)
        wait_for_calls(house, int(2 * options.limit / 60))
        before = house.simulator.ledger()
        began = time.time()
        busy = live.measure(options.rows)
        took = time.time() - began
        after = house.simulator.ledger()
        cancel(client, batch.id)
        wait_ended(client, batch.id)
    for name, values in (("idle", idle), ("busy", busy)):
        for percent in (50, 95, 99):
            report.add(f"{name} key: p{percent}", _percentile(values, percent) * 1e3, "ms")
    for percent in (50, 95, 99):
        ratio = _percentile(busy, percent) / _percentile(idle, percent)
        report.add(f"p{percent}, busy / idle", ratio, "x", at_most=_RATIO_GOAL if percent == 95 else None)
    calls = after["calls"] - before["calls"]
    report.add("share of the limit used beside", 100 * calls / (took * options.limit / 60), "%")
    report.add("the batch's calls a second", (calls - options.rows) / took, "calls/s")
    report.add("calls refused with 429", after["rate_limited"], "calls")


class _LiveCalls:
    """POST /v1/completions on a schedule, over connections that stay open."""

    def __init__(self, client: Client, per_second: float) -> None:
        self._client = client
        self._per_second = per_second
        self._pool = ThreadPoolExecutor(_THREADS)
        self._own = threading.local()
        self._opened: list[http.client.HTTPConnection] = []

    def measure(self, count: int) -> list[float]:
        """Seconds that each call took from the moment at which it was due. RuntimeError if one fails."""
        label = secrets.token_hex(3)
        start = time.perf_counter() + 0.05
        futures = [
            self._pool.submit(self._call, start + n / self._per_second, rows.call(f"{label}-{n}", n))
            for n in range(count)
        ]
        return [future.result() for future in futures]

    def _call(self, due: float, body: bytes) -> float:
        time.sleep(max(0.0, due - time.perf_counter()))
        connection = self._connection()
        connection.request("POST", "/v1/completions", body, self._client.headers | {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        took = time.perf_counter() - due
        if answer.status != 200:
            raise RuntimeError(f"a live completion was answered {answer.status}: {text[:1000]!r}")
        return took

    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection(self._client.url.removeprefix("http://"), timeout=120)
            self._opened.append(self._own.connection)
        return self._own.connection

    def __enter__(self) -> _LiveCalls:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for connection in self._opened:
            connection.close()


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    main(sys.argv[1:])
