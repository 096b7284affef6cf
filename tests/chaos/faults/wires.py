"""Replies of the stores are lost although what was asked for took effect."""

from __future__ import annotations

from tests.chaos.faults.registry import Strike, fault
from tests.chaos.ground import let_pass

#: Replies lost in one trial.
LOSSES = 15


@fault("postgres", needs="wires")
def commits_lost(strike: Strike) -> None:
    """The connection breaks after the server has committed and before the client hears of it."""
    _lose(strike, "postgres", to=b"COMMIT")


@fault("postgres", needs="wires")
def sql_replies_lost(strike: Strike) -> None:
    """The same at any statement."""
    _lose(strike, "postgres")


@fault("redis", needs="wires")
def redis_replies_lost(strike: Strike) -> None:
    """The connection breaks after Redis has done a command, of the limiter or of Dramatiq."""
    _lose(strike, "redis")


@fault("redis", long=True, needs="wires")
def redis_replies_silent(strike: Strike) -> None:
    """Commands are done and never answered: the clients' time-outs end the waiting."""
    _lose(strike, "redis", silent=True)


def _lose(strike: Strike, store: str, *, to: bytes = b"", silent: bool = False) -> None:
    wire = strike.ground.wires[store]
    before = wire.lost
    for _ in range(LOSSES):
        wire.lose(1, to=to, silent=silent)
        let_pass(strike.rng.uniform(0.05, 0.6))
    wire.lose(0)
    lost = wire.lost - before
    strike.notes.append(f"{lost} replies lost")
    if not lost:
        strike.violations.append(f"no reply of {store} was lost: the fault did not strike")
