"""Errors in Anthropic's form, with the statuses and headers that its package decides by whether to try again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from flask import Response
from werkzeug.exceptions import HTTPException

from app.errors import log_unexpected, nearest, nobody_serves, status_of, without_redis
from app.retry_hints import retry_hints
from app.telemetry import request_id
from core import errors
from core.idempotency import KeyInUse
from core.providers.from_anthropic_errors import TYPES, error_object
from core.providers.from_anthropic_errors import status_of as status_of_failure
from core.providers.from_anthropic_stream import error_event
from core.states import ProviderType


@dataclass(frozen=True, slots=True)
class _Kind:
    """A status, and what x-should-retry says; None leaves it to the status."""

    status: int
    retry: bool | None = None


_KINDS: dict[type[errors.ServiceError], _Kind] = {
    errors.InvalidInput: _Kind(400),
    errors.AddressRefused: _Kind(400),
    errors.Unauthenticated: _Kind(401),
    errors.NotFound: _Kind(404),
    # The package would repeat any 409; these do not change by themselves.
    errors.Conflict: _Kind(409, False),
    # The first request with the key goes on: its answer will be there.
    KeyInUse: _Kind(409, True),
    errors.NotYetAvailable: _Kind(400),
    errors.TooLarge: _Kind(413),
    errors.OverLimit: _Kind(429, True),
    errors.BudgetExhausted: _Kind(429, False),
    errors.BudgetReserved: _Kind(429, True),
    errors.Unavailable: _Kind(503, True),
}
#: Statuses of a provider's failure that another try may change.
_TRANSIENT = frozenset({429, 500, 503, 504, 529})
_UNEXPECTED = "The service failed; report it with the request id."


def of_service_error(error: errors.ServiceError) -> Response:
    """The answer to an error of the tree in core.errors."""
    kind = _kind(error)
    if kind is None:
        # Meant for the operator: its text is not for callers.
        return of_unexpected(error)
    hints = retry_hints(kind.retry, getattr(error, "retry_after_seconds", None))
    return _answer(kind.status, _message(error), hints, _details(error))


def of_http_exception(error: HTTPException) -> Response:
    """What werkzeug and Flask raise."""
    status = status_of(error)
    return of_unexpected(error) if status is None else _answer(status, error.description or error.name, {})


def of_redis_error(error: Exception) -> Response:
    """The answer when Redis is away."""
    return of_service_error(without_redis(error))


def of_unexpected(error: Exception) -> Response:
    """A fault of the service."""
    log_unexpected(error)
    return _answer(500, _UNEXPECTED, {})


def line(answered: str) -> bytes:
    """The event for a fault of the service in the stream of the request with the id `answered`."""
    return error_event(500, _UNEXPECTED, answered)


def of_stream(error: Exception, answered: str) -> bytes:
    """The event that ends the stream of the request with the id `answered` after `error`."""
    kind = _kind(error) if isinstance(error, errors.ServiceError) else None
    if kind is None or not isinstance(error, errors.ServiceError):
        return line(answered)
    return error_event(kind.status, _message(error), answered)


def _kind(error: errors.ServiceError) -> _Kind | None:
    if isinstance(error, errors.ProviderFailed):
        status = status_of_failure(error.reason, error.provider_status)
        return _Kind(status, status in _TRANSIENT)
    return _Kind(404) if nobody_serves(error) else nearest(_KINDS, error)


def _message(error: errors.ServiceError) -> str:
    """Every wrong field by its place, as messages.0.content, or the error's own words."""
    if isinstance(error, errors.InvalidInput) and error.errors:
        return "; ".join(_sentence(found) for found in error.errors)
    return error.detail


def _details(error: errors.ServiceError) -> dict[str, Any] | None:
    """What callers decide by beside status and type: Claude's own cause, and for the package's tool runner that it has
    to send whole conversations, for nothing is kept here between two requests."""
    if isinstance(error, errors.ProviderFailed):
        own = error.provider == ProviderType.ANTHROPIC and error.provider_code not in (None, *TYPES.values())
        return {"error_code": error.provider_code} if own else None
    if isinstance(error, errors.InvalidInput) and any(found.pointer == "/thread" for found in error.errors):
        return {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    return None


def _sentence(found: errors.FieldError) -> str:
    place = found.pointer.lstrip("/?").replace("/", ".")
    return f"{place}: {found.message}" if place else found.message


def _answer(status: int, message: str, headers: dict[str, str], details: dict[str, Any] | None = None) -> Response:
    body = orjson.dumps(error_object(status, message, request_id(), details))
    return Response(body, status, headers, mimetype="application/json")
