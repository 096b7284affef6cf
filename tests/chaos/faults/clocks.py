"""Clocks that are wrong."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.faults.registry import GRACE_SECONDS, Strike, fault
from tests.chaos.ground import let_pass

OFFSETS = (-3600, -61, 61, 3600)


def faketime() -> Path | None:
    """The library of Debian's package libfaketime, which bends the clock for all of a process, C code included."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@fault("workers", long=True, needs="clocks")
def clock_skew(strike: Strike) -> None:
    """One worker's clock is a minute or an hour fast or slow for the rest of the batch."""
    _skew(strike, strike.ground.workers[0])


@fault("scheduler", long=True, needs="clocks")
def scheduler_clock_skew(strike: Strike) -> None:
    """The same for the scheduler, which judges leases."""
    _skew(strike, "scheduler")


def _skew(strike: Strike, name: str) -> None:
    """The monotonic clock stays right, as on any machine whose time is set."""
    ground, seconds = strike.ground, strike.rng.choice(OFFSETS)
    ground.stop(name, GRACE_SECONDS)
    ground.alone[name] = {
        "LD_PRELOAD": str(faketime()),
        "FAKETIME": f"{seconds:+d}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    strike.notes.append(f"{name} {seconds:+d} s")
    ground.start_process(name)
    ground._wait_for(name, 30.0)
    let_pass(strike.rng.uniform(6.0, 12.0))
    ground.stop(name, GRACE_SECONDS)
    del ground.alone[name]
    ground.start_process(name)
