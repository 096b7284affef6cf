"""What metrics, sums and traces cost the rows of a batch: the service as it is, against one that counts nothing.

The other service is the same code with `without_monitoring` first on its path: its counters, gauges, histograms and
hourly sums do nothing. Each has a house of its own; all run at once, and batches go to them in turn, in short rounds
whose order turns round each time. Each round is compared with itself, and the median of these ratios counts: so a
machine that has slow moments slows both. Traces are sent to a collector that reads and forgets.
"""

from __future__ import annotations

import sys
import threading
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.common import (
    all_succeeded,
    new_tenant,
    processor_seconds_by_part,
    running_house,
    submit,
    wait_ended,
    warm_up,
)
from benchmarks.options import RUNS, Option, parse
from benchmarks.report import Report
from launcher.house import Client, House
from launcher.services import ROOT

_GOAL = 1.10
_WITHOUT = Path(__file__).resolve().parent / "without_monitoring"


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "monitoring_cost",
        __doc__,
        arguments,
        rows=Option(5_000, 1000, "rows of a batch, at latency 0"),
        rounds=Option(8, 1, "batches for each house; the median of the ratios counts"),
        traces=Option(1, 1, "1: houses that send traces too; 0: none"),
        workers=Option(1, 1, "worker processes in each house"),
        runs=RUNS,
    )
    report = Report("monitoring_cost", options)
    with _collector() as url:
        kinds: dict[str, Mapping[str, str]] = {
            "counts nothing": {"PYTHONPATH": f"{_WITHOUT}:{ROOT}"},
            "as it is": {},
            "with a tenth of the traces": {"LLM_SERVICE_TRACES_URL": url, "LLM_SERVICE_TRACES_RATIO": "0.1"},
            "with all traces": {"LLM_SERVICE_TRACES_URL": url, "LLM_SERVICE_TRACES_RATIO": "1"},
        }
        if not options.traces:
            kinds = {name: environment for name, environment in kinds.items() if "traces" not in name}
        for _ in range(options.runs):
            _compare(report, options, kinds)
    report.finish()


def _compare(report: Report, options: Namespace, kinds: Mapping[str, Mapping[str, str]]) -> None:
    """Run the rounds in new houses; add what each took, and its ratios to the one that counts nothing."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    with ExitStack() as houses:
        sides = {}
        for name, environment in kinds.items():
            house = houses.enter_context(running_house(options, workers=options.workers, environment=environment))
            client, _ = new_tenant(house)
            warm_up(house, client)
            sides[name] = house, client
        for number in range(options.rounds):
            for name in list(kinds)[:: 1 if number % 2 else -1]:
                found[name].append(_measure(*sides[name], options.rows))
    base = found["counts nothing"]
    for name, measured in found.items():
        goal = _GOAL if name == "as it is" else None
        for (rate, seconds), (base_rate, base_seconds) in zip(measured, base, strict=True):
            report.add(f"{name}: rate", rate, "rows/s")
            report.add(f"{name}: processor time a row", seconds * 1e6, "us")
            if measured is not base:
                report.add(f"{name}: times as long for a row", base_rate / rate, "x", at_most=goal)
                report.add(f"{name}: times the processor time", seconds / base_seconds, "x", at_most=goal)


def _measure(house: House, client: Client, rows: int) -> tuple[float, float]:
    """Rows per second, and processor seconds a row over all processes but the simulator, of one batch."""
    submitted = submit(client, rows)
    before = processor_seconds_by_part(house)
    done = all_succeeded(wait_ended(client, submitted.id))
    after = processor_seconds_by_part(house)
    used = sum(after[part] - before[part] for part in after if part != "simulator")
    return rows / (done.ended_at - submitted.accepted_at), used / rows


@contextmanager
def _collector() -> Iterator[str]:
    """The URL of a collector of traces that forgets them."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
        server.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
