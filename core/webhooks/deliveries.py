"""The log of webhook deliveries: every attempt with what the receiver said; sending one again; how long it is kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from core import db
from core.errors import Conflict, FieldError, InvalidInput, NotFound
from core.ids import public
from core.principal import Principal
from core.time_and_money import time_text

STATUSES = ("pending", "delivered", "failed")
#: How long deliveries that have ended are kept.
KEEP_DAYS = 30


def page(
    principal: Principal,
    *,
    limit: int = 20,
    before: UUID | None = None,
    status: str | None = None,
    event_type: str | None = None,
    endpoint_id: UUID | None = None,
    batch_id: UUID | None = None,
) -> list[dict[str, Any]]:
    """Deliveries of the project with their attempts, newest first; `before` is the id where the last page ended.

    Raises InvalidInput for a status that does not exist.
    """
    if status is not None and status not in STATUSES:
        raise InvalidInput([FieldError("?status", "must be one of " + ", ".join(STATUSES))])
    filters = {"status": status, "event_type": event_type, "endpoint_id": endpoint_id, "batch_id": batch_id}
    chosen = {name: value for name, value in filters.items() if value is not None}
    sql = "SELECT * FROM webhook_delivery WHERE project_id = %(project)s AND tenant_id = %(tenant)s"
    sql += "".join(f" AND {name} = %({name})s" for name in chosen)
    if before is not None:
        sql += " AND id < %(before)s"
    with db.connection(principal.tenant_id) as connection:
        rows = connection.execute(
            sql + " ORDER BY id DESC LIMIT %(limit)s",
            {
                "project": principal.project_id,
                "tenant": principal.tenant_id,
                "before": before,
                "limit": limit,
                **chosen,
            },
        ).fetchall()
        return _with_attempts(connection, rows)


def get(principal: Principal, delivery_id: UUID) -> dict[str, Any]:
    """One delivery with its attempts and its payload. Raises NotFound."""
    with db.connection(principal.tenant_id) as connection:
        row = _one(connection, principal, delivery_id)
        found = _with_attempts(connection, [row])[0]
    return {**found, "payload": orjson.loads(row["payload"])}


def resend(principal: Principal, delivery_id: UUID) -> dict[str, Any]:
    """Try a delivery again now, delivered or failed, under its old id, by which a receiver knows it again.

    Raises
    ------
    NotFound
    Conflict
        An attempt is under way, or its endpoint is disabled or deleted.
    """
    with db.connection(principal.tenant_id) as connection:
        row = _one(connection, principal, delivery_id)
        if row["endpoint_id"] is not None:
            # The endpoint before the delivery, as everywhere.
            endpoint = connection.execute(
                "SELECT enabled FROM webhook_endpoint WHERE id = %s FOR SHARE", (row["endpoint_id"],)
            ).fetchone()
            if endpoint is None:
                raise Conflict("The delivery's endpoint was deleted.")
            if not endpoint["enabled"]:
                raise Conflict("The delivery's endpoint is disabled; enable it first.")
        changed = connection.execute(
            "UPDATE webhook_delivery SET status = 'pending', due_at = now(), lease_expires_at = NULL WHERE id = %s"
            " AND (lease_expires_at IS NULL OR lease_expires_at < now()) RETURNING id",
            (delivery_id,),
        ).fetchone()
        if changed is None:
            raise Conflict("The delivery is being attempted right now.")
        connection.execute("NOTIFY llm_dispatch")
    return get(principal, delivery_id)


def forget_old(connection: db.RawConnection, limit: int = 10_000) -> bool:
    """Remove deliveries older than KEEP_DAYS that have ended, with their attempts, and secrets that ran out.

    At most `limit` of them; True if there may be more.
    """
    oldest = UUID(int=int((datetime.now(UTC).timestamp() - KEEP_DAYS * 86400) * 1000) << 80)
    connection.execute("DELETE FROM webhook_secret WHERE expires_at < now()")
    row = connection.execute(_FORGET, {"oldest": oldest, "limit": limit}).fetchone()
    return row is not None and row["gone"] >= limit


def _one(connection: db.RawConnection, principal: Principal, delivery_id: UUID) -> dict[str, Any]:
    row = connection.execute(
        "SELECT * FROM webhook_delivery WHERE id = %s AND tenant_id = %s AND project_id = %s",
        (delivery_id, principal.tenant_id, principal.project_id),
    ).fetchone()
    if row is None:
        raise NotFound
    return row


def _with_attempts(connection: db.RawConnection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    attempts: dict[UUID, list[dict[str, Any]]] = {row["id"]: [] for row in rows}
    for row in connection.execute(
        "SELECT * FROM webhook_attempt WHERE delivery_id = ANY(%s) ORDER BY delivery_id, number", (list(attempts),)
    ):
        attempts[row["delivery_id"]].append(
            {
                "number": row["number"],
                "started_at": time_text(row["started_at"]),
                "latency_ms": row["duration_ms"],
                "status": row["status"],
                "error": row["error"],
                "excerpt": row["excerpt"],
            }
        )
    return [_shown(row, attempts[row["id"]]) for row in rows]


def _shown(row: dict[str, Any], attempts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": public("evt", row["id"]),
        "endpoint_id": public("hook", row["endpoint_id"]) if row["endpoint_id"] else None,
        "batch_id": public("batch", row["batch_id"]) if row["batch_id"] else None,
        "event_type": row["event_type"],
        "url": row["url"],
        "status": row["status"],
        "last_error": row["last_error"],
        "created_at": time_text(row["created_at"]),
        "next_attempt_at": time_text(row["due_at"]) if row["status"] == "pending" else None,
        "delivered_at": time_text(row["delivered_at"]),
        "attempts": attempts,
    }


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
