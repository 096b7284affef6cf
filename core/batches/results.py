"""The results of a batch, row by row: read by keyset in short transactions, so that memory and locks stay small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg.rows import args_row

from core import db, page_rows, partitions
from core.beside import ahead
from core.errors import NotFound, NotYetAvailable
from core.ids import BLOCK_BITS
from core.principal import Principal
from core.states import FailureReason, RowStatus
from core.time_and_money import plain_decimal

#: Rows that are read in one go at the most.
MAX_PAGE_ROWS = 1000


@dataclass(frozen=True, slots=True)
class _Lane:
    first_id: int
    total: int


def rows(principal: Principal, batch_id: UUID, *, partial: bool = False) -> Iterator[bytes]:
    """Each row that has ended as one JSON object, every row exactly once; order is by lane, not by the input.

    The batch is looked at before this returns, so that its errors come before the first row.

    Raises
    ------
    NotFound
        There is no such batch in this project.
    NotYetAvailable
        It has not ended (a cancelled one ends when its last call has come home), and `partial` is False.
    """
    with db.connection(principal.tenant_id) as connection:
        batch = connection.execute(
            "SELECT created_at, ended_at FROM batch WHERE id = %s AND tenant_id = %s AND project_id = %s",
            (batch_id, principal.tenant_id, principal.project_id),
        ).fetchone()
        if batch is None:
            raise NotFound
        if batch["ended_at"] is None and not partial:
            raise NotYetAvailable
        lanes = [
            _Lane(row["id"] << BLOCK_BITS, row["total"])
            for row in connection.execute(
                "SELECT id, total FROM lane WHERE batch_id = %s AND tenant_id = %s ORDER BY id",
                (batch_id, principal.tenant_id),
            )
        ]
    return _rows(_pages(principal, batch["created_at"], lanes))


def _rows(pages: Iterator[list[_Ended]]) -> Iterator[bytes]:
    for page in ahead(pages):
        yield from map(_result, page)


def _pages(principal: Principal, created_at: datetime, lanes: list[_Lane]) -> Iterator[list[_Ended]]:
    size = page_rows.FIRST_ROWS
    for lane in lanes:
        next_id, end = lane.first_id, lane.first_id + lane.total
        while next_id < end:
            # A transaction a page: a slow reader must not hold one open.
            with (
                db.connection(principal.tenant_id) as connection,
                connection.cursor(row_factory=args_row(_Ended)) as cursor,
            ):
                found = cursor.execute(
                    _PAGE.format(
                        completion=partitions.holding(connection, "completion", created_at),
                        response=partitions.holding(connection, "completion_response", created_at),
                    ),
                    {
                        "tenant": principal.tenant_id,
                        "first": next_id,
                        "end": end,
                        "limit": size,
                    },
                ).fetchall()
            if found:
                yield found
            if len(found) < size:
                break
            next_id = found[-1].id + 1
            read = sum(len(row.response or "") for row in found)
            size = page_rows.following(size, len(found), read, most=MAX_PAGE_ROWS)


@dataclass(slots=True)
class _Ended:
    """A row that has ended, as PostgreSQL writes its values: most of them go out as they come in."""

    id: int
    custom_id: str
    status: str
    model: str
    provider: str
    processing: str
    attempts: int
    request_sha256: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: str | None
    error_type: str | None
    error_message: str | None
    provider_status: int | None
    started_at: str | None
    ended_at: str | None
    response: str | None


# The ids of a lane are one range of the primary key. The columns stand in the order of _Ended's fields. The page is cut
# before its answers are looked up: with the limit outside, the planner has merged the page with all answers from the
# partition's first on, for each page anew.
_PAGE = """
SELECT c.id, custom_id, status, c.model, provider, processing, attempts, encode(request_sha256, 'hex'),
       input_tokens, output_tokens, cached_tokens, reasoning_tokens, cost_usd::text,
       error_type, error_message, provider_status, started_at::text, ended_at::text, response.body
FROM (
    SELECT * FROM {completion}
    WHERE tenant_id = %(tenant)s AND id >= %(first)s AND id < %(end)s AND status <> 'pending'
    ORDER BY id LIMIT %(limit)s
) AS c
LEFT JOIN {response} AS response ON response.completion_id = c.id AND response.tenant_id = c.tenant_id
ORDER BY c.id
"""


def _result(row: _Ended) -> bytes:
    succeeded = row.status == RowStatus.SUCCEEDED
    return orjson.dumps(
        {
            "custom_id": row.custom_id,
            "status": row.status,
            # Already JSON: it travels through as it is.
            "response": orjson.Fragment(row.response) if succeeded and row.response is not None else None,
            "error": None if succeeded else _error(row),
            "usage": _usage(row),
            "cost_usd": None if row.cost_usd is None else plain_decimal(row.cost_usd),
            "model": row.model,
            "provider": row.provider,
            "attempts": row.attempts,
            "processing": row.processing,
            "request_sha256": row.request_sha256,
            "started_at": _time_text(row.started_at),
            "ended_at": _time_text(row.ended_at),
        }
    )


def _time_text(value: str | None) -> str | None:
    """RFC 3339 with microseconds, as `time_text`, of PostgreSQL's text in UTC: 2026-11-28 03:11:46.12+00."""
    if value is None:
        return None
    whole, _, fraction = value[:-3].partition(".")
    return f"{whole[:10]}T{whole[11:]}.{fraction:0<6}Z"


def _error(row: _Ended) -> dict[str, Any]:
    reason = row.error_type or _REASON_OF_STATUS.get(row.status, FailureReason.INTERNAL)
    try:
        retryable = FailureReason(reason).retryable
    except ValueError:
        # Written by another version of the service.
        retryable = False
    return {
        "type": reason,
        "message": row.error_message or "",
        "provider_status": row.provider_status,
        "retryable": retryable,
    }


#: Rows that were swept before they started carry no cause of their own.
_REASON_OF_STATUS: dict[str, FailureReason] = {
    RowStatus.CANCELLED: FailureReason.CANCELLED,
    RowStatus.EXPIRED: FailureReason.EXPIRED,
}


def _usage(row: _Ended) -> dict[str, int] | None:
    if row.input_tokens is None:
        return None
    return {
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens or 0,
        "cached_tokens": row.cached_tokens or 0,
        "reasoning_tokens": row.reasoning_tokens or 0,
    }
