"""Reading logs: a page, one, or all that a filter lets through as lines of JSON or CSV."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from typing import Any

import orjson
from psycopg.rows import DictRow

from core import db, page_rows
from core.errors import FieldError, InvalidInput, NotFound
from core.logbook.entry import COLUMNS, Bodies, Position, failed_attempts, log_object, position_of, public_id
from core.logbook.filters import Filter
from core.logbook.search import Walk, bodies_of
from core.principal import Principal

#: A page that searches looks no further once this is over, in seconds: it has what was found, and a cursor.
PAGE_SECONDS = 0.03
#: Longer prompts and answers are left out of pages, in bytes; the log itself and exports have them.
PAGE_BODY_BYTES = 64 << 10
#: Rows that an export reads in one go at the most.
_MAX_ROWS = 500


def page(principal: Principal, wanted: Filter, *, limit: int, cursor: str | None = None) -> dict[str, Any]:
    """A page of logs, newest first: {"data": [...], "has_more": bool, "next_cursor": text or None}.

    With a filter that few rows pass, a page may hold fewer than `limit`, even none, and yet have more after it.

    Raises
    ------
    InvalidInput
        The cursor is not one of ours.
    """
    walk = _walk(principal, wanted, cursor)
    deadline = time.monotonic() + PAGE_SECONDS
    # One more than asked for says whether there is more.
    rows = walk.more(limit + 1)
    while walk.position is not None and len(rows) <= limit and not (wanted.searches and time.monotonic() >= deadline):
        rows += walk.more(limit + 1 - len(rows))
    position = walk.position
    if len(rows) > limit:
        rows = rows[:limit]
        position = Position(rows[-1]["created_at"], rows[-1]["id"])
    data = [log_object(row, bodies) for row, bodies in bodies_of(principal, rows, max_bytes=PAGE_BODY_BYTES)]
    return {
        "data": data,
        "has_more": position is not None,
        "next_cursor": None if position is None else public_id(position),
    }


def one(principal: Principal, log_id: str) -> dict[str, Any]:
    """One log with its whole request and answer. Raises NotFound."""
    position = position_of(log_id)
    with db.connection(principal.tenant_id) as connection:
        row = connection.execute(
            f"SELECT {COLUMNS} FROM completion c WHERE c.created_at = %s AND c.id = %s"  # noqa: S608 (a constant)
            " AND c.tenant_id = %s AND c.project_id = %s",
            (*position, principal.tenant_id, principal.project_id),
        ).fetchone()
        if row is None:
            raise NotFound
        if row["ended_at"] is None:
            # A row on its way has its calls beside it.
            lease = connection.execute(
                "SELECT attempts, failures FROM lease WHERE completion_id = %s AND tenant_id = %s",
                (row["id"], principal.tenant_id),
            ).fetchone()
            row["attempts"] = lease["attempts"] if lease else 0
            row["failed_attempts"] = lease["failures"] if lease else None
    ((_, bodies),) = bodies_of(principal, [row])
    return {
        **log_object(row, bodies),
        "request": None if bodies.request is None else orjson.Fragment(bodies.request),
        "request_sha256": bytes(row["request_sha256"]).hex() if row["request_sha256"] else None,
        "price_version": row["price_version"],
        "failed_attempts": failed_attempts(row),
    }


def as_lines(principal: Principal, wanted: Filter, cursor: str | None = None) -> Iterator[bytes]:
    """Every log that passes, one JSON object a line, bodies whole. Raises as `page`, before the first."""
    return (
        orjson.dumps(log_object(row, bodies), option=orjson.OPT_APPEND_NEWLINE)
        for row, bodies in _all(principal, _walk(principal, wanted, cursor))
    )


def as_csv(principal: Principal, wanted: Filter, cursor: str | None = None) -> Iterator[bytes]:
    """The same as CSV (RFC 4180) with a head; prompt and response are JSON text in their cells."""
    walk = _walk(principal, wanted, cursor)

    def lines() -> Iterator[bytes]:
        yield _csv(_CSV_COLUMNS)
        for row, bodies in _all(principal, walk):
            yield _csv([_cell(value) for value in _flat(row, bodies)])

    return lines()


def _walk(principal: Principal, wanted: Filter, cursor: str | None) -> Walk:
    try:
        after = None if cursor is None else position_of(cursor)
    except NotFound:
        wrong = FieldError("?cursor", "is not a cursor; use next_cursor of the page before as it is")
        raise InvalidInput([wrong]) from None
    return Walk(principal, wanted, after)


def _all(principal: Principal, walk: Walk) -> Iterator[tuple[DictRow, Bodies]]:
    size = page_rows.FIRST_ROWS
    while walk.position is not None:
        # A transaction a piece: a slow reader must not hold one open.
        found = list(bodies_of(principal, walk.more(size)))
        yield from found
        if found:
            read = sum(len(bodies.request or "") + len(bodies.response or "") for _, bodies in found)
            size = page_rows.following(size, len(found), read, most=_MAX_ROWS)


_CSV_COLUMNS = (
    "id", "created_at", "started_at", "ended_at", "status", "processing", "provider", "model_requested", "model",
    "model_answered", "request_id", "batch_id", "custom_id", "attempts", "input_tokens", "output_tokens",
    "cached_tokens", "reasoning_tokens", "cost_usd", "savings_usd", "error_type", "error_message", "provider_status",
    "time_to_first_token_ms", "duration_ms", "prompt", "response",
)  # fmt: skip


def _flat(row: DictRow, bodies: Bodies) -> list[Any]:
    shown = log_object(row, bodies)
    shown.update(shown["usage"] or {})
    shown.update(error_type=row["error_type"], error_message=row["error_message"])
    shown["provider_status"] = row["provider_status"]
    shown["prompt"] = None if shown["prompt"] is None else orjson.dumps(shown["prompt"]).decode()
    shown["response"] = bodies.response
    return [shown.get(name) for name in _CSV_COLUMNS]


def _cell(value: Any) -> Any:
    """Spreadsheets run what begins like a formula: such text gets an apostrophe in front (OWASP, CSV injection)."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value


def _csv(cells: Any) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().encode()
