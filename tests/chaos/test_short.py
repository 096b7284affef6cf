"""The short form of the chaos trials, for every change: each process killed in the middle, always with one seed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import clusters
from tests.chaos import report
from tests.chaos.faults import FAULTS
from tests.chaos.ground import Ground
from tests.chaos.trial import Trial

pytestmark = pytest.mark.e2e

SEED = 20
ROWS = 500


@pytest.fixture(scope="module")
def ground(server_directory: Path, cluster: Path) -> Iterator[Ground]:
    """One house for all trials, with short leases, and a disk that is waited for."""
    directory = server_directory / "chaos"
    clusters.copy_for_house(cluster, directory)
    with Ground(directory, lease_seconds=4.0, receiver_answers=(), wired=True, migrated=True) as house:
        assert isinstance(house, Ground)
        yield house


@pytest.mark.parametrize(
    ("fault", "weather"),
    [
        ("worker-kill", "changing"),
        ("worker-term", "fair"),
        ("scheduler-kill", "changing"),
        ("api-kill", "fair"),
        ("redis-kill", "changing"),
        ("redis-flush", "fair"),
        ("doorbells-duplicated", "fair"),
        ("commits-lost", "fair"),
        ("postgres-kill", "changing"),
    ],
)
def test_the_invariants_hold_after(ground: Ground, fault: str, weather: str) -> None:
    seed = SEED + list(FAULTS).index(fault)
    found = Trial(ground, seed, [FAULTS[fault]], ROWS, weather, down_seconds=1.5, submit_seconds=15.0).run()
    assert not found.violations, report.table([found])
