"""The harness finds what it is there to find: with one safeguard of native batches taken out, its checks fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import clusters
from tests.chaos.native.ground import NativeGround
from tests.chaos.native.points import POINTS
from tests.chaos.native.trial import NativeTrial

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("safeguard", "point", "broken"),
    [("no-look", "created-openai", "I5"), ("no-gate", "downloading", "I3")],
)
def test_without_a_safeguard_rows_are_paid_or_counted_twice_and_that_is_seen(
    server_directory: Path, cluster: Path, safeguard: str, point: str, broken: str
) -> None:
    bent = dict.fromkeys(("worker-1", "worker-2", "scheduler"), safeguard)
    directory = server_directory / safeguard
    clusters.copy_for_house(cluster, directory)
    with NativeGround(directory, lease_seconds=3.0, durable=False, migrated=True, bent=bent) as ground:
        assert isinstance(ground, NativeGround)
        trial = NativeTrial(ground, 7, [], 900, "fair", 0.5, 20.0, point=POINTS[point], victim="workers")
        found = trial.run()
    assert any(violation.startswith(broken) for violation in found.violations), found
