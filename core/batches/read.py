"""Batches as their owners see them: the batch object, one or a page, from counters and never by counting rows."""

from __future__ import annotations

import base64
import binascii
import struct
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from core import db, ids, limits
from core.errors import FieldError, InvalidInput, NotFound, Unavailable
from core.native import plans
from core.principal import Principal
from core.states import BatchStatus
from core.time_and_money import money_text, time_text

#: Causes of failed rows that a batch object names.
TOP_CAUSES = 10
MAX_PAGE = 100
#: Statuses that only batches have which have not ended.
_OPEN = (BatchStatus.PENDING, BatchStatus.PROCESSING, BatchStatus.PAUSED)


def get(principal: Principal, batch_id: UUID) -> dict[str, Any]:
    """The batch object.

    Raises
    ------
    NotFound
        There is no such batch in this project.
    """
    with db.connection(principal.tenant_id) as connection:
        owned = connection.execute(
            "SELECT 1 FROM batch WHERE id = %s AND tenant_id = %s AND project_id = %s",
            (batch_id, principal.tenant_id, principal.project_id),
        ).fetchone()
        if owned is None:
            raise NotFound
        found = batch_object(connection, batch_id)
        if found["status"] in (BatchStatus.PENDING, BatchStatus.PROCESSING):
            lanes = connection.execute(
                "SELECT DISTINCT connection_id FROM lane WHERE batch_id = %s AND next_n < total", (batch_id,)
            ).fetchall()
    if found["status"] in (BatchStatus.PENDING, BatchStatus.PROCESSING):
        limit = _short_of([row["connection_id"] for row in lanes])
        found["progress"]["waiting_for"] = limit or found["progress"]["waiting_for"]
    return found


def _short_of(connections: list[UUID]) -> str | None:
    """What the limiter keeps rows of these connections waiting for, in words."""
    try:
        for connection_id in connections:
            waiting_for = limits.state(connection_id)["waiting_for"]
            if waiting_for:
                return str(waiting_for)
    except Unavailable:
        # Without Redis nothing is dispatched, but a batch can still be looked at.
        return "the limiter's store"
    return None


def batch_object(connection: db.RawConnection, batch_id: UUID) -> dict[str, Any]:
    """The batch object as the transaction of `connection` sees it, for whoever may see the batch; raises NotFound."""
    sql = _select("batch_id = %(id)s") + "WHERE batch.id = %(id)s"
    row = connection.execute(sql, {"id": batch_id}).fetchone()
    if row is None:
        raise NotFound
    return _batch(row, _causes(connection, [batch_id]).get(batch_id, []), plans.of(connection, [batch_id])[batch_id])


def page(
    principal: Principal, *, status: str | None = None, limit: int = 20, cursor: str | None = None
) -> dict[str, Any]:
    """A page of batch objects, newest first: {"data": [...], "has_more": bool, "next_cursor": text or None}.

    Raises
    ------
    InvalidInput
        There is no such status, the limit is not 1 to 100, or the cursor is not one of ours.
    """
    wrong = []
    if status is not None and status not in list(BatchStatus):
        wrong.append(FieldError("?status", "must be one of " + ", ".join(BatchStatus)))
    if not 1 <= limit <= MAX_PAGE:
        wrong.append(FieldError("?limit", f"must be 1 to {MAX_PAGE}"))
    after = None
    if cursor is not None:
        after = _position(cursor)
        if after is None:
            wrong.append(FieldError("?cursor", "is not a cursor; use next_cursor of the page before as it is"))
    if wrong:
        raise InvalidInput(wrong)

    values: dict[str, object] = {"tenant": principal.tenant_id, "project": principal.project_id, "limit": limit + 1}
    values["status"] = status
    if after is not None:
        values["created_at"], values["id"] = after
    sql = page_sql(status, after is not None)
    with db.connection(principal.tenant_id) as connection:
        rows = connection.execute(sql, values).fetchall()
        more, rows = len(rows) > limit, rows[:limit]
        found = [row["id"] for row in rows]
        causes, ways = _causes(connection, found), plans.of(connection, found)
    return {
        "data": [_batch(row, causes.get(row["id"], []), ways[row["id"]]) for row in rows],
        "has_more": more,
        "next_cursor": _cursor(rows[-1]["created_at"], rows[-1]["id"]) if more else None,
    }


def page_sql(status: str | None, after: bool) -> str:
    """The statement of a page: of all batches or those of one status, from the newest on or `after` a position."""
    sql = _select("tenant_id = %(tenant)s")
    sql += "WHERE batch.tenant_id = %(tenant)s AND batch.project_id = %(project)s"
    if status is not None:
        sql += " AND batch.status = %(status)s"
    if status in _OPEN:
        # What runs is asked for all the time, and is few: it has an index of its own, past all that has ended.
        sql += " AND batch.ended_at IS NULL"
    if after:
        sql += " AND (batch.created_at, batch.id) < (%(created_at)s, %(id)s)"
    return sql + " ORDER BY batch.created_at DESC, batch.id DESC LIMIT %(limit)s"


