"""Delivers one webhook: signed, through the guarded egress client, its outcome written on the row."""

from __future__ import annotations

import logging
import time
from uuid import UUID

import structlog

from core import egress, metrics_dispatch, tracing, webhooks
from core.crypto import KeyProblem
from core.egress.errors import EgressError
from core.errors import AddressRefused, NotFound
from core.ids import public

log = logging.getLogger(__name__)

#: What is read of a receiver's answer at the most: its status decides, the excerpt is for its owner to read.
MAX_ANSWER_BYTES = 64 << 10


def deliver(delivery_id: UUID, fence: int) -> None:
    """Make one attempt. A doorbell that came late or twice finds an older fence and does nothing."""
    delivery = webhooks.begin(delivery_id, fence)
    if delivery is None:
        return
    event_id = public("evt", delivery_id)
    batch_id = None if delivery.batch_id is None else public("batch", delivery.batch_id)
    structlog.contextvars.bind_contextvars(delivery_id=event_id, **({"batch_id": batch_id} if batch_id else {}))
    span = tracing.root(
        "webhook",
        tracing.CLIENT,
        trace=batch_id or event_id,
        llm_service__delivery_id=event_id,
        llm_service__batch_id=batch_id,
        llm_service__event_type=delivery.event_type,
        llm_service__attempt=delivery.attempts + 1,
    )
    with span:
        _attempt(delivery, span)


def _attempt(delivery: webhooks.Delivery, span: tracing.Span) -> None:
    began = time.perf_counter()
    status: int | None = None
    error: str | None = None
    excerpt = ""
    try:
        with egress.stream(
            "POST",
            delivery.url,
            headers=webhooks.headers(delivery),
            body=delivery.payload.encode(),
            timeout_seconds=webhooks.TIMEOUT_SECONDS,
            max_bytes=MAX_ANSWER_BYTES,
        ) as answer:
            status = answer.status
            excerpt = _excerpt(answer)
        if not 200 <= status < 300:
            error = f"the receiver answered {status}"
    except (EgressError, AddressRefused, KeyProblem, NotFound) as failed:
        error = failed.detail
    seconds = time.perf_counter() - began
    outcome = "delivered" if error is None else "no_answer" if status is None else "refused"
    metrics_dispatch.WEBHOOK.labels(outcome).observe(seconds)
    span.set({"http.response.status_code": status})
    if error is not None:
        span.failed(outcome)
    webhooks.finish(delivery, status=status, error=error, duration_seconds=seconds, excerpt=excerpt)
    log.info("webhook %s attempt %d: %s", delivery.event_type, delivery.attempts + 1, error or status)


def _excerpt(answer: egress.Stream) -> str:
    """The beginning of an answer's body, as far as it comes."""
    found = b""
    try:
        for piece in answer:
            found += piece
            if len(found) >= webhooks.MAX_EXCERPT_BYTES:
                break
    except EgressError:
        # The status is there, and it is what counts.
        log.debug("an answer to a webhook broke off")
    return found[: webhooks.MAX_EXCERPT_BYTES].decode(errors="replace")
