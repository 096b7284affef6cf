"""`python -m tests.chaos`: trials with faults drawn from a seed; a table of what held, status 1 if anything did not."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.chaos import report as reports
from tests.chaos.faults import FAULTS, draw
from tests.chaos.ground import Ground
from tests.chaos.grounds import fresh, missing, suits
from tests.chaos.trial import WEATHERS, Report, Trial


def main(arguments: list[str]) -> int:
    asked = _parse(arguments)
    names = asked.faults.split(",") if asked.faults else [n for n, f in FAULTS.items() if asked.long or not f.long]
    unknown = set(names) - FAULTS.keys()
    if unknown:
        print(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}", file=sys.stderr)
        return 2
    for needs in sorted({FAULTS[name].needs for name in names} - {""}):
        if (why := missing(needs)) is not None:
            without = [name for name in names if FAULTS[name].needs == needs]
            print(f"left out: {', '.join(without)}: {why}", file=sys.stderr)
            names = [name for name in names if name not in without]
    if not names:
        return 2
    directory = Path(tempfile.mkdtemp(prefix="llm-service-chaos-"))
    # Root's PostgreSQL runs as another user, who has to get in.
    directory.chmod(0o711)
    found: list[Report] = []
    ground: Ground | None = None
    try:
        for n in range(asked.trials * len(names) if asked.each else asked.trials):
            seed = asked.seed + n
            rng = random.Random(f"plan {seed}")
            faults = [FAULTS[names[n // asked.trials]]] if asked.each else draw(rng, names, pairs=asked.pairs)
            all_needs = {fault.needs for fault in faults}
            if ground is not None and not suits(ground, all_needs):
                ground.close()
                ground = None
            if ground is None:
                options: dict[str, Any] = {"lease_seconds": asked.lease}
                if asked.workers is not None:
                    options["workers"] = asked.workers
                ground = fresh(directory / f"house-{n}", all_needs, options)
                ground.start(120)
            weather = asked.weather or rng.choice(list(WEATHERS))
            trial = Trial(ground, seed, faults, asked.rows, weather, down_seconds=asked.down)
            found.append(reports.of(trial, [fault.name for fault in faults]))
            if found[-1].violations:
                # What is broken stays broken for whoever looks at it; the next trial begins anew.
                ground.close()
                ground = None
    finally:
        if ground is not None:
            ground.close()
        if asked.report is not None:
            reports.write(found, asked.report)
    return reports.conclude(found, directory)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first trial; the next has the next")
    parser.add_argument("--trials", type=int, help="by default 10, with --each 1")
    parser.add_argument("--each", action="store_true", help="so many trials of each fault in turn, alone")
    parser.add_argument("--pairs", action="store_true", help="always two faults at once, instead of three times in ten")
    parser.add_argument("--faults", help=f"comma-separated, of {', '.join(FAULTS)}; by default all but the long ones")
    parser.add_argument("--rows", type=int, default=1200, help="of all batches of a trial together")
    parser.add_argument("--weather", choices=list(WEATHERS), help="how providers behave; by default drawn")
    parser.add_argument("--workers", type=int, help="by default 2, on hosts of their own 4")
    parser.add_argument("--lease", type=float, default=15.0, help="seconds that a silent worker is taken to be alive")
    parser.add_argument("--down", type=float, default=10.0, help="most seconds that what is killed stays down")
    parser.add_argument("--long", action="store_true", help="the long faults too")
    parser.add_argument("--report", type=Path, help="write a report as JSON")
    asked = parser.parse_args(arguments)
    if asked.trials is None:
        asked.trials = 1 if asked.each else 10
    return asked


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
