"""The outbox: events written with the change that made them, claimed a few per receiver, tried until they are taken."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import orjson
from psycopg.rows import DictRow

from core import db
from core.batches import read
from core.db import RawConnection
from core.ids import new_id

#: What an endpoint can ask for.
EVENT_TYPES = (
    "batch.completed",
    "batch.failed",
    "batch.cancelled",
    "batch.expired",
    "batch.paused",
    "budget.threshold",
    "provider.stopped",
)
#: Sent to one endpoint when its owner asks for it, and tried once.
TEST_EVENT = "webhook.test"

#: Waits between attempts, in seconds, as Standard Webhooks proposes: about three days in all.
BACKOFF_SECONDS = (5, 300, 1800, 7200, 18000, 36000, 36000, 50400, 72000, 36000)
#: An endpoint that took nothing for so long is disabled at its next failure.
DISABLE_SECONDS = sum(BACKOFF_SECONDS)
#: A delivery whose doorbell nobody followed within this time is rung for again.
RING_AGAIN_SECONDS = 10.0
TIMEOUT_SECONDS = 20.0
#: A delivery that a worker began and did not finish is anybody's again after this.
LEASE_SECONDS = TIMEOUT_SECONDS + 10.0
#: Attempts under way at one receiver: the others' deliveries never wait behind a slow one.
PER_RECEIVER = 8
#: What is kept of a receiver's answer.
MAX_EXCERPT_BYTES = 1024
#: How long deliveries that have ended are kept.
KEEP_DAYS = 30


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


@dataclass(frozen=True, slots=True)
class _Receiver:
    url: str
    endpoint_id: UUID | None = None

    def key(self, project_id: UUID) -> str:
        """What shares one allowance of attempts: an endpoint, or all URLs of a project on one host."""
        return f"{project_id.hex}/{(urlsplit(self.url).netloc if self.endpoint_id is None else self.endpoint_id.hex)}"


def emit(connection: RawConnection, batch_id: UUID, event_type: str) -> None:
    """Write the event of a batch, for its `webhook_url` and its project's endpoints.

    Call it in the transaction that changed the batch.
    """
    row = connection.execute(
        "SELECT tenant_id, project_id, webhook_url FROM batch WHERE id = %s", (batch_id,)
    ).fetchone()
    if row is None:
        return
    receivers = _endpoints(connection, row["project_id"], event_type)
    if row["webhook_url"]:
        receivers.append(_Receiver(row["webhook_url"]))
    if receivers:
        data = read.batch_object(connection, batch_id)
        _write(connection, row["tenant_id"], row["project_id"], event_type, data, receivers, batch_id)


def announce(
    connection: RawConnection, *, tenant_id: UUID, project_id: UUID, event_type: str, data: dict[str, Any]
) -> None:
    """Write an event of a project for its endpoints, in the transaction that made the event."""
    receivers = _endpoints(connection, project_id, event_type)
    if receivers:
        _write(connection, tenant_id, project_id, event_type, data, receivers)


def write_test(
    connection: RawConnection, *, tenant_id: UUID, project_id: UUID, endpoint_id: UUID, url: str, data: dict[str, Any]
) -> UUID:
    """Write the test event for one endpoint; the delivery's id."""
    receiver = _Receiver(url, endpoint_id)
    return _write(connection, tenant_id, project_id, TEST_EVENT, data, [receiver])[0]


def _endpoints(connection: RawConnection, project_id: UUID, event_type: str) -> list[_Receiver]:
    rows = connection.execute(
        "SELECT id, url FROM webhook_endpoint WHERE project_id = %s AND enabled"
        " AND (event_types IS NULL OR event_types @> to_jsonb(%s::text)) ORDER BY id",
        (project_id, event_type),
    )
    return [_Receiver(row["url"], row["id"]) for row in rows]


