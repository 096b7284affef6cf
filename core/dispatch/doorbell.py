"""Doorbells: Dramatiq messages that tell a worker which rows, deliveries or shards wait for it: ids, never truth.

A message that is lost, repeated, reordered or late changes nothing but time: the worker asks the database whether
it may start (core/dispatch/start.py), and what nobody started is rung again (core/dispatch/rescue.py).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

from core.dispatch.listener import Listener
from core.redis_connection import LightConnection
from core.settings import settings

EXECUTE_SLICE = "execute_slice"
EXECUTE_FIRST = "execute_first"
DELIVER_WEBHOOK = "deliver_webhook"
DRIVE_SHARD = "drive_shard"
#: One queue for nearly all: each queue that a worker listens to is one more wait in Redis.
QUEUE = "doorbells"
#: But this: slices of tenants that have little rung beside others who have much. They do not stand behind those.
FIRST_QUEUE = "doorbells-first"

#: Rows in one message: few enough to spread over workers, enough to make the message's own cost vanish.
SLICE_ROWS = 32
#: And in one for FIRST_QUEUE: started with one statement, so that they are called and recorded together.
FIRST_SLICE_ROWS = 64


@dataclass(frozen=True, slots=True)
class Slice:
    """Claimed rows of one lane: (completion id, fence) each."""

    created_at: datetime
    rows: list[tuple[int, int]]


class DoorbellBroker(RedisBroker):
    """A broker without delay queues, which nobody here uses and every worker would poll, and whose workers wait."""

    @property
    def consumer_class(self) -> type[Listener]:
        return Listener

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def enqueue_all(self, messages: Iterable[dramatiq.Message[Any]]) -> None:
        """`enqueue` each, in order, with two round trips for all of them. Raises redis.RedisError."""
        with self.client.pipeline(transaction=False) as pipe:
            piped = copy.copy(self)
            piped.scripts = self.scripts | {"dispatch": partial(self.scripts["dispatch"], client=pipe)}
            for message in messages:
                piped.enqueue(message)
            pipe.execute()


def make_broker() -> DoorbellBroker:
    """The broker of this process, set up against the ways in which Dramatiq on Redis is known to stall or repeat.

    No retries, delays or results of Dramatiq's: time and outcomes live in the database. Its own Redis database,
    because maintenance runs KEYS. A blocking pool, because an exhausted one would sleep five seconds for each ack.
    No automatic repetition of commands, because a lost reply to an enqueue would ring twice for nothing.
    """
    pool = redis.BlockingConnectionPool.from_url(
        settings().broker_url,
        connection_class=LightConnection,
        max_connections=64,
        timeout=5,
        socket_timeout=10,
        socket_connect_timeout=5,
    )
    broker = DoorbellBroker(
        client=redis.Redis(connection_pool=pool),
        middleware=[],
        maintenance_chance=1_000_000,
        heartbeat_timeout=60_000,
        namespace="llm",
    )
    dramatiq.set_broker(broker)
    return broker


def ring(broker: DoorbellBroker, slices: Iterable[Slice], *, first: bool = False) -> None:
    """Send one message a slice.

    Parameters
    ----------
    first : past what else is rung.

    Raises
    ------
    dramatiq.errors.ConnectionError, redis.RedisError
        Redis is away. The rows stay claimed and are rung again later.
    """
    messages: list[dramatiq.Message[Any]] = [
        dramatiq.Message(
            queue_name=FIRST_QUEUE if first else QUEUE,
            actor_name=EXECUTE_FIRST if first else EXECUTE_SLICE,
            args=(part.created_at.isoformat(), part.rows),
            kwargs={},
            options={},
        )
        for part in slices
    ]
    if messages:
        broker.enqueue_all(messages)


def ring_webhook(broker: RedisBroker, delivery_id: UUID, fence: int) -> None:
    """Send one message for a webhook delivery."""
    _ring_one(broker, DELIVER_WEBHOOK, delivery_id, fence)


def ring_shard(broker: RedisBroker, shard_id: UUID, fence: int) -> None:
    """Send one message for the next step of a native shard."""
    _ring_one(broker, DRIVE_SHARD, shard_id, fence)


def _ring_one(broker: RedisBroker, actor_name: str, claimed_id: UUID, fence: int) -> None:
    broker.enqueue(
        dramatiq.Message(queue_name=QUEUE, actor_name=actor_name, args=(str(claimed_id), fence), kwargs={}, options={})
    )
