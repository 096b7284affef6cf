"""The scheduler's part of native batches: shards are formed, asked back in time, handed back, and rung for when due."""

from __future__ import annotations

import logging
import time

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

from core import metrics_native
from core.dispatch.doorbell import ring_shard
from core.native import fallback, handback, holds, plan
from core.native.states import CancelReason
from scheduler.contact import Contact

log = logging.getLogger(__name__)

#: Between two looks, in seconds: while shards move, and while they do not.
BUSY_SECONDS, IDLE_SECONDS = 0.1, 1.0
#: How often the last moments are worked out anew: their margin is minutes.
FALLBACK_SECONDS = 5.0


class Native:
    """One look after the other, by whoever leads."""

    def __init__(self, broker: RedisBroker, contact: Contact) -> None:
        self._broker = broker
        self._contact = contact
        self._fallback_at = 0.0
        for reason in CancelReason:
            metrics_native.TAKEN_BACK.labels(reason)

    def tick(self) -> float:
        if stopped := fallback.stop_shards():
            metrics_native.TAKEN_BACK.labels(CancelReason.STOPPED).inc(stopped)
        if time.monotonic() >= self._fallback_at:
            self._fallback_at = time.monotonic() + FALLBACK_SECONDS
            if taken_back := fallback.take_back():
                metrics_native.TAKEN_BACK.labels(CancelReason.WINDOW).inc(taken_back)
                log.warning("%d shards or lanes go on in real time: their window leaves no more time", taken_back)
        moved = fallback.give_up_waiting() + plan.form_shards()
        if returned := handback.hand_back():
            metrics_native.RETURNED.inc(returned)
        due = holds.claim_due(judging=self._contact.steady_for(holds.lease_seconds()))
        try:
            for shard_id, fence in due:
                ring_shard(self._broker, shard_id, fence)
        except (dramatiq.errors.ConnectionError, redis.RedisError):
            log.warning("Redis is away: %d shards wait for it", len(due))
            holds.unclaim(due, after_seconds=IDLE_SECONDS)
        return BUSY_SECONDS if due or moved or returned else IDLE_SECONDS
