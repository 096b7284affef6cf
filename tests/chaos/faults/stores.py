"""The stores die, stop, freeze or forget."""

from __future__ import annotations

import time

import redis

from tests.chaos.faults.registry import Strike, fault
from tests.chaos.ground import let_pass


@fault("redis")
def redis_kill(strike: Strike) -> None:
    """SIGKILL of Redis; it comes back with what its append-only file holds."""
    strike.ground.kill("redis")
    strike.wait()
    strike.ground.start_process("redis")


@fault("redis")
def redis_flush(strike: Strike) -> None:
    """FLUSHALL, several times."""
    with redis.Redis.from_url(strike.ground.address.redis_url) as client:
        for _ in range(strike.rng.randint(1, 5)):
            client.flushall()
            let_pass(strike.rng.uniform(0.0, 0.5))


@fault("redis", long=True)
def redis_down(strike: Strike) -> None:
    """Redis is away for up to a minute."""
    strike.ground.stop("redis")
    strike.wait(60.0)
    strike.ground.start_process("redis")


@fault("redis", long=True)
def redis_freeze(strike: Strike) -> None:
    """Redis takes connections and commands and answers nothing for a while: replies come late or after a time-out."""
    strike.ground.freeze("redis")
    strike.wait(15.0)
    strike.ground.thaw("redis")


@fault("postgres")
def postgres_kill(strike: Strike) -> None:
    """SIGKILL of PostgreSQL; it recovers from its write-ahead log."""
    strike.ground.kill("postgres")
    strike.wait()
    strike.ground.start_process("postgres")


@fault("postgres", long=True)
def postgres_down(strike: Strike) -> None:
    """PostgreSQL is away for up to a minute."""
    strike.ground.stop("postgres")
    strike.wait(60.0)
    strike.ground.start_process("postgres")


@fault("postgres", long=True)
def postgres_freeze(strike: Strike) -> None:
    """PostgreSQL answers nothing for a while, beyond the lease of every worker, while its clock goes on."""
    ground = strike.ground
    strike.unknown += ground.in_calls_of(ground.workers, time.time())
    ground.freeze("postgres")
    let_pass(ground.lease_seconds + strike.rng.uniform(0.0, 5.0))
    ground.thaw("postgres")
    # What had been started by the last statements before the freeze counts as unknown too.
    strike.unknown += ground.in_calls_of(ground.workers, time.time())
