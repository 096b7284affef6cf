"""Why a provider refused: its status and error body, read whatever their shape, mapped onto our closed reasons."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from core.providers.headers import header, retry_after_seconds
from core.providers.types import Failure
from core.states import FailureReason

#: the longest provider message we keep
MESSAGE_CHARS = 1000

# PROVIDERS.md 4.2 and 4.3: terminal codes, whatever the status they come with.
_QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
    }
)
_PERMISSION_CODES = frozenset({"organization_on_hold", "cmek_key_disabled"})
_TOO_LARGE_CODES = frozenset(
    {
        "context_length_exceeded",
        "string_above_max_length",
        "request_too_large",
        "request_body_too_large_after_decoding",
        "image_dimensions_too_large",
    }
)
_CAPACITY_CODES = frozenset({"server_is_overloaded", "overloaded_error", "resource_unavailable", "flex_unavailable"})

_BY_STATUS = {
    401: FailureReason.AUTHENTICATION,
    402: FailureReason.QUOTA_EXHAUSTED,
    403: FailureReason.PERMISSION,
    404: FailureReason.MODEL_NOT_FOUND,
    408: FailureReason.TIMEOUT,
    409: FailureReason.PROVIDER_ERROR,
    413: FailureReason.REQUEST_TOO_LARGE,
    425: FailureReason.PROVIDER_ERROR,
    429: FailureReason.RATE_LIMITED,
    498: FailureReason.OVERLOADED,
    503: FailureReason.OVERLOADED,
    504: FailureReason.TIMEOUT,
    524: FailureReason.TIMEOUT,
    529: FailureReason.OVERLOADED,
}

# An error inside a 200 or a stream has no status of its own: its type says which one it would have had.
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "requests": 429,
    "tokens": 429,
    "server_error": 500,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}

_SECRETS = re.compile(
    r"\b(?:sk|gsk|xai|pplx|r8|nvapi|hf|AIza)[-_][A-Za-z0-9_.*\-]{6,}"
    r"|(?i:\bbearer\s+(?!tokens?\b|auth(?:entication|orization)?\b)[^\s\"',;]{6,})"
    r"|(?i:\b(?:x-api-key|api-key|authorization)\"?\s*[:=]\s*\"?(?:bearer\s+)?[^\s\"',;]{6,})"
)


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What an error body says, reduced to the fields that vendors share; empty strings where it says nothing."""

    message: str = ""
    type: str = ""
    code: str = ""
    param: str = ""


def scrub(text: str, secret: str | None = None) -> str:
    """`text` without `secret` and without anything that looks like a key, at most MESSAGE_CHARS long.

    NUL is replaced too: Postgres refuses it in text.
    """
    text = text[: 4 * MESSAGE_CHARS]
    if secret and len(secret) >= 4:
        text = text.replace(secret, "****")
    text = _SECRETS.sub("****", text).replace("\x00", "\ufffd").strip()
    return text if len(text) <= MESSAGE_CHARS else text[: MESSAGE_CHARS - 1] + "…"


def read_error(found: object) -> ErrorBody:
    """The error in a decoded answer: wrapped in `error`, bare, a `detail`, or a string. Never raises."""
    if not isinstance(found, dict):
        return ErrorBody(message=found if isinstance(found, str) else "")
    error = found.get("error")
    if isinstance(error, str):
        return ErrorBody(message=error, type=_text(found.get("type")), code=_text(found.get("code")))
    if not isinstance(error, dict):
        error = found
    details = error.get("details")
    code = _text(details.get("error_code")) if isinstance(details, dict) else ""
    message = error.get("message")
    if not isinstance(message, str) or not message:
        message = _detail(error.get("detail")) or _detail(message)
    return ErrorBody(
        message=message,
        type=_text(error.get("type")),
        code=code or _text(error.get("code")),
        param=_text(error.get("param")),
    )


def _text(value: object) -> str:
    """A code as text: compatible servers send numbers."""
    if isinstance(value, str):
        return value[:100]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**9 else ""


