"""Doorbells are repeated, reordered and dropped."""

from __future__ import annotations

import json
import uuid
from typing import Any

import redis

from core.dispatch.doorbell import QUEUE
from tests.chaos.faults.registry import Strike, fault
from tests.chaos.ground import let_pass


@fault("redis")
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


@fault("redis")
def doorbells_reordered(strike: Strike) -> None:
    """Messages are delivered in any order."""
    for _ in range(5):
        with _Queue(strike) as queue:
            strike.notes.append(str(len(queue.messages)))
            queue.shuffle()
        let_pass(strike.rng.uniform(0.1, 0.5))


@fault("redis")
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
        try:
            self.messages = [json.loads(body) for body in self._redis.hgetall(self._bodies).values()]  # type: ignore[union-attr]
        except redis.RedisError:
            self.__exit__()
            raise
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
