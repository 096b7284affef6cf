"""Doorbells: Dramatiq messages that tell a worker which rows or deliveries wait for it. They carry ids, never truth.

A message that is lost, repeated, reordered or late changes nothing but time: the worker asks the database whether
it may start (core/dispatch/start.py), and what nobody started is rung again (core/dispatch/recover.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Middleware, ShutdownNotifications

from core.settings import settings

EXECUTE_SLICE = "execute_slice"
DELIVER_WEBHOOK = "deliver_webhook"
ROWS_QUEUE = "rows"
WEBHOOKS_QUEUE = "webhooks"

#: Rows in one message: few enough to spread over workers, enough to make the message's own cost vanish.
SLICE_ROWS = 32


@dataclass(frozen=True, slots=True)
class Slice:
    """Claimed rows of one lane: (completion id, fence) each."""

    created_at: datetime
    rows: list[tuple[int, int]]


def make_broker(*, middleware: list[Middleware] | None = None) -> RedisBroker:
    """The broker of this process, set up against the ways in which Dramatiq on Redis is known to stall or repeat.

    No retries, delays or results of Dramatiq's: time and outcomes live in the database. Its own Redis database,
    because maintenance runs KEYS. A blocking pool, because an exhausted one would sleep five seconds for each ack.
    No automatic repetition of commands, because a lost reply to an enqueue would ring twice for nothing.
    """
    pool = redis.BlockingConnectionPool.from_url(
        settings().broker_url, max_connections=64, timeout=5, socket_timeout=10, socket_connect_timeout=5
    )
    broker = RedisBroker(
        client=redis.Redis(connection_pool=pool),
        middleware=middleware if middleware is not None else [ShutdownNotifications()],
        maintenance_chance=1_000_000,
        heartbeat_timeout=60_000,
        namespace="llm",
    )
    dramatiq.set_broker(broker)
    return broker


def ring(broker: RedisBroker, slices: Iterable[Slice]) -> None:
    """Send one message a slice.

    Raises
    ------
    dramatiq.errors.ConnectionError, redis.RedisError
        Redis is away. The rows stay claimed and are rung again later.
    """
    for part in slices:
        broker.enqueue(
            dramatiq.Message(
                queue_name=ROWS_QUEUE,
                actor_name=EXECUTE_SLICE,
                args=(part.created_at.isoformat(), part.rows),
                kwargs={},
                options={},
            )
        )


def ring_webhook(broker: RedisBroker, delivery_id: UUID, fence: int) -> None:
    """Send one message for a webhook delivery."""
    broker.enqueue(
        dramatiq.Message(
            queue_name=WEBHOOKS_QUEUE,
            actor_name=DELIVER_WEBHOOK,
            args=(str(delivery_id), fence),
            kwargs={},
            options={},
        )
    )
