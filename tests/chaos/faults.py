"""The faults by name: each strikes a running house, waits as long as it lasts, and puts right what it broke."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
import redis

from core.dispatch.doorbell import QUEUE
from launcher.house import wait_until
from scheduler.leader import LEADER_LOCK
from tests.chaos.ground import Ground, let_pass
from tests.e2e.batches import results, rows, submit
from tests.e2e.tenants import new_client

#: How long a graceful stop may take.
GRACE_SECONDS = 30.0
TAKEOVER_SECONDS = 10.0


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


FAULTS: dict[str, Fault] = {}


def fault(target: str, *, long: bool = False) -> Callable[[Callable[[Strike], None]], Callable[[Strike], None]]:
    """Name a function as a fault: `def worker_kill` is `worker-kill`."""

    def add(strike: Callable[[Strike], None]) -> Callable[[Strike], None]:
        name = strike.__name__.replace("_", "-")
        FAULTS[name] = Fault(name, strike, target, long)
        return strike

    return add


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
    ground = strike.ground
    ground.start_process("scheduler-2")
    ground._wait_for("scheduler-2", 30.0)
    before = _leader(ground)
    ground.kill("scheduler")
    struck = time.monotonic()
    try:
        wait_until(lambda: _leader(ground) not in (None, before), TAKEOVER_SECONDS)
        strike.notes.append(f"led again after {time.monotonic() - struck:.1f} s")
    except TimeoutError:
        strike.violations.append(f"nobody led {TAKEOVER_SECONDS:.0f} s after the leader's death")
    ground.start_process("scheduler")
    ground._wait_for("scheduler", 30.0)
    ground.stop("scheduler-2")


def _leader(ground: Ground) -> int | None:
    """The backend that holds the leader's lock."""
    try:
        found = ground.query(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = %(lock)s::oid",
            {"lock": LEADER_LOCK & 0xFFFFFFFF},
        )
    except psycopg.Error:
        return None
    return int(found[0]["pid"]) if found else None


@fault("api")
def api_kill(strike: Strike) -> None:
    """SIGKILL of the API while batches are being submitted."""
    strike.ground.kill("api")
    strike.wait(min(3.0, strike.down_seconds))
    strike.ground.start_process("api")


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