def _detail(value: object) -> str:
    if isinstance(value, str):
        return value
    if not value:
        return ""
    try:
        return orjson.dumps(value).decode()[: 4 * MESSAGE_CHARS]
    except (TypeError, ValueError, RecursionError):
        return ""


def classify(status: int, error: ErrorBody) -> FailureReason:
    """The reason behind a status and an error body (PROVIDERS.md 4.2, 4.3 and 4.5).

    The codes decide before the status: a 429 can be terminal, and a model that the key's project may not use is a
    403 that concerns one model, not the key. `status` is 200 for an error inside a stream or a 200.
    """
    code, kind = error.code, error.type
    if status < 400:
        status = _STATUS_OF_TYPE.get(kind) or _STATUS_OF_TYPE.get(code) or (int(code) if code.isdecimal() else 500)
    if code in _QUOTA_CODES or kind in _QUOTA_CODES or "credit balance is too low" in error.message:
        return FailureReason.QUOTA_EXHAUSTED
    if code == "invalid_api_key":
        return FailureReason.AUTHENTICATION
    if code in _PERMISSION_CODES:
        return FailureReason.PERMISSION
    if status < 500:
        if code in ("model_not_found", "DeploymentNotFound"):
            return FailureReason.MODEL_NOT_FOUND
        if code in _TOO_LARGE_CODES or kind in _TOO_LARGE_CODES or _never_fits(status, error.message):
            return FailureReason.REQUEST_TOO_LARGE
    if code in _CAPACITY_CODES or kind in _CAPACITY_CODES:
        return FailureReason.OVERLOADED
    found = _BY_STATUS.get(status)
    if found is not None:
        return found
    if 400 <= status < 500:
        return FailureReason.INVALID_REQUEST
    return FailureReason.PROVIDER_ERROR if status >= 500 else FailureReason.INVALID_RESPONSE


def _never_fits(status: int, message: str) -> bool:
    """Two cases that only the message tells apart: they carry a code that other cases share, or none."""
    if status == 429:
        return message.startswith("Request too large")
    return status == 400 and message.startswith("prompt is too long")


def failure(
    status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None, now: float | None = None
) -> Failure:
    """The Failure of an answer that is not a success. Never raises. `now`: Unix time, for an HTTP date."""
    error = read_error(_loads(body))
    if 300 <= status < 400:
        message = "the provider answered with a redirect; check the connection's base URL"
    else:
        message = scrub(error.message, secret) or _describe(status, body)
    should_retry = header(headers, "x-should-retry")
    return Failure(
        reason=FailureReason.INVALID_RESPONSE if 300 <= status < 400 else classify(status, error),
        message=message,
        provider_status=status,
        provider_code=scrub(error.code or error.type, secret) or None,
        provider_param=scrub(error.param, secret) or None,
        retry_after_seconds=retry_after_seconds(headers, now=now),
        should_retry={"true": True, "false": False}.get((should_retry or "").strip().lower()),
    )


def failure_inside(found: Mapping[str, Any], status: int, *, secret: str | None = None) -> Failure:
    """The Failure of a decoded body or stream event that carries an error although its status is a success."""
    error = read_error(found)
    return Failure(
        reason=classify(status, error),
        message=scrub(error.message, secret) or "the provider reported an error without a message",
        provider_status=status,
        provider_code=scrub(error.code or error.type, secret) or None,
        provider_param=scrub(error.param, secret) or None,
    )


def unreadable(status: int, what: str) -> Failure:
    """The Failure of an answer that claims success and is not one."""
    return Failure(reason=FailureReason.INVALID_RESPONSE, message=what, provider_status=status)


def _loads(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def _describe(status: int, body: bytes) -> str:
    """A message for an error body that has none: an intermediary's page, nothing, or something unknown."""
    start = body[:200].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<head")):
        return f"the provider answered {status} with an HTML page"
    if not start:
        return f"the provider answered {status} with an empty body"
    return f"the provider answered {status} without a readable error"
