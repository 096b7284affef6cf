"""Hosts fall silent: a cable is pulled and plugged in again, or a machine loses its power."""

from __future__ import annotations

import time

from launcher import services
from launcher.client import wait_until
from tests.chaos.faults.processes import TAKEOVER_SECONDS
from tests.chaos.faults.registry import Strike, fault
from tests.chaos.ground import let_pass
from tests.chaos.hosts import SCHEDULERS, Hosts

CUT_SECONDS = 60.0
#: A host that is back takes part again within this.
BACK_SECONDS = 30.0


@fault("workers", long=True, needs="hosts")
def worker_cut_off(strike: Strike) -> None:
    """The host of one worker is cut off for a minute, its process unharmed: its rows run elsewhere meanwhile."""
    ground = _hosts(strike)
    name = strike.rng.choice(ground.workers)
    _cut_worker(strike, ground, name)
    let_pass(CUT_SECONDS)
    left = ground.in_calls_of([name], time.time())
    if left:
        strike.violations.append(f"{left} rows were still leased to {name} after a minute without it")
    ground.network.join(name)
    _takes_part_again(strike, ground, name)


@fault("workers", long=True, needs="hosts")
def worker_host_dies(strike: Strike) -> None:
    """The host of one worker loses its power: no connection is closed, and a new process comes later."""
    ground = _hosts(strike)
    name = strike.rng.choice(ground.workers)
    _cut_worker(strike, ground, name)
    ground.kill(name)
    strike.wait(20.0)
    ground.network.join(name)
    ground.start_process(name)
    _takes_part_again(strike, ground, name)


@fault("scheduler", long=True, needs="hosts")
def leader_cut_off(strike: Strike) -> None:
    """The leader's host is cut off for a minute, its process unharmed; the other one leads within ten seconds."""
    ground = _hosts(strike)
    leader = _silence_leader(strike, ground)
    let_pass(strike.rng.uniform(5.0, CUT_SECONDS))
    ground.network.join(leader)


@fault("scheduler", needs="hosts")
def leader_host_dies(strike: Strike) -> None:
    """The leader's host loses its power; the other one leads within ten seconds."""
    ground = _hosts(strike)
    leader = _silence_leader(strike, ground, kill=True)
    strike.wait(20.0)
    ground.network.join(leader)
    ground.start_process(leader)


@fault("network", long=True, needs="hosts")
def network_flaps(strike: Strike) -> None:
    """Every host but the providers' loses its network for one to twelve seconds, one after the other."""
    ground = _hosts(strike)
    names = [*ground.workers, *SCHEDULERS, "api"]
    strike.rng.shuffle(names)
    for name in names:
        if name in ground.workers:
            _cut_worker(strike, ground, name)
        else:
            ground.network.cut(name)
        let_pass(strike.rng.uniform(1.0, 12.0))
        ground.network.join(name)


def _hosts(strike: Strike) -> Hosts:
    assert isinstance(strike.ground, Hosts)
    return strike.ground


def _cut_worker(strike: Strike, ground: Hosts, name: str) -> None:
    since = time.time()
    ground.network.cut(name)
    held = ground.in_calls_of([name], since)
    strike.unknown += held
    strike.notes.append(f"{name} was cut off with {held} calls")


def _takes_part_again(strike: Strike, ground: Hosts, name: str) -> None:
    began = time.monotonic()
    try:
        wait_until(lambda: services.worker_ready(ground._processes[name], ground.address.database_url), BACK_SECONDS)
        strike.notes.append(f"{name} was back after {time.monotonic() - began:.1f} s")
    except TimeoutError:
        strike.violations.append(f"{name} did not come back within {BACK_SECONDS:.0f} s of its network")


def _silence_leader(strike: Strike, ground: Hosts, *, kill: bool = False) -> str:
    wait_until(lambda: ground.leader() is not None, 30.0)
    leader = ground.leader()
    assert leader is not None
    struck = time.monotonic()
    ground.network.cut(leader)
    if kill:
        ground.kill(leader)
    try:
        wait_until(lambda: ground.leader() not in (None, leader), TAKEOVER_SECONDS)
        strike.notes.append(f"led again after {time.monotonic() - struck:.1f} s")
    except TimeoutError:
        strike.violations.append(f"nobody led {TAKEOVER_SECONDS:.0f} s after {leader} fell silent")
    return leader
