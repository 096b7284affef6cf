"""Anthropic's manners, whatever the route: keys, version, errors, rate-limit headers (PROVIDERS.md 1.3, 4.3, 4.4)."""

from __future__ import annotations

import math
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from simulator.limits import Allowance, Bucket, Refused
from simulator.prompt import Refusal

if TYPE_CHECKING:
    from simulator.config import Fault, Limit

VERSIONS = (b"2023-06-01", b"2026-10-21")
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    408: "timeout_error",
    500: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
#: kind of fault -> message, error.details.error_code
_FAULTS = {
    "400": ("The request could not be processed.", None),
    "401": ("invalid x-api-key", None),
    "402": ("There is a problem with your payment.", None),
    "403": ("Your API key may not use this resource.", None),
    "408": ("The request timed out.", None),
    "409": ("The request conflicts with another one.", None),
    "413": ("Request exceeds the maximum size", None),
    "422": ("The request cannot be processed.", None),
    "429": ("This request would exceed your rate limit.", None),
    "429_no_hint": ("This request would exceed your rate limit.", None),
    "slow_down": ("Usage rose too fast. Please ramp up slowly.", "ramp_limit_exceeded"),
    "quota": ("The spend limit of this organization has been reached.", "enforced_spend_limit_reached"),
    "500": ("Internal server error", None),
    "503": ("The service is unavailable.", None),
    "504": ("The request took too long.", None),
    "529": ("Overloaded", None),
    "context_length": ("prompt is too long: 1000123 tokens > 1000000 maximum", None),
}


def key_of(headers: dict[bytes, bytes], valid: frozenset[str] | None) -> str:
    """The key from x-api-key, or else the bearer token. Raises Refusal (401)."""
    key = headers.get(b"x-api-key", b"").decode("latin-1").strip()
    if not key:
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else ""
    if not key:
        raise Refusal(401, "x-api-key header is required")
    if (key not in valid) if valid is not None else ("invalid" in key):
        raise Refusal(401, "invalid x-api-key")
    return key


def check_version(headers: dict[bytes, bytes]) -> None:
    """anthropic-version is required and one of the two known. Raises Refusal (400)."""
    version = headers.get(b"anthropic-version")
    if version is None:
        raise Refusal(400, "anthropic-version: header is required")
    if version not in VERSIONS:
        raise Refusal(400, f"anthropic-version: '{version.decode('latin-1')}' is not a valid version")


def error_body(refusal: Refusal, request_id: str | None) -> bytes:
    """The error object as JSON, with the request id and, where there is one, the stable cause in details."""
    error: dict[str, Any] = {
        "type": refusal.type or _TYPES.get(refusal.status, "api_error"),
        "message": refusal.message,
    }
    if refusal.code:
        error["details"] = {"error_code": refusal.code}
    return orjson.dumps({"type": "error", "error": error, "request_id": request_id})


def fault(rule: Fault, kind: str, model: str, key: str) -> Refusal:
    """The error of a fault rule."""
    if kind == "404":
        refusal = unknown_model(model)
    else:
        message, code = _FAULTS[kind]
        status = int(kind) if kind.isdigit() else 400 if kind == "context_length" else 429
        refusal = Refusal(status, message, code=code)
    refusal.code = rule.code or refusal.code
    refusal.message = rule.message or refusal.message
    return refusal


def unknown_model(model: str) -> Refusal:
    return Refusal(404, f"model: {model}")


def unknown_path(method: str, path: str) -> Refusal:
    return Refusal(404, f"Not found: {method} {path}")


def over_limit(refused: Refused, model: str) -> Refusal:
    """The 429 of a call that was not admitted."""
    if refused.resource == "concurrency":
        return Refusal(429, "Number of concurrent connections has exceeded your rate limit.")
    unit = {"requests": "requests", "input": "input tokens", "output": "output tokens"}.get(refused.resource, "tokens")
    message = f"This request would exceed your organization's rate limit of {refused.limit:.0f} {unit} per minute"
    return Refusal(429, f"{message} (model: {model}).")


def wait_headers(refused: Refused, limit: Limit) -> bytes:
    """retry-after in whole seconds, rounded up."""
    if not limit.hints or refused.wait_seconds is None:
        return b""
    return b"retry-after: %d\r\n" % max(1, math.ceil(refused.wait_seconds))


def limit_headers(allowance: Allowance, now: float) -> bytes:
    """The anthropic-ratelimit families, counted at loop time `now`."""
    wall = time.time()
    requests, given, made = allowance.requests, allowance.input, allowance.output
    for bucket in (requests, given, made):
        bucket.refill(now)
    tightest = min(given, made, key=lambda bucket: bucket.per_minute)
    hints = allowance.limit.hints
    return (
        _family("requests", requests, wall, 1, hints)
        + _family("tokens", tightest, wall, 1000, hints)
        + _family("input-tokens", given, wall, 1000, hints)
        + _family("output-tokens", made, wall, 1000, hints)
    ).encode()


def _family(name: str, bucket: Bucket, wall: float, step: int, hints: bool) -> str:
    # Rounding to thousands hides a small bucket's state altogether, so it only begins where it is small change.
    level = max(0, int(bucket.level))
    left = int(round(level / step) * step) if bucket.per_minute >= 10 * step else level
    text = (
        f"anthropic-ratelimit-{name}-limit: {bucket.per_minute:.0f}\r\nanthropic-ratelimit-{name}-remaining: {left}\r\n"
    )
    if hints:
        text += f"anthropic-ratelimit-{name}-reset: {rfc3339(math.ceil(wall + bucket.until_full()))}\r\n"
    return text


@lru_cache(maxsize=1024)
def rfc3339(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def answer_headers(request_id: str, seconds: float) -> bytes:
    """What every answer carries."""
    return f"request-id: {request_id}\r\nanthropic-organization-id: org-simulator\r\n".encode()
