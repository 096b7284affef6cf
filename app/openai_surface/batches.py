"""/v1/batches: batches made of uploaded files, and every other batch of the project, as OpenAI shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from flask import Response, request

from app import auth, body, idempotent, submissions
from app.answers import answer
from app.openai_surface.routes import blueprint
from core import egress, file_batches, files, ids
from core.batches import control, options
from core.errors import FieldError, InvalidInput, NotFound
from core.file_batches import CHAT, ENDPOINTS, Part
from core.settings import settings
from core.states import BatchStatus

_FIELDS = frozenset({"input_file_id", "endpoint", "completion_window", "output_expires_after"})


@blueprint.post("/v1/batches")
@idempotent.idempotent()
def create_batch() -> Response:
    """A batch of the requests in an uploaded file. This service's own options (name, priority ...) are taken, too."""
    given = dict(body.json_object())
    wrong = []
    source = given.get("input_file_id")
    if not isinstance(source, str):
        wrong.append(FieldError("/input_file_id", "is required: the id of an uploaded file with purpose batch"))
    endpoint = given.get("endpoint")
    if endpoint not in ENDPOINTS:
        wrong.append(FieldError("/endpoint", f"must be one of {', '.join(ENDPOINTS)}"))
    if not isinstance(given.get("completion_window"), str):
        wrong.append(FieldError("/completion_window", 'is required, such as "24h"'))
    own = {name: value for name, value in given.items() if name not in _FIELDS}
    try:
        chosen = options.parse({**own, "completion_window": given.get("completion_window")}, egress.check)
    except InvalidInput as error:
        wrong.extend(each for each in error.errors if all(each.pointer != found.pointer for found in wrong))
    if wrong:
        raise InvalidInput(wrong)
    principal = auth.principal()
    try:
        file = files.get(principal, files.parse_id(str(source)))
    except NotFound as error:
        raise InvalidInput([FieldError("/input_file_id", error.detail)]) from error
    if file.purpose != "batch":
        raise InvalidInput([FieldError("/input_file_id", f"has the purpose {file.purpose}; it must be batch")])
    with submissions.one_of_few():
        lines = body.lines(files.content(principal, file.id), settings().max_line_bytes)
        window = given["completion_window"]
        made = file_batches.submit(
            principal, lines, chosen, source=file.id, endpoint=str(endpoint), completion_window=window
        )
    return _one(made)


@blueprint.get("/v1/batches")
def list_batches() -> Response:
    """Every batch of the project, newest first."""
    limit = request.args.get("limit", "20")
    if not limit.isdecimal() or not 1 <= int(limit[:9]) <= 100:
        raise InvalidInput([FieldError("?limit", "must be from 1 to 100")])
    after = ids.parse("batch", request.args["after"]) if request.args.get("after") else None
    rows, more = file_batches.page(auth.principal(), limit=int(limit), after=after)
    data = [_batch(row) for row in rows]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return answer({"object": "list", "data": data, **ends, "has_more": more})


@blueprint.get("/v1/batches/<batch_id>")
def get_batch(batch_id: str) -> Response:
    """One batch."""
    return _one(ids.parse("batch", batch_id))


@blueprint.post("/v1/batches/<batch_id>/cancel")
def cancel_batch(batch_id: str) -> Response:
    """Stop a batch: no call starts after this answer; lines that were answered are kept."""
    found = ids.parse("batch", batch_id)
    control.cancel(auth.principal(), found)
    return _one(found)


def _one(batch_id: UUID) -> Response:
    return answer(_batch(file_batches.get(auth.principal(), batch_id)))


def status_of(row: dict[str, Any]) -> str:
    """The status of a batch in OpenAI's eight words (PROVIDERS.md 5.3)."""
    ended = row["ended_at"] is not None
    match row["status"]:
        case BatchStatus.PENDING:
            return "validating"
        case BatchStatus.CANCELLED:
            return "cancelled" if ended else "cancelling"
        case BatchStatus.EXPIRED:
            return "expired" if ended else "finalizing"
        case BatchStatus.FAILED if not ended:
            return "finalizing"
        case BatchStatus.FAILED:
            # To have run and got no answer is no failure of the batch there: its lines are in the error file.
            return "failed" if row["status_reason"] else "completed"
        case BatchStatus.COMPLETED:
            return "completed"
    return "in_progress"


def _batch(row: dict[str, Any]) -> dict[str, Any]:
    status = status_of(row)
    ended = row["ended_at"] is not None
    unanswered = row["failed"] + row["expired"] + row["cancelled"]
    ended_at = _seconds(row["ended_at"])
    source = row["source_file_id"]
    return {
        "id": ids.public("batch", row["id"]),
        "object": "batch",
        "endpoint": row["endpoint"] or CHAT,
        "model": row["model"],
        "errors": _errors(row) if status == "failed" else None,
        "input_file_id": files.public_id(source) if source else file_batches.file_id(row["id"], Part.INPUT),
        "completion_window": row["completion_window"] or _window(row),
        "status": status,
        "output_file_id": file_batches.file_id(row["id"], Part.OUTPUT) if ended and row["succeeded"] else None,
        "error_file_id": file_batches.file_id(row["id"], Part.ERROR) if ended and unanswered else None,
        "created_at": _seconds(row["created_at"]),
        "in_progress_at": _seconds(row["started_at"]),
        "expires_at": _seconds(row["expires_at"]),
        "finalizing_at": ended_at if status in ("completed", "expired") else None,
        "completed_at": ended_at if status == "completed" else None,
        "failed_at": ended_at if status == "failed" else None,
        "expired_at": ended_at if status == "expired" else None,
        "cancelling_at": _seconds(row["cancelled_at"]),
        "cancelled_at": ended_at if status == "cancelled" else None,
        "request_counts": {
            "total": row["total"],
            "completed": row["succeeded"],
            "failed": row["failed"] + row["expired"],
        },
        "usage": {
            "input_tokens": row["input_tokens"],
            "input_tokens_details": {"cached_tokens": row["cached_tokens"]},
            "output_tokens": row["output_tokens"],
            "output_tokens_details": {"reasoning_tokens": row["reasoning_tokens"]},
            "total_tokens": row["input_tokens"] + row["output_tokens"],
        },
        "metadata": row["labels"] or None,
    }


def _errors(row: dict[str, Any]) -> dict[str, Any]:
    stopped = {"code": row["status_reason"], "message": row["status_message"] or "", "param": None, "line": None}
    return {"object": "list", "data": row["errors"] or [stopped]}


def _window(row: dict[str, Any]) -> str:
    return f"{round((row['expires_at'] - row['created_at']).total_seconds() / 3600)}h"


def _seconds(value: datetime | None) -> int | None:
    return int(value.timestamp()) if value else None
