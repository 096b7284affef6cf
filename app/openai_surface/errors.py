"""Errors in OpenAI's form, with the statuses and headers that its package decides by whether to try again."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import orjson
from flask import Response
from werkzeug.exceptions import HTTPException

from app.errors import log_unexpected, nearest, nobody_serves, status_of, without_redis
from app.retry_hints import retry_hints
from app.telemetry import request_id
from core import errors
from core.idempotency import KeyInUse
from core.providers.sse import event
from core.states import FailureReason, ProviderType

_WRONG_REQUEST = "invalid_request_error"
_INDEX = re.compile(r"/(\d+)(?=/|\Z)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """How an error is told (PROVIDERS.md 4.2). `retry`: what x-should-retry says; None leaves it to the status."""

    status: int
    type: str
    code: str | None = None
    retry: bool | None = None


_UNKNOWN_MODEL = _Kind(status=404, type=_WRONG_REQUEST, code="model_not_found")
_KINDS: dict[type[errors.ServiceError], _Kind] = {
    errors.InvalidInput: _Kind(status=400, type=_WRONG_REQUEST),
    errors.AddressRefused: _Kind(status=400, type=_WRONG_REQUEST),
    errors.Unauthenticated: _Kind(status=401, type=_WRONG_REQUEST, code="invalid_api_key"),
    errors.NotFound: _Kind(status=404, type=_WRONG_REQUEST),
    # The package would repeat any 409; these do not change by themselves.
    errors.Conflict: _Kind(status=409, type=_WRONG_REQUEST, retry=False),
    # The first request with the key goes on: its answer will be there.
    KeyInUse: _Kind(status=409, type=_WRONG_REQUEST, retry=True),
    errors.TooLarge: _Kind(status=413, type=_WRONG_REQUEST),
    errors.OverLimit: _Kind(status=429, type="rate_limit_error", code="rate_limit_exceeded", retry=True),
    errors.BudgetExhausted: _Kind(status=429, type="insufficient_quota", code="insufficient_quota", retry=False),
    errors.BudgetReserved: _Kind(status=429, type="rate_limit_error", code="rate_limit_exceeded", retry=True),
    errors.Unavailable: _Kind(status=503, type="server_error", retry=True),
}
_FAILURES: dict[str, _Kind] = {
    FailureReason.NETWORK: _Kind(status=502, type="server_error"),
    FailureReason.TIMEOUT: _Kind(status=504, type="server_error"),
    FailureReason.RATE_LIMITED: _Kind(status=429, type="rate_limit_error", code="rate_limit_exceeded", retry=True),
    FailureReason.OVERLOADED: _Kind(status=503, type="server_error", code="server_is_overloaded", retry=True),
    FailureReason.PROVIDER_ERROR: _Kind(status=500, type="server_error", retry=True),
    FailureReason.INVALID_RESPONSE: _Kind(status=502, type="server_error"),
    FailureReason.INVALID_REQUEST: _Kind(status=400, type=_WRONG_REQUEST),
    FailureReason.MODEL_NOT_FOUND: _UNKNOWN_MODEL,
    FailureReason.REQUEST_TOO_LARGE: _Kind(status=400, type=_WRONG_REQUEST, code="context_length_exceeded"),
    FailureReason.ADDRESS_REFUSED: _Kind(status=400, type=_WRONG_REQUEST),
    FailureReason.AUTHENTICATION: _Kind(status=401, type=_WRONG_REQUEST, code="invalid_api_key"),
    FailureReason.PERMISSION: _Kind(status=403, type=_WRONG_REQUEST, code="permission_denied"),
    # Repeating it is of no use, whatever its status suggests.
    FailureReason.QUOTA_EXHAUSTED: _Kind(status=429, type="insufficient_quota", code="insufficient_quota", retry=False),
    FailureReason.NOT_CONFIGURED: _UNKNOWN_MODEL,
}
_TOO_LARGE = _Kind(status=413, type=_WRONG_REQUEST)
#: Failures of which OpenAI's own code and field are passed on, and what is no code of theirs.
_WRONG = frozenset({FailureReason.INVALID_REQUEST, FailureReason.REQUEST_TOO_LARGE})
_NO_CODES = frozenset({None, _WRONG_REQUEST})
_SERVER_ERROR = _Kind(status=500, type="server_error")


def of_service_error(error: errors.ServiceError) -> Response:
    """The answer to an error of the tree in core.errors."""
    kind = _kind(error)
    if kind is None:
        # Meant for the operator: its text is not for callers.
        return of_unexpected(error)
    message, param = error.detail, getattr(error, "provider_param", None)
    if isinstance(error, errors.InvalidInput) and error.errors:
        param = _param(error.errors[0].pointer)
        message = "; ".join(_sentence(found) for found in error.errors)
    seconds = getattr(error, "retry_after_seconds", None)
    return _answer(kind, message, param, seconds)


def of_http_exception(error: HTTPException) -> Response:
    """What werkzeug and Flask raise."""
    status = status_of(error)
    if status is None:
        return of_unexpected(error)
    kind = _Kind(status=status, type=_WRONG_REQUEST)
    return _answer(kind, error.description or error.name, None, None)


def of_redis_error(error: Exception) -> Response:
    """The answer when Redis is away."""
    return of_service_error(without_redis(error))


def of_unexpected(error: Exception) -> Response:
    """A fault of the service."""
    log_unexpected(error)
    return _answer(_SERVER_ERROR, f"The service failed; report it with the request id {request_id()}.", None, None)


def line(error: Exception) -> bytes:
    """The event that ends a stream which failed after it had begun."""
    kind = _kind(error) if isinstance(error, errors.ServiceError) else None
    message = error.detail if kind is not None and isinstance(error, errors.ServiceError) else "The service failed."
    kind = kind or _SERVER_ERROR
    return event({"error": {"message": message, "type": kind.type, "param": None, "code": kind.code}})


def _kind(error: errors.ServiceError) -> _Kind | None:
    if isinstance(error, errors.ProviderFailed):
        return _of_failure(error)
    return _UNKNOWN_MODEL if nobody_serves(error) else nearest(_KINDS, error)


def _of_failure(error: errors.ProviderFailed) -> _Kind:
    """How a provider's refusal is told: of a wrong request, its own code says more than ours."""
    if error.provider_status == 413:
        return _TOO_LARGE
    kind = _FAILURES.get(error.reason, _SERVER_ERROR)
    own = error.provider != ProviderType.ANTHROPIC and error.provider_code not in _NO_CODES
    if own and error.reason in _WRONG and error.provider_status in (400, 422):
        return replace(kind, code=error.provider_code)
    return kind


def _answer(kind: _Kind, message: str, param: str | None, retry_after_seconds: float | None) -> Response:
    headers = retry_hints(kind.retry, retry_after_seconds)
    body = {"error": {"message": message, "type": kind.type, "param": param, "code": kind.code}}
    return Response(orjson.dumps(body), kind.status, headers, mimetype="application/json")


def _param(pointer: str) -> str | None:
    """A JSON pointer (or `?name`) as OpenAI names fields: messages[0].content."""
    return _INDEX.sub(r"[\1]", pointer).lstrip("/?").replace("/", ".") or None


def _sentence(found: errors.FieldError) -> str:
    name = _param(found.pointer)
    return found.message if name is None or found.pointer == "/model" else f"{name}: {found.message}"