def _write(
    connection: RawConnection,
    tenant_id: UUID,
    project_id: UUID,
    event_type: str,
    data: dict[str, Any],
    receivers: list[_Receiver],
    batch_id: UUID | None = None,
) -> list[UUID]:
    now = connection.execute("SELECT now() AS now").fetchone()
    assert now is not None
    event = {"type": event_type, "timestamp": now["now"], "data": data}
    payload = orjson.dumps(event, option=orjson.OPT_UTC_Z).decode()
    ids = [new_id() for _ in receivers]
    for delivery_id, receiver in zip(ids, receivers, strict=True):
        connection.execute(
            "INSERT INTO webhook_delivery"
            " (id, tenant_id, project_id, batch_id, endpoint_id, receiver, event_type, url, payload)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                delivery_id,
                tenant_id,
                project_id,
                batch_id,
                receiver.endpoint_id,
                receiver.key(project_id),
                event_type,
                receiver.url,
                payload,
            ),
        )
    connection.execute("NOTIFY llm_dispatch")
    return ids


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
    disabled on 410, or when it has taken nothing for DISABLE_SECONDS; what is pending for it fails then.

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
        endpoint = _lock_endpoint(connection, delivery.endpoint_id)
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
            _judge(connection, endpoint, delivered=delivered, status=status)


def _lock_endpoint(connection: RawConnection, endpoint_id: UUID | None) -> DictRow | None:
    if endpoint_id is None:
        return None
    return connection.execute(
        "SELECT id, enabled, failing_since,"
        " failing_since < now() - make_interval(secs => %s) AS failed_long"
        " FROM webhook_endpoint WHERE id = %s FOR NO KEY UPDATE",
        (DISABLE_SECONDS, endpoint_id),
    ).fetchone()


def _judge(connection: RawConnection, endpoint: DictRow, *, delivered: bool, status: int | None) -> None:
    """What an attempt says about the endpoint."""
    if delivered:
        if endpoint["failing_since"] is not None:
            connection.execute("UPDATE webhook_endpoint SET failing_since = NULL WHERE id = %s", (endpoint["id"],))
        return
    connection.execute(
        "UPDATE webhook_endpoint SET failing_since = coalesce(failing_since, now()) WHERE id = %s", (endpoint["id"],)
    )
    if not endpoint["enabled"]:
        return
    if status == 410:
        disable(connection, endpoint["id"], "the receiver answered 410 Gone")
    elif endpoint["failed_long"]:
        disable(connection, endpoint["id"], f"it has taken nothing for {DISABLE_SECONDS // 86400} days")


def disable(connection: RawConnection, endpoint_id: UUID, reason: str) -> None:
    """Send an endpoint nothing more; what is pending for it fails, and can be resent later. Its row is locked."""
    connection.execute(
        "UPDATE webhook_endpoint SET enabled = false, disabled_reason = %s, disabled_at = now() WHERE id = %s",
        (reason, endpoint_id),
    )
    drop_pending(connection, endpoint_id, f"the endpoint was disabled: {reason}")


def drop_pending(connection: RawConnection, endpoint_id: UUID, reason: str) -> None:
    """Let what is pending for an endpoint fail; an attempt under way may still deliver it."""
    connection.execute(
        "UPDATE webhook_delivery SET status = 'failed', last_error = %s WHERE endpoint_id = %s AND status = 'pending'",
        (reason, endpoint_id),
    )


def forget_old(connection: RawConnection, limit: int = 10_000) -> bool:
    """Remove deliveries older than KEEP_DAYS that have ended, with their attempts, and secrets that ran out.

    At most `limit` of them; True if there may be more.
    """
    oldest = UUID(int=int((datetime.now(UTC).timestamp() - KEEP_DAYS * 86400) * 1000) << 80)
    connection.execute("DELETE FROM webhook_secret WHERE expires_at < now()")
    row = connection.execute(_FORGET, {"oldest": oldest, "limit": limit}).fetchone()
    return row is not None and row["gone"] >= limit


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

# Ids begin with the time they were made at.
_FORGET = """
WITH gone AS (
    DELETE FROM webhook_delivery WHERE id IN (
        SELECT id FROM webhook_delivery WHERE id < %(oldest)s AND status <> 'pending' ORDER BY id LIMIT %(limit)s
    ) RETURNING id
), attempts AS (
    DELETE FROM webhook_attempt USING gone WHERE webhook_attempt.delivery_id = gone.id
)
SELECT count(*) AS gone FROM gone
"""
