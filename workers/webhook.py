"""Delivers one webhook: signed, through the guarded egress client, its outcome written on the row."""

from __future__ import annotations

import logging
import time
from uuid import UUID

import structlog

from core import egress, metrics_dispatch, webhooks
from core.egress.errors import EgressError
from core.errors import AddressRefused
from core.ids import public

log = logging.getLogger(__name__)

#: What is read of a receiver's answer; it is of no interest beyond an excerpt.
MAX_ANSWER_BYTES = 64 << 10


def deliver(delivery_id: UUID, fence: int) -> None:
    """Make one attempt. A doorbell that came late or twice finds an older fence and does nothing."""
    delivery = webhooks.begin(delivery_id, fence)
    if delivery is None:
        return
    structlog.contextvars.bind_contextvars(delivery_id=public("evt", delivery_id))
    began = time.perf_counter()
    status: int | None = None
    error: str | None = None
    try:
        answer = egress.request(
            "POST",
            delivery.url,
            headers=webhooks.headers(delivery),
            body=delivery.payload.encode(),
            timeout_seconds=webhooks.TIMEOUT_SECONDS,
            max_bytes=MAX_ANSWER_BYTES,
        )
        status = answer.status
        if not 200 <= status < 300:
            error = f"the receiver answered {status}"
    except (EgressError, AddressRefused) as failed:
        error = failed.detail
    outcome = "delivered" if error is None else "no_answer" if status is None else "refused"
    metrics_dispatch.WEBHOOK.labels(outcome).observe(time.perf_counter() - began)
    webhooks.finish(delivery, status=status, error=error)
    log.info("webhook %s attempt %d: %s", delivery.event_type, delivery.attempts + 1, error or status)
