"""Doorbells are repeated, reordered and dropped."""

from __future__ import annotations

import json
import uuid
from typing import Any

import redis

from core.dispatch.doorbell import FIRST_QUEUE, QUEUE
from tests.chaos.faults.registry import Strike, fault
from tests.chaos.ground import let_pass

#: Everybody's, and that of tenants who come to a full window.
_QUEUES = (QUEUE, FIRST_QUEUE)


@fault("redis")
def doorbells_duplicated(strike: Strike) -> None:
    """Every message is delivered two to five times, some of the copies seconds later and in any order."""
    late: list[dict[str, Any]] = []
    for _ in range(4):
        with _Queues(strike) as queue:
            copies = [copy for message in queue.messages for copy in [message] * strike.rng.randint(1, 4)]
            late += strike.rng.sample(copies, len(copies) // 3)
            strike.notes.append(f"{len(copies)} copies")
            queue.add(copies)
        let_pass(strike.rng.uniform(0.1, 0.5))
    with _Queues(strike) as queue:
        strike.rng.shuffle(late)
        queue.add(late)


@fault("redis")
def doorbells_reordered(strike: Strike) -> None:
    """Messages are delivered in any order."""
    for _ in range(5):
        with _Queues(strike) as queue:
            strike.notes.append(str(len(queue.messages)))
            queue.shuffle()
        let_pass(strike.rng.uniform(0.1, 0.5))


@fault("redis")
def doorbells_dropped(strike: Strike) -> None:
    """Messages vanish."""
    for _ in range(3):
        with _Queues(strike) as queue:
            strike.notes.append(str(len(queue.messages)))
            queue.clear()
        let_pass(strike.rng.uniform(0.1, 0.5))


class _Queues:
    """Dramatiq's queues of doorbells, held still: the workers are stopped for half a second meanwhile."""

    def __init__(self, strike: Strike) -> None:
        self._ground, self._rng = strike.ground, strike.rng
        parts = strike.ground.address.redis_url.rpartition("/")
        self._redis = redis.Redis.from_url(f"{parts[0]}/{int(parts[2] or 0) + 1}")
        self.messages: list[dict[str, Any]] = []

    def __enter__(self) -> _Queues:
        for name in self._ground.workers:
            self._ground.freeze(name)
        let_pass(0.5)
        try:
            self.messages = [
                json.loads(body) for queue in _QUEUES for body in self._redis.hgetall(_bodies(queue)).values()
            ]
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
            queue = message["queue_name"]
            self._redis.hset(_bodies(queue), own, json.dumps(copy))
            self._redis.rpush(f"llm:{queue}", own)

    def shuffle(self) -> None:
        for queue in _QUEUES:
            found: list[Any] = self._redis.lrange(f"llm:{queue}", 0, -1)
            if found:
                self._rng.shuffle(found)
                with self._redis.pipeline() as pipeline:
                    pipeline.delete(f"llm:{queue}")
                    pipeline.rpush(f"llm:{queue}", *found)
                    pipeline.execute()

    def clear(self) -> None:
        for queue in _QUEUES:
            self._redis.delete(f"llm:{queue}", _bodies(queue))


def _bodies(queue: str) -> str:
    """Where Dramatiq keeps the messages of a queue; in the queue itself are their ids."""
    return f"llm:{queue}.msgs"
