"""The scheduler's smaller tasks: rescue, stops and windows, webhooks, partitions. Each is a few calls into core."""

from __future__ import annotations

import logging
import time

import dramatiq
import redis

from core import budgets, db, files, idempotency, metrics_dispatch, webhooks
from core.dispatch import pauses, rescue, sweep
from core.dispatch.doorbell import DoorbellBroker, ring, ring_webhook
from core.native import shards
from core.settings import settings
from scheduler.contact import Contact

log = logging.getLogger(__name__)

RESCUE_SECONDS = 1.0
SWEEP_SECONDS = 1.0
OVERDUE_SECONDS = 15.0
WEBHOOK_SECONDS = 2.0
#: While there are deliveries to make: more of a receiver's may go when some have arrived.
WEBHOOK_BUSY_SECONDS = 0.25
HOUSEKEEPING_SECONDS = 3600.0


class Rescue:
    """Takes back what crashed workers held, and rings again what nobody followed.

    After a gap in which the database did not answer, workers get a lease's time to be heard of, and to record what has
    ended meanwhile, before one of them or of their calls is judged.
    """

    def __init__(self, broker: DoorbellBroker, contact: Contact) -> None:
        self._broker = broker
        self._contact = contact
        # (a process that is new knows nothing of a gap that has just ended)
        self._overdue_at = time.monotonic() + OVERDUE_SECONDS

    def tick(self) -> float:
        judged = self._contact.steady_for(settings().worker_lease_seconds)
        rows = rescue.dead_workers() if judged else 0
        if rows:
            metrics_dispatch.WORKER_DEAD.inc(rows)
            log.warning("%d rows of dead workers are run again", rows)
        if time.monotonic() >= self._overdue_at:
            self._overdue_at = time.monotonic() + OVERDUE_SECONDS
            with db.connection() as connection:
                budgets.reconcile(connection)
            if judged and (overdue := rescue.overdue_calls()):
                metrics_dispatch.CALL_OVERDUE.inc(overdue)
                log.warning("%d calls outlived their deadline or their worker and are run again", overdue)
        missed = rescue.missed_doorbells()
        metrics_dispatch.RUNG_AGAIN.inc(sum(len(part.rows) for part in missed))
        try:
            ring(self._broker, missed)
        except (dramatiq.errors.ConnectionError, redis.RedisError):
            log.warning("Redis is away: doorbells are rung when it is back")
        return RESCUE_SECONDS


def stops_and_windows() -> float:
    """Closes windows, pauses and resumes with connections and budgets, ends the rows of batches that were stopped."""
    sweep.expire_batches()
    pauses.pause_stopped_connections()
    pauses.resume_mended_connections()
    budgets.resume_funded()
    return 0.0 if sweep.stopped_batches() else SWEEP_SECONDS


class Webhooks:
    """Rings for deliveries that are due."""

    def __init__(self, broker: DoorbellBroker) -> None:
        self._broker = broker

    def tick(self) -> float:
        due = webhooks.claim_due()
        try:
            for delivery_id, fence in due:
                ring_webhook(self._broker, delivery_id, fence)
        except (dramatiq.errors.ConnectionError, redis.RedisError):
            log.warning("Redis is away: %d webhooks are rung for again when it is back", len(due))
        if len(due) >= 100:
            return 0.0
        return WEBHOOK_BUSY_SECONDS if due else WEBHOOK_SECONDS


def housekeeping() -> float:
    """Makes the partitions of the coming days; forgets idempotency keys, deliveries, files and shards that are old."""
    with db.connection() as connection:
        connection.execute("SELECT ensure_partitions(current_date, current_date + 3)")
    with db.connection() as connection:
        idempotency.forget_old(connection)
        budgets.forget_old(connection)
    for forget_old in (webhooks.forget_old, files.forget_old, shards.forget_old):
        more = True
        while more:
            with db.connection() as connection:
                more = forget_old(connection)
    return HOUSEKEEPING_SECONDS
