"""`python -m tests.chaos.native`: a kill at each point between two steps of native shards, with every victim."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos import report as reports
from tests.chaos.native.ground import NativeGround
from tests.chaos.native.points import POINTS
from tests.chaos.native.trial import NativeTrial
from tests.chaos.trial import Report


def main(arguments: list[str]) -> int:
    asked = _parse(arguments)
    names = asked.points.split(",") if asked.points else list(POINTS)
    if unknown := set(names) - POINTS.keys():
        print(f"no such point: {', '.join(sorted(unknown))}; there are {', '.join(POINTS)}", file=sys.stderr)
        return 2
    plan = [(name, victim) for name in names for victim in POINTS[name].victims for _ in range(asked.trials)]
    directory = Path(tempfile.mkdtemp(prefix="llm-service-chaos-native-"))
    # Root's PostgreSQL runs as another user, who has to get in.
    directory.chmod(0o711)
    found: list[Report] = []
    ground: NativeGround | None = None
    try:
        for n, (name, victim) in enumerate(plan):
            if ground is None:
                ground = NativeGround(directory / f"house-{n}", lease_seconds=asked.lease)
                ground.start(120)
            seed = asked.seed + n
            weather = asked.weather or random.Random(f"plan {seed}").choice(["fair", "changing"])
            point = POINTS[name]
            trial = NativeTrial(ground, seed, [], asked.rows, weather, asked.down, point=point, victim=victim)
            found.append(reports.of(trial, [name, victim]))
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
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.native", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first trial; the next has the next")
    parser.add_argument("--trials", type=int, default=1, help="of each point with each victim")
    parser.add_argument("--points", help=f"comma-separated, of {', '.join(POINTS)}; by default all")
    parser.add_argument("--rows", type=int, default=1200, help="of all batches of a trial together")
    parser.add_argument("--weather", choices=["fair", "changing"], help="what becomes of rows; by default drawn")
    parser.add_argument("--lease", type=float, default=3.0, help="seconds that a silent worker is taken to be alive")
    parser.add_argument("--down", type=float, default=3.0, help="most seconds that what is killed stays down")
    parser.add_argument("--report", type=Path, help="write a report as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
