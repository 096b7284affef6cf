"""Runs every benchmark, one after the other; with --quick the short form of each, to prove that they work."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

NAMES = (
    "throughput", "in_flight", "quota", "big_batch", "live_beside_batch", "fairness", "kill_recovery",
    "gateway", "streams", "native",
    "statistics", "logs", "monitoring_cost",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.all", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the short form of each")
    parser.add_argument("--fast", action="store_true", help="the database and Redis do not wait for the disk")
    given = parser.parse_args()
    options = [f"--{name}" for name in ("quick", "fast") if getattr(given, name)]
    failed = []
    start = time.monotonic()
    for name in NAMES:
        # A process each: what one leaves in memory is not there for the next.
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False).returncode != 0:
            failed.append(name)
    print(f"\n{len(NAMES)} benchmarks in {time.monotonic() - start:.0f} s" + (f"; failed: {failed}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
