"""A batch made of the requests in an uploaded file's lines, in OpenAI's form."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from core import db
from core.batches import ingest, reading
from core.batches.options import BatchOptions
from core.errors import FieldError, InvalidInput
from core.ids import new_id
from core.json_input import BadJson, loads
from core.params import embeddings
from core.principal import Principal
from core.settings import settings

#: The endpoints whose requests are run in batches.
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
ENDPOINTS = (CHAT, EMBEDDINGS)


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
    reader = RequestLines(lines, endpoint)
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


class RequestLines:
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
