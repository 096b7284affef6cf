"""Which ground a fault needs, and whether it can be had on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.chaos import disks, network
from tests.chaos.faults import clocks
from tests.chaos.ground import Ground
from tests.chaos.hosts import Hosts


def missing(needs: str) -> str | None:
    """Why faults that need this cannot strike here; None: they can."""
    if needs == "disks":
        return disks.permitted()
    if needs == "hosts":
        return network.permitted()
    if needs == "clocks" and clocks.faketime() is None:
        return "libfaketime is not installed: apt install libfaketime"
    return None


def fresh(directory: Path, needs: set[str], options: dict[str, Any]) -> Ground:
    """A ground that has what is needed."""
    if "hosts" in needs:
        return Hosts(directory, **options)
    return Ground(directory, wired="wires" in needs, small_disks="disks" in needs, **options)


def suits(ground: Ground, needs: set[str]) -> bool:
    """True if the ground has what is needed; a house on one host is rebuilt for faults of hosts only."""
    return (
        isinstance(ground, Hosts) == ("hosts" in needs)
        and ("wires" not in needs or bool(ground.wires))
        and ("disks" not in needs or bool(ground.disks))
    )
