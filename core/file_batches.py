"""Batches seen as OpenAI's: made of an uploaded file's lines, their results read as files of lines."""

# ruff: noqa: S608 (statements are put together from constants only)

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
from psycopg.types.json import Jsonb

from core import db, ids
from core.batches import ingest, reading
from core.batches.options import BatchOptions
from core.errors import FieldError, InvalidInput, NotFound
from core.ids import BLOCK_BITS, new_id
from core.json_input import BadJson, loads
from core.params import embeddings
from core.principal import Principal
from core.settings import settings
from core.states import RowStatus

#: The endpoints whose requests are run in batches.
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
ENDPOINTS = (CHAT, EMBEDDINGS)
#: Rows read in one go.
_PAGE_ROWS = 256
#: OpenAI's limit of lines in a batch; the size of larger batches' files is not counted.
_COUNTED_ROWS = 50_000
_KEPT_SIZES = 10_000


class Part(StrEnum):
    """Which lines of a batch a file holds: its requests, its answers, or what went wrong with the others."""

    INPUT = "input"
    OUTPUT = "output"
    ERROR = "error"


_FILE_ID = re.compile(r"file-([0-9a-f]{32})-(input|output|error)\Z")


def file_id(batch_id: UUID, part: Part) -> str:
    """The id of a file that is made of a batch's rows when it is read."""
    return f"file-{batch_id.hex}-{part}"


def parse_file_id(text: str) -> tuple[UUID, Part] | None:
    """What `file_id` put together; None if it is no such id."""
    found = _FILE_ID.match(text)
    return (UUID(hex=found[1]), Part(found[2])) if found else None


def submit(
    principal: Principal,
    lines: Iterable[bytes],
    options: BatchOptions,
    *,
    source: UUID,
    endpoint: str,
    completion_window: str,
) -> UUID:
    """A batch of the requests in a file (PROVIDERS.md 5.2); if a line is wrong, a batch that failed and says why.

    Parameters
    ----------
    lines : of the file, without their ends.
    source : the file's id.
    endpoint : one of ENDPOINTS, that of every line.

    Raises
    ------
    TooLarge
        More lines, or longer ones, than a batch takes.
    """
    reader = _Lines(lines, endpoint)
    values = (principal.tenant_id, source, endpoint, completion_window)

    def link(connection: db.RawConnection, batch_id: UUID) -> None:
        connection.execute(_LINK, (batch_id, *values, None))

    try:
        return ingest.submit(principal, reader, dataclasses.replace(options, on_commit=link), ndjson=True)
    except InvalidInput as error:
        errors = [reader.explained(each) for each in error.errors]
    return _failed(principal, options, values, errors)


#: Stands for a line that holds no request: ingest refuses it, where it would skip an empty one.
_REFUSED = b"-"


class _Lines:
    """The requests in a file's lines. A line that holds none is handed on as it is refused, and explained later."""

    def __init__(self, lines: Iterable[bytes], endpoint: str) -> None:
        self._lines = lines
        self._endpoint = endpoint
        self._wrong: dict[int, tuple[str, str | None, str]] = {}

    def __iter__(self) -> Iterator[bytes | dict[str, Any]]:
        depth = settings().max_depth + 1
        for number, line in enumerate(self._lines, 1):
            if not line.strip():
                yield line
                continue
            row = self._row(line, depth)
            if isinstance(row, dict):
                yield row
            else:
                if len(self._wrong) < reading.MAX_REPORTED:
                    self._wrong[number] = row
                yield _REFUSED

    def _row(self, line: bytes, depth: int) -> dict[str, Any] | tuple[str, str | None, str]:
        """A row as ingest takes it, or code, param and message of what is wrong with the line."""
        try:
            found = loads(line, max_depth=depth)
        except BadJson as error:
            return "invalid_json_line", None, f"This line is not parseable as valid JSON: {error}."
        if not isinstance(found, dict):
            return "invalid_json_line", None, "This line is not a JSON object."
        if found.get("method", "POST") != "POST":
            return "invalid_method", "method", "Only POST requests are run."
        if found.get("url") != self._endpoint:
            return "mismatched_url", "url", f"The url of this line must be the batch's endpoint, {self._endpoint}."
        if not isinstance(found.get("custom_id"), str):
            return "missing_required_parameter", "custom_id", "custom_id is required and must be a string."
        body = found.get("body")
        if not isinstance(body, dict):
            return "missing_required_parameter", "body", "body is required and must be an object."
        if self._endpoint == EMBEDDINGS:
            if not embeddings.asked_for(body):
                return "missing_required_parameter", "input", "body must have model and input, and no messages."
            return {**body, "custom_id": found["custom_id"]}
        if embeddings.asked_for(body):
            return "missing_required_parameter", "messages", "body must have model and messages."
        # Left out, the temperature is the provider's own default here, not this service's.
        return {"temperature": None, **body, "custom_id": found["custom_id"]}

    def explained(self, error: FieldError) -> dict[str, Any]:
        """An error of ingest as OpenAI lists them."""
        wrong = self._wrong.get(error.line) if error.line is not None else None
        if wrong is not None:
            code, param, message = wrong
        else:
            param = error.pointer.lstrip("/").replace("/", ".") or None
            message = error.message if param is None else f"{param}: {error.message}"
            if error.line is None:
                code, param, message = "empty_file", None, "The input file has no requests."
            elif error.pointer == "/custom_id":
                code = "duplicate_custom_id" if "already used" in error.message else "invalid_custom_id"
            elif error.pointer == "/model":
                code = "model_not_found"
            else:
                code = "invalid_request"
        return {"code": code, "line": error.line, "message": message, "param": param}


