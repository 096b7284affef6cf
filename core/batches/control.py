"""What the owner of a batch can do to it: cancel, pause, resume, run failed rows again, delete."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from core import db, page_rows, partitions, webhooks
from core.batches import ingest
from core.batches.options import BatchOptions
from core.errors import Conflict, FieldError, InvalidInput, NotFound
from core.principal import Principal
from core.states import FailureReason, Processing, RowStatus

#: How long a cancel waits for the rows in flight, so that most cancels answer with a batch that has ended.
CANCEL_WAIT_SECONDS = 0.4
#: Rows that are read in one go, at the most, to be run again.
MAX_PAGE_ROWS = 1000
#: Rows of these statuses can be run again as a new batch.
RETRIABLE = (RowStatus.FAILED, RowStatus.EXPIRED, RowStatus.CANCELLED)


def cancel(principal: Principal, batch_id: UUID) -> None:
    """Stop a batch: no call starts after this has committed; calls that run keep their answers.

    Raises
    ------
    NotFound, Conflict
        Conflict if it has ended, or was stopped otherwise.
    """
    with db.connection(principal.tenant_id) as connection:
        row = _locked(connection, principal, batch_id)
        if row["ended_at"] is not None or row["status"] in ("expired", "failed"):
            raise Conflict(f"The batch is {row['status']}; only a batch that has not ended can be cancelled.")
        connection.execute(
            "UPDATE batch SET status = 'cancelled', cancelled_at = coalesce(cancelled_at, now()), status_reason = %s,"
            " status_message = 'cancelled by its owner' WHERE id = %s AND tenant_id = %s",
            (FailureReason.CANCELLED, batch_id, principal.tenant_id),
        )
        connection.execute("SELECT pg_notify('llm_stop', %s)", (batch_id.hex,))
        connection.execute("NOTIFY llm_dispatch")
    _wait_for_end(principal, batch_id)


def _wait_for_end(principal: Principal, batch_id: UUID) -> None:
    deadline = time.monotonic() + CANCEL_WAIT_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.02)
        with db.connection(principal.tenant_id) as connection:
            row = connection.execute("SELECT ended_at FROM batch WHERE id = %s", (batch_id,)).fetchone()
        if row is None or row["ended_at"] is not None:
            return


def pause(principal: Principal, batch_id: UUID) -> None:
    """Start no further rows until `resume`; the window goes on. Raises NotFound, Conflict.

    A batch that was paused for another reason (a budget, a key) is its owner's from here on: it does not go on by
    itself when that reason is over.
    """
    with db.connection(principal.tenant_id) as connection:
        row = _locked(connection, principal, batch_id)
        if row["status"] not in ("pending", "processing", "paused"):
            raise Conflict(f"The batch is {row['status']}; only a pending or processing batch can be paused.")
        connection.execute(
            "UPDATE batch SET status = 'paused', status_reason = NULL, status_message = 'paused by its owner',"
            " needs_usd = NULL WHERE id = %s AND tenant_id = %s",
            (batch_id, principal.tenant_id),
        )
        if row["status"] == "paused":
            return
        connection.execute("SELECT pg_notify('llm_stop', %s)", (batch_id.hex,))
        webhooks.emit(connection, batch_id, "batch.paused")


def resume(principal: Principal, batch_id: UUID, *, max_cost_usd: Decimal | None = None) -> None:
    """Go on with a paused batch, connections that had stopped included. Raises NotFound, Conflict.

    Parameters
    ----------
    max_cost_usd : a new limit, for a batch that was paused at its old one, or will be.
    """
    with db.connection(principal.tenant_id) as connection:
        row = _locked(connection, principal, batch_id)
        if row["status"] in ("pending", "processing"):
            # It may be on its way to its old limit.
            connection.execute(
                "UPDATE batch SET max_cost_usd = coalesce(%s, max_cost_usd) WHERE id = %s AND tenant_id = %s",
                (max_cost_usd, batch_id, principal.tenant_id),
            )
            return
        if row["status"] != "paused":
            raise Conflict(f"The batch is {row['status']}; only a paused batch can be resumed.")
        connection.execute(
            "UPDATE batch SET status = CASE WHEN dispatched > 0 THEN 'processing' ELSE 'pending' END,"
            " status_reason = NULL, status_message = NULL, max_cost_usd = coalesce(%s, max_cost_usd)"
            " WHERE id = %s AND tenant_id = %s",
            (max_cost_usd, batch_id, principal.tenant_id),
        )
        connection.execute(
            "UPDATE connection SET state = 'active', stop_reason = NULL, stop_message = NULL, stopped_at = NULL"
            " WHERE tenant_id = %s AND state = 'stopped'"
            " AND id IN (SELECT connection_id FROM lane WHERE batch_id = %s)",
            (principal.tenant_id, batch_id),
        )
        connection.execute("SELECT pg_notify('llm_go', %s)", (batch_id.hex,))
        connection.execute("NOTIFY llm_dispatch")


def retry(
    principal: Principal,
    batch_id: UUID,
    only: set[str] | None = None,
    *,
    on_commit: Callable[[db.RawConnection, UUID], None] | None = None,
) -> UUID:
    """Run rows that ended without an answer again, as a new batch linked to this one with its options; returns its id.

    Parameters
    ----------
    only : statuses to take, of failed, expired and cancelled; by default failed and expired.
    on_commit : as in BatchOptions.

    Raises
    ------
    NotFound, Conflict
        Conflict if the batch has not ended, or has no such rows.
    InvalidInput
        `only` names something else.
    """
    wanted = sorted(only or {RowStatus.FAILED, RowStatus.EXPIRED})
    if not set(wanted) <= set(RETRIABLE):
        raise InvalidInput([FieldError("/only", "must be of failed, expired, cancelled")])
    with db.connection(principal.tenant_id) as connection:
        row = _locked(connection, principal, batch_id)
    if row["ended_at"] is None:
        raise Conflict("The batch has not ended; its rows can be retried when it has.")
    if not sum(row[status] for status in wanted):
        raise Conflict(f"The batch has no rows that are {' or '.join(wanted)}.")
    if _bodies_gone(principal, batch_id, row["created_at"], wanted):
        raise Conflict("The project keeps no bodies, so the requests of these rows are gone; submit them again.")
    options = BatchOptions(
        name=row["name"],
        metadata=row["labels"],
        processing=Processing(row["processing"]),
        window_seconds=int((row["expires_at"] - row["created_at"]).total_seconds()),
        priority=row["priority"],
        max_cost_usd=row["max_cost_usd"],
        max_error_rate=row["max_error_rate"],
        prompt_caching=row["prompt_caching"],
        webhook_url=row["webhook_url"],
        retry_of=batch_id,
        on_commit=on_commit,
    )
    return ingest.submit(principal, _again(principal, batch_id, row["created_at"], wanted), options)


def _bodies_gone(principal: Principal, batch_id: UUID, created_at: datetime, wanted: list[str]) -> bool:
    """True if the request of a row that would be run again has been removed; stops at the first such row."""
    with db.connection(principal.tenant_id) as connection:
        completion = partitions.holding(connection, "completion", created_at)
        request = partitions.holding(connection, "completion_request", created_at)
        found = connection.execute(
            f"SELECT FROM lane JOIN {completion} c ON c.id >= lane.id << %s AND c.id < (lane.id << %s) + lane.total"  # noqa: S608
            " WHERE lane.batch_id = %s AND lane.tenant_id = %s AND c.tenant_id = %s AND c.status = ANY(%s)"
            f" AND NOT EXISTS (SELECT FROM {request} r WHERE r.completion_id = c.id) LIMIT 1",
            (ingest.BLOCK_BITS, ingest.BLOCK_BITS, batch_id, principal.tenant_id, principal.tenant_id, wanted),
        ).fetchone()
    return found is not None


def _again(principal: Principal, batch_id: UUID, created_at: datetime, wanted: list[str]) -> Iterator[dict[str, Any]]:
    """The requests of a batch's rows with one of these statuses, read in pages."""
    with db.connection(principal.tenant_id) as connection:
        lanes = connection.execute(
            "SELECT id, total FROM lane WHERE batch_id = %s AND tenant_id = %s ORDER BY id",
            (batch_id, principal.tenant_id),
        ).fetchall()
    size = page_rows.FIRST_ROWS
    for lane in lanes:
        first = lane["id"] << ingest.BLOCK_BITS
        last = first + lane["total"]
        while first < last:
            with db.connection(principal.tenant_id) as connection:
                rows = connection.execute(
                    _AGAIN.format(
                        completion=partitions.holding(connection, "completion", created_at),
                        request=partitions.holding(connection, "completion_request", created_at),
                    ),
                    {
                        "tenant": principal.tenant_id,
                        "first": first,
                        "last": last,
                        "wanted": wanted,
                        "limit": size,
                    },
                ).fetchall()
            if not rows:
                break
            for row in rows:
                yield {**orjson.loads(row["body"]), "custom_id": row["custom_id"]}
            first = rows[-1]["id"] + 1
            size = page_rows.following(size, len(rows), sum(len(row["body"]) for row in rows), most=MAX_PAGE_ROWS)


