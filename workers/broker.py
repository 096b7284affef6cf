"""The broker of the worker process and its actors: each follows one doorbell."""

from __future__ import annotations

import logging
from datetime import datetime
from uuid import UUID

import dramatiq

from core.dispatch.doorbell import (
    DELIVER_WEBHOOK,
    DRIVE_SHARD,
    EXECUTE_FIRST,
    EXECUTE_SLICE,
    FIRST_QUEUE,
    QUEUE,
    DoorbellBroker,
    make_broker,
)
from workers.execute import Executor
from workers.native import take_step
from workers.webhook import deliver


def build(executor: Executor) -> DoorbellBroker:
    """The broker, with the actors bound to this process's executor."""
    broker = make_broker()

    @dramatiq.actor(actor_name=EXECUTE_SLICE, queue_name=QUEUE, broker=broker)
    def execute_slice(created_at: str, rows: list[list[int]]) -> None:
        """Make a slice's rows this worker's own and set one greenlet to each; acked when they are in hand."""
        executor.take(datetime.fromisoformat(created_at), [(row[0], row[1]) for row in rows])

    @dramatiq.actor(actor_name=EXECUTE_FIRST, queue_name=FIRST_QUEUE, broker=broker)
    def execute_first(created_at: str, rows: list[list[int]]) -> None:
        """The same for a slice that does not stand in line."""
        executor.take(datetime.fromisoformat(created_at), [(row[0], row[1]) for row in rows], first=True)

    @dramatiq.actor(actor_name=DELIVER_WEBHOOK, queue_name=QUEUE, broker=broker)
    def deliver_webhook(delivery_id: str, fence: int) -> None:
        """Make one attempt at one delivery, in a greenlet of its own so that a slow receiver holds nobody up."""
        executor.aside(lambda: deliver(UUID(delivery_id), fence))

    @dramatiq.actor(actor_name=DRIVE_SHARD, queue_name=QUEUE, broker=broker)
    def drive_shard(shard_id: str, fence: int) -> None:
        """Take one step of one native shard, in a greenlet of its own."""
        executor.aside(lambda: take_step(executor, UUID(shard_id), fence))

    return broker


def start(consumer: dramatiq.Worker) -> None:
    """Start it, without the broker's warning that it hears of queues beside another one: each takes its own queue."""
    quiet = consumer.broker.logger
    quiet.addFilter(_is_no_warning_of_two)
    try:
        consumer.start()
    finally:
        quiet.removeFilter(_is_no_warning_of_two)


def _is_no_warning_of_two(record: logging.LogRecord) -> bool:
    return "middleware of the same type twice" not in str(record.msg)
