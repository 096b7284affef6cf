"""Reasons why there is no answer, as Anthropic's statuses and error types (PROVIDERS.md 4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.states import FailureReason

#: status -> error.type
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}

_STATUSES = {
    FailureReason.TIMEOUT: 504,
    FailureReason.RATE_LIMITED: 429,
    FailureReason.OVERLOADED: 529,
    FailureReason.INVALID_REQUEST: 400,
    FailureReason.REQUEST_TOO_LARGE: 400,
    FailureReason.ADDRESS_REFUSED: 400,
    FailureReason.NOT_CONFIGURED: 400,
    FailureReason.MODEL_NOT_FOUND: 404,
    # The provider's key is the project's, not the caller's: a 401 would send the caller looking at his own.
    FailureReason.AUTHENTICATION: 403,
    FailureReason.PERMISSION: 403,
    FailureReason.QUOTA_EXHAUSTED: 402,
    FailureReason.COST_LIMIT: 402,
}


def status_of(reason: str, provider_status: int | None = None) -> int:
    """The status that Anthropic answers with for a FailureReason's value; 500 for what it has none for."""
    if provider_status == 413:
        return 413
    try:
        return _STATUSES.get(FailureReason(reason), 500)
    except ValueError:
        return 500


def error_object(
    status: int, message: str, request_id: str | None, details: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The error envelope. `details`: what the vendor's package decides by, beyond status and type."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    error: dict[str, Any] = {"type": kind, "message": message}
    if details:
        error["details"] = dict(details)
    return {"type": "error", "error": error, "request_id": request_id}
