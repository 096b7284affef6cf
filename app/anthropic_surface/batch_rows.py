"""Batches as Anthropic shows them: read by the project's own order, newest first, with counts that wait for the end."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from core import db, ids
from core.errors import FieldError, InvalidInput, NotFound
from core.identity import Principal
from core.states import BatchStatus
from core.time_and_money import time_text

PREFIX = "msgbatch"

_COLUMNS = "id, created_at, expires_at, ended_at, cancelled_at, status, total, succeeded, failed, cancelled, expired"
_ONE = f"SELECT {_COLUMNS} FROM batch WHERE id = %(id)s AND tenant_id = %(tenant)s AND project_id = %(project)s"  # noqa: S608
_PAGE = f"SELECT {_COLUMNS} FROM batch WHERE tenant_id = %(tenant)s AND project_id = %(project)s"  # noqa: S608
_NEWEST_FIRST = " ORDER BY created_at DESC, id DESC LIMIT %(limit)s"
_OLDEST_FIRST = " ORDER BY created_at, id LIMIT %(limit)s"


def parse_id(text: str) -> UUID:
    """The id of a batch in this surface's spelling or in ours. Raises NotFound."""
    return ids.parse("batch" if text.startswith("batch_") else PREFIX, text)


def get(principal: Principal, batch_id: UUID) -> dict[str, Any]:
    """The row of one batch. Raises NotFound."""
    with db.connection(principal.tenant_id) as connection:
        row = connection.execute(_ONE, _values(principal, id=batch_id)).fetchone()
    if row is None:
        raise NotFound("There is no such batch in this project.")
    return row


def page(
    principal: Principal, *, limit: int, after: UUID | None = None, before: UUID | None = None
) -> tuple[list[dict[str, Any]], bool]:
    """Rows of batches, newest first, and whether there are more in the direction asked for.

    Parameters
    ----------
    after : only batches behind this one: older.
    before : only batches ahead of it: newer, those next to it.

    Raises
    ------
    InvalidInput
        There is no such batch to page from.
    """
    values = _values(principal, limit=limit + 1)
    sql, order = _PAGE, _NEWEST_FIRST
    from_id = after or before
    if from_id is not None:
        try:
            start = get(principal, from_id)
        except NotFound as error:
            field = "?after_id" if after else "?before_id"
            raise InvalidInput([FieldError(field, "is not a batch of this project")]) from error
        values |= {"created_at": start["created_at"], "id": start["id"]}
        sql += " AND (created_at, id) " + ("<" if after else ">") + " (%(created_at)s, %(id)s)"
        order = _NEWEST_FIRST if after else _OLDEST_FIRST
    with db.connection(principal.tenant_id) as connection:
        rows = connection.execute(sql + order, values).fetchall()
    more, rows = len(rows) > limit, rows[:limit]
    return (rows if order == _NEWEST_FIRST else rows[::-1]), more


def batch_object(row: dict[str, Any], base_url: str) -> dict[str, Any]:
    """The message batch (PROVIDERS.md 5.6). `base_url` is where the caller reaches this service, with a slash."""
    ended = row["ended_at"] is not None
    public = ids.public(PREFIX, row["id"])
    status = "ended" if ended else "canceling" if row["status"] == BatchStatus.CANCELLED else "in_progress"
    return {
        "id": public,
        "type": "message_batch",
        "processing_status": status,
        # Counted only once all have ended, as callers of this API are used to; /v1/batch counts as it goes.
        "request_counts": {
            "processing": 0 if ended else row["total"],
            "succeeded": row["succeeded"] if ended else 0,
            "errored": row["failed"] if ended else 0,
            "canceled": row["cancelled"] if ended else 0,
            "expired": row["expired"] if ended else 0,
        },
        "created_at": time_text(row["created_at"]),
        "expires_at": time_text(row["expires_at"]),
        "ended_at": time_text(row["ended_at"]),
        "archived_at": None,
        "cancel_initiated_at": time_text(row["cancelled_at"]),
        "results_url": f"{base_url}v1/messages/batches/{public}/results" if ended else None,
    }


def _values(principal: Principal, **more: Any) -> dict[str, Any]:
    return {"tenant": principal.tenant_id, "project": principal.project_id, **more}
