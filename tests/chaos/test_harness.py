"""The harness finds what it is there to find: with a safeguard taken out or bent, its checks fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import clusters
from tests.chaos.faults import FAULTS
from tests.chaos.ground import Ground
from tests.chaos.trial import Trial

pytestmark = pytest.mark.e2e


@contextmanager
def ground_with(cluster: Path, directory: Path, **instead: str) -> Iterator[Ground]:
    clusters.copy_for_house(cluster, directory)
    ground = Ground(
        directory,
        lease_seconds=3.0,
        instead={name.replace("_", "-"): command for name, command in instead.items()},
        durable=False,
        migrated=True,
        api_processes=1,
        receiver_answers=(),
    )
    with ground:
        yield ground


def test_without_the_fence_calls_are_made_twice_and_that_is_seen(server_directory: Path, cluster: Path) -> None:
    with ground_with(cluster, server_directory / "unfenced", worker_1="no-fence", worker_2="no-fence") as ground:
        found = Trial(ground, 7, [FAULTS["doorbells-duplicated"]], 300, settle_seconds=20).run()
    assert any(violation.startswith("I5") for violation in found.violations), found


def test_without_rescue_rows_are_left_behind_and_that_is_seen(server_directory: Path, cluster: Path) -> None:
    with ground_with(cluster, server_directory / "unrescued", scheduler="no-rescue") as ground:
        found = Trial(ground, 7, [FAULTS["workers-kill"]], 300, down_seconds=0.5, settle_seconds=8).run()
    kinds = {violation[:2] for violation in found.violations}
    assert {"I1", "I3"} <= kinds, found


def test_answers_costs_signatures_and_keys_that_are_wrong_are_seen(server_directory: Path, cluster: Path) -> None:
    # Each of them breaks an invariant of its own, so one trial shows them all.
    bent = "mixed-up,miscounted,unsigned"
    with ground_with(cluster, server_directory / "bent", worker_1=bent, worker_2=bent, api="forgetful") as ground:
        found = Trial(ground, 7, [FAULTS["none"]], 300, settle_seconds=20).run()
    kinds = {violation[:2] for violation in found.violations}
    assert {"I1", "I2", "I4", "I6", "I7"} <= kinds, found
