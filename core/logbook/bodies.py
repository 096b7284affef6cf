"""Prompts and answers of projects that want none kept (`log_bodies` = `metadata_only`).

Such a project's live completions are written without bodies. A batch's row needs its request until it has ended, then
it is removed in the same transaction. Its answer stays until the batch is deleted or its retention is over: it is what
the batch was made for. The logs do not show it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from core.db import RawConnection


def not_kept(connection: RawConnection, project_ids: Collection[UUID]) -> set[UUID]:
    """Those of the projects that keep no bodies."""
    rows = connection.execute(
        "SELECT id FROM project WHERE id = ANY(%s) AND log_bodies = 'metadata_only'", (list(project_ids),)
    )
    return {row["id"] for row in rows}


def remove_requests(connection: RawConnection, rows: Collection[tuple[int, datetime]]) -> None:
    """Remove the requests of rows (id, created_at) that have ended."""
    times = [created_at for _, created_at in rows]
    connection.execute(
        "DELETE FROM completion_request r USING unnest(%(ids)s::bigint[], %(times)s::timestamptz[]) AS ended (id, at)"
        " WHERE r.completion_id = ended.id AND r.created_at = ended.at"
        " AND r.created_at BETWEEN %(earliest)s AND %(latest)s",
        {"ids": [row_id for row_id, _ in rows], "times": times, "earliest": min(times), "latest": max(times)},
    )


def remove_request_range(connection: RawConnection, created_at: datetime, first: int, end: int) -> None:
    """Remove the requests of the rows of one lane from `first` up to, not including, `end`."""
    connection.execute(
        "DELETE FROM completion_request WHERE created_at = %s AND completion_id >= %s AND completion_id < %s",
        (created_at, first, end),
    )
