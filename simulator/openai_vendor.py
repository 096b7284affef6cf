"""OpenAI's manners, whatever the route: keys, error bodies, rate-limit headers (PROVIDERS.md 1.1, 4.1, 4.2, 4.4)."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import orjson

from simulator.limits import Allowance, Refused
from simulator.prompt import Refusal

if TYPE_CHECKING:
    from simulator.config import Fault, Limit

_TYPES = {500: "server_error", 503: "server_error", 504: "server_error", 529: "server_error", 429: "rate_limit_error"}
#: status -> (message, code), for errors that a fault rule asks for
_FAULTS = {
    "400": ("The request could not be processed.", "invalid_value"),
    "402": ("Insufficient balance.", None),
    "403": ("Your project is not allowed to use this model.", None),
    "408": ("The request timed out.", None),
    "409": ("The request conflicts with another one.", None),
    "413": ("The request body is too large.", None),
    "422": ("The request cannot be processed.", None),
    "429": ("Rate limit reached. Please try again later.", "rate_limit_exceeded"),
    "429_no_hint": ("Rate limit reached. Please try again later.", "rate_limit_exceeded"),
    "slow_down": ("The rate of requests rose too fast. Please slow down.", "slow_down"),
    "quota": ("You exceeded your current quota, please check your plan and billing details.", "insufficient_quota"),
    "500": ("The server had an error while processing your request", None),
    "503": ("The server is currently overloaded. Please try again later.", "server_is_overloaded"),
    "504": ("The upstream did not answer in time.", None),
    "529": ("Overloaded.", None),
    "context_length": ("The prompt exceeds this model's context window.", "context_length_exceeded"),
}


def masked(key: str) -> str:
    """A key as an error message may show it."""
    return f"{key[:4]}***{key[-2:]}" if len(key) > 8 else "***"


def key_of(headers: dict[bytes, bytes], valid: frozenset[str] | None) -> str:
    """The bearer token. Raises Refusal (401) if there is none or it is not accepted."""
    scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise Refusal(401, "No API key was given: send it as 'Authorization: Bearer <key>'.", code=None)
    if (key not in valid) if valid is not None else ("invalid" in key):
        raise Refusal(401, f"Incorrect API key provided: {masked(key)}.", code="invalid_api_key")
    return key


def error_body(refusal: Refusal, request_id: str) -> bytes:
    """The error object as JSON; the request id travels in a header only."""
    kind = refusal.type or _TYPES.get(refusal.status, "invalid_request_error")
    return orjson.dumps(
        {"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}}
    )


def fault(rule: Fault, kind: str, model: str, key: str) -> Refusal:
    """The error of a fault rule."""
    if kind == "401":
        refusal = Refusal(401, f"Incorrect API key provided: {masked(key)}.", code="invalid_api_key")
    elif kind == "404":
        refusal = unknown_model(model)
    else:
        message, code = _FAULTS[kind]
        status = int(kind) if kind.isdigit() else 400 if kind == "context_length" else 429
        kind_of_error = "insufficient_quota" if kind == "quota" else None
        param = "messages" if kind == "context_length" else None
        refusal = Refusal(status, message, type=kind_of_error, param=param, code=code)
    refusal.code = rule.code or refusal.code
    refusal.message = rule.message or refusal.message
    return refusal


def unknown_model(model: str) -> Refusal:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return Refusal(404, message, code="model_not_found")


def unknown_path(method: str, path: str) -> Refusal:
    return Refusal(404, f"Invalid URL ({method} {path})")


def over_limit(refused: Refused, model: str) -> Refusal:
    """The 429 of a call that was not admitted."""
    if refused.resource == "concurrency":
        return Refusal(
            429, f"Too many concurrent requests for {model}: limit {refused.limit:.0f}.", code="rate_limit_exceeded"
        )
    name, unit = ("requests", "RPM") if refused.resource == "requests" else ("tokens", "TPM")
    figures = f"Limit {refused.limit:.0f}, Used {max(0, refused.used):.0f}, Requested {refused.requested:.0f}."
    where = f"{model} in organization org-simulator on {name} per min ({unit})"
    if refused.wait_seconds is None:
        message = f"Request too large for {where}: {figures}"
    else:
        message = f"Rate limit reached for {where}: {figures} Please try again in {duration(refused.wait_seconds)}."
    return Refusal(429, message, type=name, code="rate_limit_exceeded")


def wait_headers(refused: Refused, limit: Limit) -> bytes:
    """retry-after (whole seconds, at least 1) and retry-after-ms (exact) of an honest 429."""
    if not limit.hints or refused.wait_seconds is None:
        return b""
    wait = refused.wait_seconds
    return b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (max(1, math.ceil(wait)), max(1, math.ceil(wait * 1000)))


def limit_headers(allowance: Allowance, now: float) -> bytes:
    """The x-ratelimit family, counted at loop time `now`."""
    requests, tokens = allowance.requests, allowance.tokens
    requests.refill(now)
    tokens.refill(now)
    text = (
        f"x-ratelimit-limit-requests: {requests.per_minute:.0f}\r\n"
        f"x-ratelimit-limit-tokens: {tokens.per_minute:.0f}\r\n"
        f"x-ratelimit-remaining-requests: {max(0, int(requests.level))}\r\n"
        f"x-ratelimit-remaining-tokens: {max(0, int(tokens.level))}\r\n"
    )
    if allowance.limit.hints:
        text += (
            f"x-ratelimit-reset-requests: {duration(requests.until_full())}\r\n"
            f"x-ratelimit-reset-tokens: {duration(tokens.until_full())}\r\n"
        )
    return text.encode()


def duration(seconds: float) -> str:
    """A Go duration, rounded up to milliseconds: 1s, 20ms, 6m0s, 2m59.56s, 1h2m3s."""
    millis = math.ceil(seconds * 1000 - 1e-6)
    if millis < 1000:
        return f"{max(0, millis)}ms" if millis > 0 else "0s"
    minutes, rest = divmod(millis, 60_000)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if not minutes:
        return text
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"


def answer_headers(request_id: str, seconds: float) -> bytes:
    """What every answer carries."""
    return (
        f"x-request-id: {request_id}\r\nopenai-version: 2020-10-01\r\nopenai-organization: org-simulator\r\n"
        f"openai-processing-ms: {int(seconds * 1000)}\r\n"
    ).encode()


def now_seconds() -> int:
    return int(time.time())