@fault("doorbells")
def doorbells_duplicated(strike: Strike) -> None:
    """Every message is delivered two to five times, some of the copies seconds later and in any order."""
    late: list[dict[str, Any]] = []
    for _ in range(4):
        with _Queue(strike) as queue:
            copies = [copy for message in queue.messages for copy in [message] * strike.rng.randint(1, 4)]
            late += strike.rng.sample(copies, len(copies) // 3)
            strike.notes.append(f"{len(copies)} copies")
            queue.add(copies)
        let_pass(strike.rng.uniform(0.1, 0.5))
    with _Queue(strike) as queue:
        strike.rng.shuffle(late)
        queue.add(late)


@fault("doorbells")
def doorbells_reordered(strike: Strike) -> None:
    """Messages are delivered in any order."""
    for _ in range(5):
        with _Queue(strike) as queue:
            strike.notes.append(str(len(queue.messages)))
            queue.shuffle()
        let_pass(strike.rng.uniform(0.1, 0.5))


@fault("doorbells")
def doorbells_dropped(strike: Strike) -> None:
    """Messages vanish."""
    for _ in range(3):
        with _Queue(strike) as queue:
            strike.notes.append(str(len(queue.messages)))
            queue.clear()
        let_pass(strike.rng.uniform(0.1, 0.5))


class _Queue:
    """Dramatiq's queue of doorbells, held still: the workers are stopped for half a second meanwhile."""

    def __init__(self, strike: Strike) -> None:
        self._ground, self._rng = strike.ground, strike.rng
        parts = strike.ground.address.redis_url.rpartition("/")
        self._redis = redis.Redis.from_url(f"{parts[0]}/{int(parts[2] or 0) + 1}")
        self._list, self._bodies = f"llm:{QUEUE}", f"llm:{QUEUE}.msgs"
        self.messages: list[dict[str, Any]] = []

    def __enter__(self) -> _Queue:
        for name in self._ground.workers:
            self._ground.freeze(name)
        let_pass(0.5)
        self.messages = [json.loads(body) for body in self._redis.hgetall(self._bodies).values()]  # type: ignore[union-attr]
        return self

    def __exit__(self, *_: object) -> None:
        self._redis.close()
        for name in self._ground.workers:
            self._ground.thaw(name)

    def add(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            own = str(uuid.UUID(int=self._rng.getrandbits(128)))
            copy = {**message, "options": {**message["options"], "redis_message_id": own}}
            self._redis.hset(self._bodies, own, json.dumps(copy))
            self._redis.rpush(self._list, own)

    def shuffle(self) -> None:
        found: list[Any] = self._redis.lrange(self._list, 0, -1)  # type: ignore[assignment]
        if found:
            self._rng.shuffle(found)
            with self._redis.pipeline() as pipeline:
                pipeline.delete(self._list).rpush(self._list, *found).execute()

    def clear(self) -> None:
        self._redis.delete(self._list, self._bodies)


@fault("workers", long=True)
def clock_skew(strike: Strike) -> None:
    """One worker's clock is a minute or an hour fast or slow for the rest of the batch."""
    ground, name = strike.ground, strike.ground.workers[0]
    seconds = strike.rng.choice([-3600, -61, 61, 3600])
    strike.notes.append(f"{seconds:+d} s")
    ground.stop(name, GRACE_SECONDS)
    ground.instead[name] = ["tests.chaos.sabotage", "skewed-clock", str(seconds)]
    ground.start_process(name)
    ground._wait_for(name, 30.0)
    let_pass(strike.rng.uniform(3.0, 6.0))
    ground.stop(name, GRACE_SECONDS)
    del ground.instead[name]
    ground.start_process(name)


@fault("workers", long=True)
def poison(strike: Strike) -> None:
    """A row that takes down whatever worker calls it: it ends as worker_crashed, and takes no other row with it."""
    ground = strike.ground
    client = new_client(ground, "poison")
    for name in ground.workers:
        ground.stop(name, GRACE_SECONDS)
        ground.instead[name] = ["tests.chaos.sabotage", "poison"]
        ground.start_process(name)
    requests = rows(f"poison-{strike.rng.getrandbits(32)}", 30)
    requests[7]["messages"][0]["content"] += " POISON"
    batch_id = submit(client, requests)["id"]

    def ended() -> bool:
        for name in ground.workers:
            if not ground.alive(name):
                # As a supervisor does.
                strike.unknown += ground.in_calls_of([name], time.time())
                ground.start_process(name)
        return client.get(f"/v1/batch/{batch_id}").json()["ended_at"] is not None

    try:
        wait_until(ended, 8 * ground.lease_seconds + 30.0)
        found = {row["custom_id"]: row for row in results(client, batch_id)}
        if (found["row-7"]["error"] or {}).get("type") != "worker_crashed":
            strike.violations.append(f"poison: the row ended as {found['row-7']['status']}: {found['row-7']['error']}")
        innocent = [key for key, row in found.items() if row["status"] != "succeeded" and key != "row-7"]
        if innocent:
            strike.violations.append(f"poison: {len(innocent)} other rows failed: {found[innocent[0]]['error']}")
    except TimeoutError:
        strike.violations.append("poison: the batch has not ended")
    for name in ground.workers:
        del ground.instead[name]
        ground.stop(name, GRACE_SECONDS)
        ground.start_process(name)


def draw(rng: random.Random, names: list[str]) -> list[Fault]:
    """One of the faults, now and then with a second one that strikes something else at about the same time."""
    first = FAULTS[rng.choice(names)]
    others = [FAULTS[name] for name in names if FAULTS[name].target != first.target]
    return [first, rng.choice(others)] if others and rng.random() < 0.3 else [first]
