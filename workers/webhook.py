"""Delivers one webhook: signed, through the guarded egress client, its outcome written on the row."""

from __future__ import annotations

import logging
from uuid import UUID

from core import egress, webhooks
from core.egress.errors import EgressError
from core.errors import AddressRefused

log = logging.getLogger(__name__)

#: What is read of a receiver's answer; it is of no interest beyond an excerpt.
MAX_ANSWER_BYTES = 64 << 10


def deliver(delivery_id: UUID, fence: int) -> None:
    """Make one attempt. A doorbell that came late or twice finds an older fence and does nothing."""
    delivery = webhooks.begin(delivery_id, fence)
    if delivery is None:
        return
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
    webhooks.finish(delivery, status=status, error=error)
    log.info("webhook %s attempt %d: %s", delivery.event_type, delivery.attempts + 1, error or status)
