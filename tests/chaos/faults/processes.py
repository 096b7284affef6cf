"""Processes of the service die, stop, freeze or keep the wrong time."""

from __future__ import annotations

import time
from collections.abc import Callable

from launcher.client import wait_until
from tests.chaos.faults.registry import GRACE_SECONDS, Strike, fault
from tests.chaos.ground import let_pass

TAKEOVER_SECONDS = 10.0


@fault("nothing")
def none(strike: Strike) -> None:
    """Nothing: what the checks say of a house at peace."""


@fault("workers")
def worker_kill(strike: Strike) -> None:
    """SIGKILL of one worker."""
    _kill_workers(strike, [strike.rng.choice(strike.ground.workers)])


@fault("workers")
def workers_kill(strike: Strike) -> None:
    """SIGKILL of all workers at once."""
    _kill_workers(strike, strike.ground.workers)


def _kill_workers(strike: Strike, names: list[str]) -> None:
    since = time.time()
    for name in names:
        strike.ground.kill(name)
    strike.unknown += strike.ground.in_calls_of(names, since)
    strike.wait()
    for name in names:
        strike.ground.start_process(name)


@fault("workers")
def worker_term(strike: Strike) -> None:
    """SIGTERM of one worker after the other, as in an update: nothing may be repeated."""
    for name in strike.ground.workers:
        if not strike.ground.stop(name, GRACE_SECONDS):
            strike.violations.append(f"{name} did not stop within {GRACE_SECONDS:.0f} s of SIGTERM")
        strike.wait(2.0)
        strike.ground.start_process(name)


@fault("workers")
def worker_freeze(strike: Strike) -> None:
    """SIGSTOP of a worker until others have its rows, then SIGCONT: it comes back with outcomes of long ago."""
    ground, name = strike.ground, strike.rng.choice(strike.ground.workers)
    since = time.time()
    ground.freeze(name)
    strike.unknown += ground.in_calls_of([name], since)
    let_pass(ground.lease_seconds + strike.rng.uniform(2.0, 6.0))
    ground.thaw(name)


@fault("scheduler")
def scheduler_kill(strike: Strike) -> None:
    """SIGKILL of the only scheduler."""
    strike.ground.kill("scheduler")
    strike.wait()
    strike.ground.start_process("scheduler")


@fault("scheduler", long=True)
def scheduler_standby(strike: Strike) -> None:
    """SIGKILL of the leader while another stands by, which must lead within ten seconds."""
    _another_leads_after(strike, strike.ground.kill)
    strike.ground.start_process("scheduler")
    strike.ground._wait_for("scheduler", 30.0)
    strike.ground.stop("scheduler-2")


@fault("scheduler", long=True)
def scheduler_freeze(strike: Strike) -> None:
    """SIGSTOP of the leader while another stands by, which must lead within ten seconds; then SIGCONT."""
    _another_leads_after(strike, strike.ground.freeze)
    strike.wait()
    strike.ground.thaw("scheduler")
    strike.wait(2.0)
    strike.ground.stop("scheduler-2")


def _another_leads_after(strike: Strike, what_happens: Callable[[str], None]) -> None:
    ground = strike.ground
    wait_until(lambda: ground.leader_address() is not None, 30.0)
    ground.start_process("scheduler-2")
    ground._wait_for("scheduler-2", 30.0)
    before = ground.leader_address()
    what_happens("scheduler")
    struck = time.monotonic()
    try:
        wait_until(lambda: ground.leader_address() not in (None, before), TAKEOVER_SECONDS)
        strike.notes.append(f"led again after {time.monotonic() - struck:.1f} s")
    except TimeoutError:
        strike.violations.append(f"nobody else led within {TAKEOVER_SECONDS:.0f} s")


@fault("api")
def api_kill(strike: Strike) -> None:
    """SIGKILL of the API while batches are being submitted."""
    strike.ground.kill("api")
    strike.wait(min(3.0, strike.down_seconds))
    strike.ground.start_process("api")
