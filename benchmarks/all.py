"""Runs every benchmark, one after the other; with --quick the short form of each, to prove that they work.

With --figures only those of the dispatch engine run, three times each, as benchmarks/README.md's table wants them.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time

NAMES = (
    "throughput", "in_flight", "quota", "learned_limits", "big_batch", "live_beside_batch", "fairness", "kill_recovery",
    "gateway", "streams", "native", "idle",
    "statistics", "logs", "monitoring_cost",
)  # fmt: skip
#: The dispatch engine's figures: options, and the minutes that they take on a quiet machine with 2 cores. One that
#: takes twice as long is ended.
FIGURES: dict[str, tuple[tuple[str, ...], int]] = {
    "throughput": ((), 8),
    "in_flight": ((), 5),
    "kill_recovery": ((), 4),
    "live_beside_batch": ((), 6),
    "fairness": (("--rows", "100000"), 8),
    "quota": ((), 28),
    "big_batch": (("--runs", "3"), 40),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.all", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the short form of each")
    parser.add_argument("--fast", action="store_true", help="the database and Redis do not wait for the disk")
    parser.add_argument("--figures", action="store_true", help="the dispatch engine's only, three times each")
    given = parser.parse_args()
    options = [f"--{name}" for name in ("quick", "fast") if getattr(given, name)]
    names = tuple(FIGURES) if given.figures else NAMES
    failed = []
    start = time.monotonic()
    for name in names:
        own, minutes = FIGURES[name] if given.figures and not given.quick else ((), 0)
        # A process each: what one leaves in memory is not there for the next.
        command = [sys.executable, "-m", f"benchmarks.{name}", *own, *options]
        if _run(command, timeout_seconds=120 * minutes or None) != 0:
            failed.append(name)
    print(f"\n{len(names)} benchmarks in {time.monotonic() - start:.0f} s" + (f"; failed: {failed}" if failed else ""))
    return 1 if failed else 0


def _run(command: list[str], *, timeout_seconds: float | None) -> int:
    """Run a benchmark to its end. One that takes too long is interrupted, so that it takes its house down itself."""
    with subprocess.Popen(command) as process:
        try:
            return process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            print(f"{' '.join(command[2:])} takes longer than {timeout_seconds:.0f} s and is ended", flush=True)
            process.send_signal(signal.SIGINT)
            return process.wait()


if __name__ == "__main__":
    sys.exit(main())
