"""The broker of the worker process and its actors: each follows one doorbell."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import dramatiq

from core.dispatch.doorbell import DELIVER_WEBHOOK, EXECUTE_SLICE, QUEUE, DoorbellBroker, make_broker
from workers.execute import Executor
from workers.webhook import deliver


def build(executor: Executor) -> DoorbellBroker:
    """The broker, with the actors bound to this process's executor."""
    broker = make_broker()

    @dramatiq.actor(actor_name=EXECUTE_SLICE, queue_name=QUEUE, broker=broker)
    def execute_slice(created_at: str, rows: list[list[int]]) -> None:
        """Make a slice's rows this worker's own and set one greenlet to each; acked when they are in hand."""
        executor.take(datetime.fromisoformat(created_at), [(row[0], row[1]) for row in rows])

    @dramatiq.actor(actor_name=DELIVER_WEBHOOK, queue_name=QUEUE, broker=broker)
    def deliver_webhook(delivery_id: str, fence: int) -> None:
        """Make one attempt at one delivery, in a greenlet of its own so that a slow receiver holds nobody up."""
        executor.aside(lambda: deliver(UUID(delivery_id), fence))

    return broker
