"""The border where errors become RFC 9457 problem details: one place, once, the same form for every route of ours."""

from __future__ import annotations

from typing import Any

import orjson
import redis.exceptions
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from app.errors import log_unexpected, nearest, status_of, without_redis
from app.retry_hints import retry_hints
from app.telemetry import request_id
from core import errors
from core.idempotency import KeyInUse
from core.states import Action, FailureReason

#: `type` is this and the problem's own name; it identifies the kind, there is nothing to fetch.
TYPE_PREFIX = "urn:llm-service:problem:"
#: Seconds after which it is worth asking again for results of a batch that still runs.
RESULTS_RETRY_SECONDS = 5

#: class -> (status, name, title); a subclass is answered like its nearest listed parent
_KINDS: dict[type[errors.ServiceError], tuple[int, str, str]] = {
    errors.InvalidInput: (400, "invalid-request", "The request is not valid"),
    errors.AddressRefused: (400, "address-refused", "The address is not allowed"),
    errors.Unauthenticated: (401, "unauthenticated", "The keys are missing or not valid"),
    errors.NotFound: (404, "not-found", "There is no such resource"),
    errors.Conflict: (409, "conflict", "The resource is not in a state that allows this"),
    errors.TooLarge: (413, "too-large", "The request is over a limit"),
    errors.NotYetAvailable: (425, "results-not-yet-available", "The batch has not ended yet"),
    errors.OverLimit: (429, "over-limit", "Too many requests"),
    errors.BudgetExhausted: (429, "budget-exhausted", "The project's budget has no room for this"),
    errors.ProviderFailed: (500, "provider-error", "The provider did not answer the request"),
    errors.Unavailable: (503, "unavailable", "A part of the service is not available"),
}

_HTTP_NAMES = {
    400: "invalid-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    429: "over-limit",
    503: "unavailable",
}


def register(app: Flask) -> None:
    """Answer every error of `app` with problem details; a blueprint with handlers of its own keeps them."""
    app.register_error_handler(errors.ServiceError, of_service_error)
    app.register_error_handler(redis.exceptions.RedisError, _of_redis_error)
    app.register_error_handler(HTTPException, _of_http_exception)
    app.register_error_handler(Exception, _of_unexpected)


def problem(
    status: int, name: str, title: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any
) -> Response:
    """A problem details answer; `members` are the extension members of this kind."""
    body = {
        "type": TYPE_PREFIX + name,
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": request_id(),
        **members,
    }
    return Response(orjson.dumps(body), status, headers, mimetype="application/problem+json")


def of_service_error(error: errors.ServiceError) -> Response:
    """The answer to an error of the tree in core.errors."""
    kind = nearest(_KINDS, error)
    if kind is None:
        # Meant for the operator: its text is not for callers.
        return _of_unexpected(error)
    status, name, title = kind
    headers: dict[str, str] = {}
    members: dict[str, Any] = {}
    match error:
        case errors.InvalidInput():
            # What is wrong with the request as a whole has the pointer of all of it.
            members["errors"] = [found.as_dict() for found in error.errors or [errors.FieldError("", error.detail)]]
        case errors.Unauthenticated():
            scheme = "Bearer" if request.path.startswith("/v1/admin/") else "ApiKey"
            headers["WWW-Authenticate"] = f'{scheme} realm="llm-service"'
        case errors.NotYetAvailable():
            headers["Retry-After"] = str(RESULTS_RETRY_SECONDS)
        case errors.Conflict():
            # The first request with an idempotency key goes on: its answer will be there. Others stay as they are.
            headers = retry_hints(isinstance(error, KeyInUse), None)
        case errors.BudgetExhausted() if not isinstance(error, errors.BudgetReserved):
            # It says when the next period begins; no package should wait for that by itself.
            headers = retry_hints(None, error.retry_after_seconds) | retry_hints(False, None)
        case errors.OverLimit() | errors.Unavailable():
            headers = retry_hints(True, error.retry_after_seconds)
        case errors.ProviderFailed():
            headers = retry_hints(FailureReason(error.reason).action is Action.RETRY, error.retry_after_seconds)
            members = {
                "provider": error.provider,
                "provider_status": error.provider_status,
                "reason": error.reason,
            }
    return problem(status, name, title, error.detail, headers=headers, **members)


def field_errors(messages: Any, pointer: str = "") -> list[errors.FieldError]:
    """marshmallow's nested messages as a flat list; from the pointer `?`, names of query parameters."""
    if isinstance(messages, dict):
        found = []
        for name, inner in messages.items():
            if name == "_schema" or (isinstance(name, int) and pointer.startswith("?")):
                # An item of a list in the query has no pointer of its own.
                at = pointer
            else:
                at = f"?{name}" if pointer == "?" else f"{pointer}/{name}"
            found += field_errors(inner, at)
        return found
    texts = messages if isinstance(messages, list) else [messages]
    return [errors.FieldError(pointer, str(text).rstrip(".")) for text in texts]


def _of_redis_error(error: redis.exceptions.RedisError) -> Response:
    return of_service_error(without_redis(error))


def _of_http_exception(error: HTTPException) -> Response:
    """What werkzeug and Flask raise: no such route, wrong method, a body cut short."""
    status = status_of(error)
    if status is None:
        return _of_unexpected(error)
    headers: dict[str, str] = {}
    if status == 405:
        headers["Allow"] = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
    detail = error.description or error.name
    if status == 404:
        detail = "There is no such route or resource; /openapi.json lists what there is."
    members: dict[str, Any] = {"errors": [errors.FieldError("", detail).as_dict()]} if status == 400 else {}
    return problem(status, _HTTP_NAMES.get(status, "http-error"), error.name, detail, headers=headers, **members)


def _of_unexpected(error: Exception) -> Response:
    """A fault of the service."""
    log_unexpected(error)
    return problem(500, "internal-error", "The service failed", "An unexpected error; report it with the request id.")
