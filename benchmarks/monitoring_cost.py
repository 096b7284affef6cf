"""What metrics, sums and traces cost the rows of a batch: the service as it is, against one that counts nothing.

The other service is the same code with `without_monitoring` first on its path: its counters, gauges, histograms and
hourly sums do nothing. Each runs in a house of its own, one after the other in every run, so that all see the machine
in the same states. Traces are sent to a collector that reads and forgets.
"""

from __future__ import annotations

import sys
import threading
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from launcher.services import ROOT

_GOAL = 1.10
_WITHOUT = Path(__file__).resolve().parent / "without_monitoring"


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "monitoring_cost",
        __doc__,
        arguments,
        rows=Option(10_000, 1000, "rows of a batch, at latency 0"),
        batches=Option(3, 1, "batches in each house; the fastest counts"),
        workers=Option(1, 1, "worker processes"),
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
        for _ in range(options.runs):
            found = {name: _measure(report, options, name, environment) for name, environment in kinds.items()}
            rate, processor = found.pop("counts nothing")
            for name, (own_rate, own_processor) in found.items():
                goal = _GOAL if name == "as it is" else None
                report.add(f"{name}: times as long for a row", rate / own_rate, "x", at_most=goal)
                report.add(f"{name}: times the processor time", own_processor / processor, "x", at_most=goal)
    report.finish()


def _measure(report: Report, options: Namespace, name: str, environment: Mapping[str, str]) -> tuple[float, float]:
    """Rows per second, and processor seconds a row over all processes but the simulator, of the best batch."""
    best_rate, best_processor = 0.0, float("inf")
    with running_house(options, workers=options.workers, environment=environment) as house:
        client, _ = new_tenant(house)
        warm_up(house, client)
        for _ in range(options.batches):
            submitted = submit(client, options.rows)
            before = processor_seconds_by_part(house)
            done = all_succeeded(wait_ended(client, submitted.id))
            after = processor_seconds_by_part(house)
            used = sum(after[part] - before[part] for part in after if part != "simulator")
            best_rate = max(best_rate, options.rows / (done.ended_at - submitted.accepted_at))
            best_processor = min(best_processor, used / options.rows)
    report.add(f"{name}: rate", best_rate, "rows/s")
    report.add(f"{name}: processor time a row", best_processor * 1e6, "us")
    return best_rate, best_processor


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
