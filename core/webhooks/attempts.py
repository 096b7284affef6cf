"""Attempts at deliveries: claimed a few per receiver, begun under a fence, repeated until taken or given up."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from core import db
from core.webhooks import health
from core.webhooks.outbox import TEST_EVENT

#: Waits between attempts, in seconds, as Standard Webhooks proposes: about three days in all.
BACKOFF_SECONDS = (5, 300, 1800, 7200, 18000, 36000, 36000, 50400, 72000, 36000)
#: A delivery whose doorbell nobody followed within this time is rung for again.
RING_AGAIN_SECONDS = 10.0
TIMEOUT_SECONDS = 20.0
#: A delivery that a worker began and did not finish is anybody's again after this.
LEASE_SECONDS = TIMEOUT_SECONDS + 10.0
#: Attempts under way at one receiver: the others' deliveries never wait behind a slow one.
PER_RECEIVER = 8
#: What is kept of a receiver's answer.
MAX_EXCERPT_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery that this worker must now make."""

    id: UUID
    fence: int
    tenant_id: UUID
    project_id: UUID
    #: None: it is not about a batch
    batch_id: UUID | None
    #: None: the batch's own `webhook_url`
    endpoint_id: UUID | None
    event_type: str
    url: str
    payload: str
    attempts: int
    #: by the database's clock: a receiver refuses a signature of minutes ago or to come
    begun_at: datetime


def claim_due(limit: int = 100) -> list[tuple[UUID, int]]:
    """Claim deliveries that are due, for their doorbells: (id, fence); at most PER_RECEIVER under way at each receiver.

    What was claimed before and not begun keeps its fence, so that its first doorbell may still come, late.

    Costs two index probes per receiver that something is pending for, however much that is.
    """
    with db.connection() as connection:
        rows = connection.execute(
            _CLAIM, {"limit": limit, "lease": RING_AGAIN_SECONDS, "per_receiver": PER_RECEIVER}
        ).fetchall()
    return [(row["id"], row["fence"]) for row in rows]


def begin(delivery_id: UUID, fence: int) -> Delivery | None:
    """Take the delivery in hand, if the fence is still the current one; raises the fence, so that one doorbell begins
    one attempt however often it rings.
    """
    with db.connection() as connection:
        row = connection.execute(
            "UPDATE webhook_delivery SET fence = fence + 1, lease_expires_at = now() + make_interval(secs => %s)"
            " WHERE id = %s AND fence = %s AND status = 'pending'"
            " RETURNING id, fence, tenant_id, project_id, batch_id, endpoint_id, event_type, url, payload,"
            " attempts, now() AS begun_at",
            (LEASE_SECONDS, delivery_id, fence),
        ).fetchone()
    return Delivery(**row) if row else None


def finish(
    delivery: Delivery, *, status: int | None, error: str | None, duration_seconds: float, excerpt: str = ""
) -> None:
    """Write what came of an attempt, and what follows for the delivery and its endpoint.

    Delivered on 2xx (3xx is a failure), given up on 410 or after the last wait, due again otherwise. An endpoint is
    disabled on 410, or when it has taken nothing for health.DISABLE_SECONDS; what is pending for it fails then.

    Parameters
    ----------
    status : the receiver's; None if it did not answer.
    error : why it was not delivered.
    excerpt : the beginning of the receiver's answer.
    """
    delivered = status is not None and 200 <= status < 300
    attempts = delivery.attempts + 1
    given_up = not delivered and (status == 410 or attempts > len(BACKOFF_SECONDS) or delivery.event_type == TEST_EVENT)
    wait = 0.0 if delivered or given_up else BACKOFF_SECONDS[attempts - 1] * (0.8 + random.random() * 0.4)
    error = _storable(error) if error else None
    with db.connection() as connection:
        # The endpoint is locked before its deliveries, here and wherever both are changed.
        endpoint = health.lock(connection, delivery.endpoint_id)
        found = connection.execute(
            _FINISH,
            {
                "id": delivery.id,
                "fence": delivery.fence,
                "status": "delivered" if delivered else "failed" if given_up else "pending",
                "delivered": delivered,
                "attempts": attempts,
                "last_status": status,
                "last_error": error,
                "wait": wait,
            },
        ).fetchone()
        if found is None:
            return
        connection.execute(
            "INSERT INTO webhook_attempt (delivery_id, number, tenant_id, started_at, duration_ms, status, error,"
            " excerpt) VALUES (%s, %s, %s, now() - make_interval(secs => %s), %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (
                delivery.id,
                attempts,
                delivery.tenant_id,
                duration_seconds,
                round(duration_seconds * 1000),
                status,
                error,
                _storable(excerpt),
            ),
        )
        if endpoint is not None:
            health.judge(connection, endpoint, delivered=delivered, status=status)


def _storable(text: str) -> str:
    return text[:MAX_EXCERPT_BYTES].replace("\0", "")


# Receivers are found by skipping from one to the next in the index, so that a long backlog of one is never read.
_CLAIM = """
WITH RECURSIVE receivers AS (
    (SELECT receiver FROM webhook_delivery WHERE status = 'pending' ORDER BY receiver LIMIT 1)
    UNION ALL
    SELECT (SELECT d.receiver FROM webhook_delivery d WHERE d.status = 'pending' AND d.receiver > r.receiver
            ORDER BY d.receiver LIMIT 1)
    FROM receivers r WHERE r.receiver IS NOT NULL
), due AS (
    SELECT found.id
    FROM receivers r CROSS JOIN LATERAL (
        SELECT d.id, d.due_at FROM webhook_delivery d
        WHERE d.status = 'pending' AND d.receiver = r.receiver AND d.due_at <= now()
          AND (d.lease_expires_at IS NULL OR d.lease_expires_at < now())
        ORDER BY d.due_at
        LIMIT greatest(0, %(per_receiver)s - (
            SELECT count(*) FROM webhook_delivery held
            WHERE held.status = 'pending' AND held.receiver = r.receiver AND held.lease_expires_at > now()
        ))
    ) found
    WHERE r.receiver IS NOT NULL
    ORDER BY found.due_at LIMIT %(limit)s
)
UPDATE webhook_delivery SET lease_expires_at = now() + make_interval(secs => %(lease)s)
WHERE id IN (
    SELECT id FROM webhook_delivery WHERE id IN (SELECT id FROM due) AND status = 'pending' AND due_at <= now()
      AND (lease_expires_at IS NULL OR lease_expires_at < now())
    FOR UPDATE SKIP LOCKED
)
RETURNING id, fence
"""

# What was dropped while it was under way stays failed, unless it was delivered.
_FINISH = """
UPDATE webhook_delivery SET
    status = CASE WHEN status = 'failed' AND NOT %(delivered)s THEN 'failed' ELSE %(status)s END,
    attempts = %(attempts)s, last_status = %(last_status)s, last_error = %(last_error)s,
    due_at = now() + make_interval(secs => %(wait)s), lease_expires_at = NULL,
    delivered_at = CASE WHEN %(delivered)s THEN now() ELSE delivered_at END
WHERE id = %(id)s AND fence = %(fence)s
RETURNING id
"""
