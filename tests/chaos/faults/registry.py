"""What a fault is, and the list of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.ground import Ground, let_pass

#: How long a graceful stop may take.
GRACE_SECONDS = 30.0


@dataclass(slots=True)
class Strike:
    """One fault as it strikes one trial."""

    ground: Ground
    rng: random.Random
    #: what is killed stays down for at most so long
    down_seconds: float
    #: calls in flight at ungraceful kills, which may be made again (I5)
    unknown: int = 0
    #: what the fault itself saw go wrong
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def wait(self, most: float | None = None) -> None:
        """Down for a while, seeded."""
        seconds = self.rng.uniform(0, self.down_seconds if most is None else most)
        self.notes.append(f"{seconds:.1f} s")
        let_pass(seconds)


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    strike: Callable[[Strike], None]
    #: what it lays hands on: two faults with the same target do not strike together
    target: str
    #: in the long form only: slow, or it needs processes of its own
    long: bool = False
    #: what it takes: `wires`, `disks` or `hosts` of the ground, or bent `clocks`
    needs: str = ""

    def goes_with(self, other: Fault) -> bool:
        """True if both can strike one house at the same time."""
        needs = {self.needs, other.needs}
        return self.target != other.target and not ("hosts" in needs and needs & {"wires", "disks"})


FAULTS: dict[str, Fault] = {}


def fault(
    target: str, *, long: bool = False, needs: str = ""
) -> Callable[[Callable[[Strike], None]], Callable[[Strike], None]]:
    """Name a function as a fault: `def worker_kill` is `worker-kill`."""

    def add(strike: Callable[[Strike], None]) -> Callable[[Strike], None]:
        name = strike.__name__.replace("_", "-")
        FAULTS[name] = Fault(name, strike, target, long, needs)
        return strike

    return add


def draw(rng: random.Random, names: list[str], *, pairs: bool = False) -> list[Fault]:
    """One of the faults, now and then (with `pairs` always) with a second one that strikes something else meanwhile."""
    first = FAULTS[rng.choice(names)]
    others = [FAULTS[name] for name in names if first.goes_with(FAULTS[name])]
    return [first, rng.choice(others)] if others and (rng.random() < 0.3 or pairs) else [first]
