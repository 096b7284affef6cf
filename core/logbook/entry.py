"""A log as its project sees it, and its public id, which says in which partition the row lies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from core import ids
from core.errors import NotFound
from core.states import FailureReason, RowStatus
from core.time_and_money import money_text, time_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ID_BITS = 64

#: What is read of a completion.
COLUMNS = (
    "c.id, c.created_at, c.batch_id, c.custom_id, c.status, c.processing, c.model_requested, c.model, c.model_called,"
    " c.provider, c.request_id, c.request_sha256, c.input_tokens, c.output_tokens, c.cached_tokens, c.reasoning_tokens,"
    " c.cost_usd, c.list_cost_usd, c.price_version, c.attempts, c.error_type, c.error_message, c.provider_status,"
    " c.started_at, c.ended_at, c.first_token_ms, c.failed_attempts"
)


class Position(NamedTuple):
    """Where a completion stands among all of its project: by time, and by id where one time has many."""

    created_at: datetime
    id: int


class Bodies(NamedTuple):
    """What was asked and what was answered, as JSON text; None: nothing was, or it is not shown."""

    request: str | None
    response: str | None
    #: `included`, `too_long` for a list, or `not_kept` by the project
    state: str


NOT_KEPT = Bodies(None, None, "not_kept")


def public_id(position: Position) -> str:
    """`log_` and 32 hexadecimal digits: the microseconds of created_at and the row's id."""
    microseconds = (position.created_at - _EPOCH) // timedelta(microseconds=1)
    return ids.public("log", UUID(int=microseconds << _ID_BITS | position.id))


def position_of(log_id: str) -> Position:
    """The position in a public id. Raises NotFound if the text is none."""
    number = ids.parse("log", log_id).int
    row_id = number & ((1 << _ID_BITS) - 1)
    try:
        created_at = _EPOCH + timedelta(microseconds=number >> _ID_BITS)
    except OverflowError:
        raise NotFound from None
    # PostgreSQL's bigint ends earlier.
    if row_id >= 1 << 63:
        raise NotFound
    return Position(created_at, row_id)


def log_object(row: dict[str, Any], bodies: Bodies) -> dict[str, Any]:
    """One log; prompt and response go through as the JSON that is stored."""
    duration = row["ended_at"] - row["started_at"] if row["ended_at"] and row["started_at"] else None
    return {
        "id": public_id(Position(row["created_at"], row["id"])),
        "request_id": row["request_id"],
        "batch_id": ids.public("batch", row["batch_id"]) if row["batch_id"] else None,
        "custom_id": row["custom_id"],
        "status": row["status"],
        "processing": row["processing"],
        "provider": row["provider"],
        "model_requested": row["model_requested"],
        "model": row["model_called"] or row["model"],
        "model_answered": row["model"] if row["status"] == RowStatus.SUCCEEDED else None,
        "prompt": _prompt(bodies.request),
        "response": orjson.Fragment(bodies.response) if bodies.response is not None else None,
        "bodies": bodies.state,
        "usage": _usage(row),
        "cost_usd": money_text(row["cost_usd"]),
        "savings_usd": _savings(row),
        "error": _error(row),
        "attempts": row["attempts"],
        "time_to_first_token_ms": row["first_token_ms"],
        "duration_ms": None if duration is None else round(duration.total_seconds() * 1000, 3),
        "created_at": time_text(row["created_at"]),
        "started_at": time_text(row["started_at"]),
        "ended_at": time_text(row["ended_at"]),
    }


def _prompt(request: str | None) -> Any:
    return None if request is None else orjson.loads(request).get("messages")


def _usage(row: dict[str, Any]) -> dict[str, int] | None:
    if row["input_tokens"] is None:
        return None
    return {name: row[name] or 0 for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")}


def _savings(row: dict[str, Any]) -> str | None:
    if row["cost_usd"] is None:
        return None
    full = row["cost_usd"] if row["list_cost_usd"] is None else row["list_cost_usd"]
    return money_text(full - row["cost_usd"])


def _error(row: dict[str, Any]) -> dict[str, Any] | None:
    if row["error_type"] is None:
        return None
    return _failure(row["error_type"], row["error_message"], row["provider_status"])


def failed_attempts(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls of a completion that failed before the one that decided it, oldest first."""
    return [
        {
            "provider": call.get("provider", row["provider"]),
            "model": call.get("model", row["model_called"] or row["model"]),
            "started_at": time_text(datetime.fromisoformat(call["started_at"])),
            "ended_at": time_text(datetime.fromisoformat(call["ended_at"])),
            "error": _failure(call["type"], call["message"], call["provider_status"]),
        }
        for call in row["failed_attempts"] or ()
    ]


def _failure(kind: str, message: str | None, provider_status: int | None) -> dict[str, Any]:
    try:
        retryable = FailureReason(kind).retryable
    except ValueError:
        # Written by another version of the service.
        retryable = False
    return {"type": kind, "message": message or "", "provider_status": provider_status, "retryable": retryable}