def delete(principal: Principal, batch_id: UUID) -> None:
    """Remove a batch that has ended, with its rows and bodies. Raises NotFound, Conflict."""
    with db.connection(principal.tenant_id) as connection:
        row = _locked(connection, principal, batch_id)
        if row["ended_at"] is None:
            raise Conflict("The batch has not ended; cancel it first.")
        lanes = connection.execute(
            "DELETE FROM lane WHERE batch_id = %s AND tenant_id = %s RETURNING id, total",
            (batch_id, principal.tenant_id),
        ).fetchall()
        for lane in lanes:
            first = lane["id"] << ingest.BLOCK_BITS
            for table, column in _ROWS_OF_A_BATCH:
                partition = partitions.holding(connection, table, row["created_at"])
                connection.execute(
                    f"DELETE FROM {partition} WHERE tenant_id = %s AND {column} >= %s AND {column} < %s",  # noqa: S608
                    (principal.tenant_id, first, first + lane["total"]),
                )
        connection.execute("DELETE FROM batch_error WHERE batch_id = %s", (batch_id,))
        connection.execute("DELETE FROM batch WHERE id = %s AND tenant_id = %s", (batch_id, principal.tenant_id))


_ROWS_OF_A_BATCH = (
    ("completion_response", "completion_id"),
    ("completion_request", "completion_id"),
    ("completion", "id"),
)


def _locked(connection: db.RawConnection, principal: Principal, batch_id: UUID) -> dict[str, Any]:
    row = connection.execute(
        "SELECT * FROM batch WHERE id = %s AND tenant_id = %s AND project_id = %s FOR NO KEY UPDATE",
        (batch_id, principal.tenant_id, principal.project_id),
    ).fetchone()
    if row is None:
        raise NotFound
    return row


# The page is cut first: see core/batches/results.py.
_AGAIN = """
SELECT c.id, c.custom_id, r.body
FROM (
    SELECT id, custom_id FROM {completion}
    WHERE tenant_id = %(tenant)s AND id >= %(first)s AND id < %(last)s AND status = ANY(%(wanted)s)
    ORDER BY id LIMIT %(limit)s
) c
JOIN {request} r ON r.completion_id = c.id
ORDER BY c.id
"""
