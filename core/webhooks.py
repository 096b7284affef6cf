"""The outbox of webhooks: events written with the change that made them, signed, delivered until they are taken."""

from __future__ import annotations

import base64
import os
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson
from standardwebhooks.webhooks import Webhook

from core import crypto, db
from core.batches import read
from core.db import RawConnection
from core.errors import NotFound
from core.identity import Principal
from core.ids import new_id, public
from core.secret import Secret

#: Waits between attempts, in seconds, as Standard Webhooks proposes: about three days in all.
BACKOFF_SECONDS = (5, 300, 1800, 7200, 18000, 36000, 36000, 50400, 72000, 36000)
#: A delivery that a worker took and did not finish is anybody's again after this.
LEASE_SECONDS = 60.0
TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery that this worker must now make."""

    id: UUID
    fence: int
    tenant_id: UUID
    project_id: UUID
    event_type: str
    url: str
    payload: str
    attempts: int


def emit(connection: RawConnection, batch_id: UUID, event_type: str) -> None:
    """Write the event of a batch into the outbox, in the transaction that changed the batch."""
    row = connection.execute(
        "SELECT tenant_id, project_id, webhook_url FROM batch WHERE id = %s", (batch_id,)
    ).fetchone()
    if row is None or not row["webhook_url"]:
        return
    event = {
        "type": event_type,
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "data": read.batch_object(connection, batch_id),
    }
    connection.execute(
        "INSERT INTO webhook_delivery (id, tenant_id, project_id, batch_id, event_type, url, payload)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (
            new_id(),
            row["tenant_id"],
            row["project_id"],
            batch_id,
            event_type,
            row["webhook_url"],
            orjson.dumps(event).decode(),
        ),
    )
    connection.execute("NOTIFY llm_dispatch")


def claim_due(limit: int = 100) -> list[tuple[UUID, int]]:
    """Claim deliveries that are due, for their doorbells: (id, fence)."""
    with db.connection() as connection:
        rows = connection.execute(_CLAIM, {"limit": limit, "lease": LEASE_SECONDS}).fetchall()
    return [(row["id"], row["fence"]) for row in rows]


def begin(delivery_id: UUID, fence: int) -> Delivery | None:
    """The delivery, if the fence is still the current one."""
    with db.connection() as connection:
        row = connection.execute(
            "SELECT id, fence, tenant_id, project_id, event_type, url, payload, attempts FROM webhook_delivery"
            " WHERE id = %s AND fence = %s AND status = 'pending'",
            (delivery_id, fence),
        ).fetchone()
    return Delivery(**row) if row else None


def headers(delivery: Delivery) -> dict[str, str]:
    """The headers of Standard Webhooks for one attempt; the id stays the same over all attempts."""
    message_id = public("evt", delivery.id)
    now = datetime.now(UTC)
    signer = Webhook(_secret(delivery.tenant_id, delivery.project_id).reveal())
    return {
        "content-type": "application/json",
        "user-agent": "llm-service-webhooks/1",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signer.sign(message_id, now, delivery.payload),
    }


def finish(delivery: Delivery, *, status: int | None, error: str | None) -> None:
    """Write what came of an attempt: delivered on 2xx, given up on 410 or after the last wait, due again otherwise."""
    delivered = status is not None and 200 <= status < 300
    attempts = delivery.attempts + 1
    given_up = not delivered and (status == 410 or attempts > len(BACKOFF_SECONDS))
    wait = 0.0 if delivered or given_up else BACKOFF_SECONDS[attempts - 1] * (0.8 + random.random() * 0.4)
    with db.connection() as connection:
        connection.execute(
            "UPDATE webhook_delivery SET status = %s, attempts = %s, last_status = %s, last_error = %s, due_at = %s,"
            " lease_expires_at = NULL, delivered_at = CASE WHEN %s THEN now() END WHERE id = %s AND fence = %s",
            (
                "delivered" if delivered else "failed" if given_up else "pending",
                attempts,
                status,
                error[:500].replace("\0", "") if error else None,
                datetime.now(UTC) + timedelta(seconds=wait),
                delivered,
                delivery.id,
                delivery.fence,
            ),
        )


def secret(principal: Principal) -> Secret:
    """The secret that signs this project's webhooks (`whsec_...`), made when first asked for."""
    return _secret(principal.tenant_id, principal.project_id)


def rotate_secret(principal: Principal) -> Secret:
    """A new signing secret; deliveries are signed with it from now on."""
    made = _new_secret()
    ciphertext, version = crypto.encrypt(made, tenant_id=principal.tenant_id, row_id=principal.project_id)
    with db.connection(principal.tenant_id) as connection:
        found = connection.execute(
            "UPDATE project SET webhook_secret_ciphertext = %s, webhook_secret_version = %s"
            " WHERE id = %s AND tenant_id = %s RETURNING id",
            (ciphertext, version, principal.project_id, principal.tenant_id),
        ).fetchone()
    if found is None:
        raise NotFound
    return made


def _secret(tenant_id: UUID, project_id: UUID) -> Secret:
    with db.connection(tenant_id) as connection:
        row = connection.execute(
            "SELECT webhook_secret_ciphertext, webhook_secret_version FROM project WHERE id = %s AND tenant_id = %s"
            " FOR UPDATE",
            (project_id, tenant_id),
        ).fetchone()
        if row is None:
            raise NotFound
        if row["webhook_secret_ciphertext"] is None:
            made = _new_secret()
            ciphertext, version = crypto.encrypt(made, tenant_id=tenant_id, row_id=project_id)
            connection.execute(
                "UPDATE project SET webhook_secret_ciphertext = %s, webhook_secret_version = %s WHERE id = %s",
                (ciphertext, version, project_id),
            )
            return made
    return crypto.decrypt(
        bytes(row["webhook_secret_ciphertext"]),
        row["webhook_secret_version"],
        tenant_id=tenant_id,
        row_id=project_id,
    )


def _new_secret() -> Secret:
    return Secret("whsec_" + base64.b64encode(os.urandom(32)).decode())


_CLAIM = """
UPDATE webhook_delivery SET fence = fence + 1, lease_expires_at = now() + make_interval(secs => %(lease)s)
WHERE id IN (
    SELECT id FROM webhook_delivery
    WHERE status = 'pending' AND due_at <= now() AND (lease_expires_at IS NULL OR lease_expires_at < now())
    ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
RETURNING id, fence
"""