def _failed(principal: Principal, options: BatchOptions, source: tuple[Any, ...], errors: list[dict[str, Any]]) -> UUID:
    """A batch that never began because of what is wrong with its file."""
    batch_id = new_id()
    with db.connection(principal.tenant_id) as connection:
        connection.execute(
            "INSERT INTO batch (id, tenant_id, project_id, created_at, name, labels, processing, priority, webhook_url,"
            " status, status_reason, status_message, expires_at, ended_at, total)"
            " VALUES (%s, %s, %s, now(), %s, %s, %s, %s, %s, 'failed', 'invalid_request', %s, now() + %s, now(), 0)",
            (
                batch_id,
                principal.tenant_id,
                principal.project_id,
                options.name,
                Jsonb(options.metadata),
                options.processing,
                options.priority,
                options.webhook_url,
                "the input file is not valid",
                timedelta(seconds=options.window_seconds),
            ),
        )
        connection.execute(_LINK, (batch_id, *source, Jsonb(errors)))
    return batch_id


_LINK = (
    "INSERT INTO batch_source (batch_id, tenant_id, file_id, endpoint, completion_window, errors)"
    " VALUES (%s, %s, %s, %s, %s, %s)"
)


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
    for lane in lanes:
        first = lane["id"] << BLOCK_BITS
        end = first + lane["total"]
        while first < end:
            # A transaction a page: a slow reader must not hold one open.
            with db.connection(principal.tenant_id) as connection:
                rows = connection.execute(
                    _PAGES[part],
                    {
                        "tenant": principal.tenant_id,
                        "batch": batch["id"],
                        "created_at": batch["created_at"],
                        "first": first,
                        "end": end,
                        "limit": _PAGE_ROWS,
                    },
                ).fetchall()
            if rows:
                yield b"".join([_LINES[part](row) for row in rows])
            if len(rows) < _PAGE_ROWS:
                break
            first = rows[-1]["id"] + 1


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


# created_at names the partition; the ids of a lane are one range of the primary key.
_RANGE = """
  c.tenant_id = %(tenant)s AND c.batch_id = %(batch)s AND c.created_at = %(created_at)s
  AND c.id >= %(first)s AND c.id < %(end)s
"""
_BODY_OF = "JOIN {} AS b ON b.completion_id = c.id AND b.created_at = c.created_at AND b.tenant_id = c.tenant_id"
_PAGES = {
    Part.INPUT: f"SELECT c.id, custom_id, b.body FROM completion AS c LEFT {_BODY_OF.format('completion_request')}"
    f" WHERE {_RANGE} ORDER BY c.id LIMIT %(limit)s",
    Part.OUTPUT: f"SELECT c.id, custom_id, b.body FROM completion AS c LEFT {_BODY_OF.format('completion_response')}"
    f" WHERE {_RANGE} AND c.status = 'succeeded' ORDER BY c.id LIMIT %(limit)s",
    Part.ERROR: "SELECT c.id, custom_id, status, error_type, error_message, provider_status FROM completion AS c"
    f" WHERE {_RANGE} AND c.status IN ('failed', 'expired', 'cancelled') ORDER BY c.id LIMIT %(limit)s",
}
_LINES = {Part.INPUT: _input_line, Part.OUTPUT: _output_line, Part.ERROR: _error_line}