def _select(leases: str) -> str:
    """Batches with their counters and, in the same statement so that they add up, what of them is in flight.

    `lease` holds only rows in flight or waiting to be tried again: one pass over it is bounded.
    """
    return f"""
SELECT batch.*, now() AS now, coalesce(running.rung, 0) AS rung, coalesce(running.waiting, 0) AS waiting,
       coalesce(native.at_provider, 0) AS at_provider, coalesce(native.gathered, 0) AS gathered
FROM batch
LEFT JOIN LATERAL (
    SELECT sum(remaining) FILTER (WHERE state = 'sent' AND NOT handing_back) AS at_provider,
           sum(remaining) FILTER (WHERE state <> 'sent' OR handing_back) AS gathered
    FROM native_shard WHERE native_shard.batch_id = batch.id AND batch.ended_at IS NULL
) AS native ON true
LEFT JOIN (
    SELECT batch_id,
           count(*) FILTER (WHERE call_started_at IS NOT NULL OR rung_at IS NOT NULL) AS rung,
           count(*) FILTER (WHERE call_started_at IS NULL AND rung_at IS NULL) AS waiting
    FROM lease
    WHERE {leases}
    GROUP BY batch_id
) AS running ON running.batch_id = batch.id
"""  # noqa: S608 (both callers pass a constant)


def _causes(connection: db.RawConnection, batches: list[UUID]) -> dict[UUID, list[dict[str, Any]]]:
    """The causes that ended rows of each batch, most frequent first."""
    found: dict[UUID, list[dict[str, Any]]] = {}
    if batches:
        for row in connection.execute(
            "SELECT batch_id, reason, count, message FROM batch_error WHERE batch_id = ANY(%s)"
            " ORDER BY count DESC, reason",
            (batches,),
        ):
            causes = found.setdefault(row["batch_id"], [])
            if len(causes) < TOP_CAUSES:
                causes.append({"type": row["reason"], "count": row["count"], "message": row["message"]})
    return found


def _batch(row: dict[str, Any], causes: list[dict[str, Any]], ways: dict[str, Any]) -> dict[str, Any]:
    ended = row["succeeded"] + row["failed"] + row["cancelled"] + row["expired"]
    processing = max(0, min(row["rung"] + row["at_provider"], row["total"] - ended))
    return {
        "id": ids.public("batch", row["id"]),
        "name": row["name"],
        "status": row["status"],
        "status_reason": row["status_reason"],
        "status_message": row["status_message"],
        "processing": row["processing"],
        **ways,
        "priority": row["priority"],
        "created_at": time_text(row["created_at"]),
        "started_at": time_text(row["started_at"]),
        "ended_at": time_text(row["ended_at"]),
        "expires_at": time_text(row["expires_at"]),
        "request_counts": {
            "total": row["total"],
            "pending": row["total"] - ended - processing,
            "processing": processing,
            "succeeded": row["succeeded"],
            "failed": row["failed"],
            "cancelled": row["cancelled"],
            "expired": row["expired"],
        },
        "usage": {
            "input_tokens": row["input_tokens"],
            "output_tokens": row["output_tokens"],
            "cached_tokens": row["cached_tokens"],
            "reasoning_tokens": row["reasoning_tokens"],
        },
        "cost_usd": money_text(row["cost_usd"]),
        "savings_usd": money_text(row["savings_usd"]),
        "max_cost_usd": money_text(row["max_cost_usd"]),
        "max_error_rate": row["max_error_rate"],
        "progress": _progress(row, ended, processing),
        "prompt_caching": row["prompt_caching"],
        "errors": causes,
        "webhook_url": row["webhook_url"],
        "metadata": row["labels"],
        "retry_of": ids.public("batch", row["retry_of"]) if row["retry_of"] else None,
    }


def _progress(row: dict[str, Any], ended: int, processing: int) -> dict[str, Any]:
    """The mean rate since the first row started, when the rest will be done at that rate, and what holds it up."""
    until: datetime = row["ended_at"] or row["now"]
    seconds = (until - row["started_at"]).total_seconds() if row["started_at"] else 0.0
    rate = ended / seconds if seconds > 0 else 0.0
    left = row["total"] - ended
    eta = None
    if rate > 0 and left > 0 and row["ended_at"] is None and row["status"] == BatchStatus.PROCESSING:
        # A rate of almost nothing would point beyond the calendar; the window's end is the latest anyway.
        eta = min(row["now"] + timedelta(seconds=min(left / rate, 10**9)), row["expires_at"])
    return {
        "rows_per_second": round(rate, 3),
        "eta": time_text(eta),
        "waiting_for": _waiting_for(row, processing),
    }


def _waiting_for(row: dict[str, Any], processing: int) -> str | None:
    if row["ended_at"] is not None:
        return None
    if row["status"] == BatchStatus.PAUSED:
        return row["status_reason"] or "its owner"
    if row["rung"]:
        return "answers of providers"
    if row["at_provider"]:
        return "a provider's batch API"
    if row["waiting"]:
        return "provider limits"
    if row["gathered"]:
        return "being sent to a provider's batch API"
    return "workers"


def _cursor(created_at: datetime, batch_id: UUID) -> str:
    microseconds = (created_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(struct.pack(">Q", microseconds) + batch_id.bytes).decode().rstrip("=")


def _position(cursor: str) -> tuple[datetime, UUID] | None:
    """What a cursor points behind; None if it is not one."""
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        (microseconds,) = struct.unpack(">Q", packed[:8])
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds), UUID(bytes=packed[8:])
    except (binascii.Error, struct.error, ValueError, OverflowError):
        return None
