"""The faults by name: each strikes a running house, waits as long as it lasts, and puts right what it broke."""

from tests.chaos.faults import (  # noqa: F401 - each adds its own to FAULTS
    clocks,
    disks,
    doorbells,
    hosts,
    poisoned,
    processes,
    stores,
    wires,
)
from tests.chaos.faults.registry import FAULTS, Fault, Strike, draw

__all__ = ["FAULTS", "Fault", "Strike", "draw"]
