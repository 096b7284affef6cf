"""Every process on a host of its own, in network namespaces, and a disk that can be filled: it takes root to build."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import disks, network, report
from tests.chaos.faults import FAULTS
from tests.chaos.hosts import Hosts
from tests.chaos.trial import Trial

pytestmark = pytest.mark.e2e

ROWS = 400


@pytest.fixture(scope="module")
def hosts(server_directory: Path) -> Iterator[Hosts]:
    """An API, two workers and two schedulers; four workers are in the long form."""
    why_not = network.permitted() or disks.permitted()
    if why_not is not None:
        pytest.skip(why_not)
    with Hosts(
        server_directory / "hosts", workers=2, lease_seconds=4.0, receiver_answers=(), small_disks=True
    ) as house:
        assert isinstance(house, Hosts)
        yield house


def test_the_invariants_hold_after_the_leaders_host_dies_while_the_databases_disk_is_full(hosts: Hosts) -> None:
    # One trial for both, for the sake of time: neither fault has to do with the other.
    faults = [FAULTS["leader-host-dies"], FAULTS["disk-full"]]
    found = Trial(hosts, 58, faults, ROWS, down_seconds=1.0, submit_seconds=20.0).run()
    assert not found.violations, report.table([found])
