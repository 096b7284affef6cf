"""A batch's files, made of its rows when they are read: lines of requests, of answers, and of errors."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from core import db, page_rows, partitions
from core.errors import NotFound
from core.file_batches.parts import Part, file_id
from core.file_batches.read import get
from core.file_batches.source import CHAT, EMBEDDINGS
from core.ids import BLOCK_BITS
from core.params import embeddings
from core.principal import Principal
from core.states import RowStatus

#: Rows read in one go at the most.
_MAX_PAGE_ROWS = 256
#: OpenAI's limit of lines in a batch; the size of larger batches' files is not counted.
_COUNTED_ROWS = 50_000
_KEPT_SIZES = 10_000


def content(principal: Principal, batch_id: UUID, part: Part) -> Iterator[bytes]:
    """The lines of one part of a batch, each with its end, in pieces of many lines.

    Raises
    ------
    NotFound
        There is no such batch, or it has not ended and so has no results yet.
    """
    batch = get(principal, batch_id)
    if part is not Part.INPUT and batch["ended_at"] is None:
        raise NotFound(f"No such File object: {file_id(batch_id, part)}")
    with db.connection(principal.tenant_id) as connection:
        lanes = connection.execute(
            "SELECT id, total FROM lane WHERE batch_id = %s AND tenant_id = %s ORDER BY id",
            (batch_id, principal.tenant_id),
        ).fetchall()
    return _lines(principal, batch, lanes, part)


def size_bytes(principal: Principal, batch: dict[str, Any], part: Part) -> int:
    """The size of one part of a batch (as `get` gives it): its lines are written once to be counted, then it is known.

    0 for a batch of more rows than OpenAI's have: that would take too long.
    """
    key = (batch["id"], part)
    if batch["total"] > _COUNTED_ROWS:
        return 0
    if key not in _sizes:
        size = sum(map(len, content(principal, batch["id"], part)))
        if len(_sizes) >= _KEPT_SIZES:
            _sizes.clear()
        _sizes[key] = size
    return _sizes[key]


#: Files of this process's callers whose size is known; what they are made of does not change any more.
_sizes: dict[tuple[UUID, Part], int] = {}


def _lines(principal: Principal, batch: dict[str, Any], lanes: list[dict[str, Any]], part: Part) -> Iterator[bytes]:
    size = page_rows.FIRST_ROWS
    for lane in lanes:
        first = lane["id"] << BLOCK_BITS
        end = first + lane["total"]
        while first < end:
            # A transaction a page: a slow reader must not hold one open.
            with db.connection(principal.tenant_id) as connection:
                rows = connection.execute(
                    page_of(connection, part, batch["created_at"]),
                    {"tenant": principal.tenant_id, "first": first, "end": end, "limit": size},
                ).fetchall()
            if rows:
                yield b"".join([_LINES[part](row) for row in rows])
            if len(rows) < size:
                break
            first = rows[-1]["id"] + 1
            read = sum(len(row.get("body") or "") for row in rows)
            size = page_rows.following(size, len(rows), read, most=_MAX_PAGE_ROWS)


def page_of(connection: db.RawConnection, part: Part, created_at: datetime) -> str:
    """The statement that reads a page of a part, on the partitions that hold the batch's rows."""
    names = {
        table: partitions.holding(connection, table, created_at)
        for table in ("completion", "completion_request", "completion_response")
    }
    return _PAGES[part].format(**names)


def _input_line(row: dict[str, Any]) -> bytes:
    text = row["body"] or "null"
    # Only a body that may ask for embeddings is looked into; it travels through as it is.
    embedding = '"input"' in text and embeddings.asked_for(orjson.loads(text))
    url = EMBEDDINGS if embedding else CHAT
    return _line({"custom_id": row["custom_id"], "method": "POST", "url": url, "body": orjson.Fragment(text)})


def _output_line(row: dict[str, Any]) -> bytes:
    return _line(
        {
            "id": f"batch_req_{row['id']:x}",
            "custom_id": row["custom_id"],
            # The body is JSON already: it travels through as it is.
            "response": {
                "status_code": 200,
                "request_id": f"req_{row['id']:x}",
                "body": orjson.Fragment(row["body"] or "null"),
            },
            "error": None,
        }
    )


def _error_line(row: dict[str, Any]) -> bytes:
    response = error = None
    message = row["error_message"] or ""
    if row["status"] == RowStatus.EXPIRED:
        error = {
            "code": "batch_expired",
            "message": "This request could not be executed before the completion window expired.",
        }
    elif row["status"] == RowStatus.CANCELLED:
        error = {
            "code": "batch_cancelled",
            "message": "This request was not executed because the batch was cancelled.",
        }
    elif (row["provider_status"] or 0) >= 400:
        body = {"error": {"message": message, "type": row["error_type"], "param": None, "code": row["error_type"]}}
        response = {"status_code": row["provider_status"], "request_id": f"req_{row['id']:x}", "body": body}
    else:
        error = {"code": row["error_type"], "message": message}
    return _line(
        {"id": f"batch_req_{row['id']:x}", "custom_id": row["custom_id"], "response": response, "error": error}
    )


def _line(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


# The ids of a lane are one range of the primary key. The page is cut first: see core/batches/results.py.
_CUT = """
SELECT {columns} FROM {{completion}} AS c
WHERE c.tenant_id = %(tenant)s AND c.id >= %(first)s AND c.id < %(end)s AND {which} ORDER BY c.id LIMIT %(limit)s
"""
_WITH_BODIES = """
SELECT c.id, c.custom_id, b.body FROM ({cut}) AS c
LEFT JOIN {{{bodies}}} AS b ON b.completion_id = c.id AND b.tenant_id = c.tenant_id
ORDER BY c.id
"""
_OF_BODIES = "c.id, c.custom_id, c.tenant_id"
_PAGES = {
    Part.INPUT: _WITH_BODIES.format(cut=_CUT.format(columns=_OF_BODIES, which="true"), bodies="completion_request"),
    Part.OUTPUT: _WITH_BODIES.format(
        cut=_CUT.format(columns=_OF_BODIES, which="c.status = 'succeeded'"), bodies="completion_response"
    ),
    Part.ERROR: _CUT.format(
        columns="c.id, c.custom_id, c.status, c.error_type, c.error_message, c.provider_status",
        which="c.status IN ('failed', 'expired', 'cancelled')",
    ),
}
_LINES = {Part.INPUT: _input_line, Part.OUTPUT: _output_line, Part.ERROR: _error_line}
