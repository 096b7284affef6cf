"""The short form of the native trials, for every change: the kills that are hardest to get over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import clusters
from tests.chaos import report
from tests.chaos.native.ground import NativeGround
from tests.chaos.native.points import POINTS
from tests.chaos.native.trial import NativeTrial

pytestmark = pytest.mark.e2e

ROWS = 900


@pytest.fixture(scope="module")
def ground(server_directory: Path, cluster: Path) -> Iterator[NativeGround]:
    """One house for all trials, with short leases."""
    directory = server_directory / "native-chaos"
    clusters.copy_for_house(cluster, directory)
    with NativeGround(directory, lease_seconds=3.0, durable=False, migrated=True) as house:
        assert isinstance(house, NativeGround)
        yield house


@pytest.mark.parametrize(
    ("point", "victim", "weather"),
    [
        ("created-openai", "workers", "fair"),
        ("created-anthropic", "everything", "fair"),
        ("downloading", "workers", "fair"),
        ("handing-back", "scheduler", "fair"),
        ("replies-lost", "worker-1", "changing"),
    ],
)
def test_the_invariants_hold_after(ground: NativeGround, point: str, victim: str, weather: str) -> None:
    seed = 40 + list(POINTS).index(point)
    trial = NativeTrial(ground, seed, [], ROWS, weather, 1.0, point=POINTS[point], victim=victim)
    found = trial.run()
    assert not found.violations, report.table([found])
