"""Batches as OpenAI's surface shows them: with the file that they were made of, and their model."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from core import db, ids
from core.errors import NotFound
from core.principal import Principal


def get(principal: Principal, batch_id: UUID) -> dict[str, Any]:
    """A batch's columns, with its source (null for one made elsewhere) and its model if it has just one.

    Raises NotFound.
    """
    with db.connection(principal.tenant_id) as connection:
        row = connection.execute(
            f"{_SELECT} AND batch.id = %s", (principal.tenant_id, principal.project_id, batch_id)
        ).fetchone()
    if row is None:
        raise NotFound(f"No batch found with id '{ids.public('batch', batch_id)}'.")
    return row


def page(principal: Principal, *, limit: int, after: UUID | None) -> tuple[list[dict[str, Any]], bool]:
    """As `get`, newest first, behind the batch `after`; and whether there are more."""
    sql, values = _SELECT, [principal.tenant_id, principal.project_id]
    if after is not None:
        last = get(principal, after)
        sql += " AND (batch.created_at, batch.id) < (%s, %s)"
        values += [last["created_at"], after]
    sql += " ORDER BY batch.created_at DESC, batch.id DESC LIMIT %s"
    with db.connection(principal.tenant_id) as connection:
        rows = connection.execute(sql, [*values, limit + 1]).fetchall()
    return rows[:limit], len(rows) > limit


_SELECT = """
SELECT batch.*, source.file_id AS source_file_id, source.endpoint, source.completion_window, source.errors,
       (SELECT min(lane.model) FROM lane WHERE lane.batch_id = batch.id HAVING count(DISTINCT lane.model) = 1) AS model
FROM batch
LEFT JOIN batch_source AS source ON source.batch_id = batch.id
WHERE batch.tenant_id = %s AND batch.project_id = %s
"""
