"""The values that pass between the platform and a provider's adapter: who is called, what came back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from core.states import FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call, in one convention for all providers.

    `input_tokens` is the whole prompt: it INCLUDES cached_tokens and both kinds of cache writes, as OpenAI
    counts (Anthropic's counters are added up). `output_tokens` includes reasoning_tokens.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """An answer: an OpenAI chat completion object, whichever provider gave it.

    `usage_reported` is False when the provider sent no token counts: `usage` is then zero and has to be estimated.
    """

    completion: dict[str, Any]
    usage: Usage
    model: str
    usage_reported: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """No answer, and why.

    `message` is the provider's own, secrets removed. `retry_after_seconds` is the provider's hint
    (retry-after-ms, then retry-after), None if it gave none. `should_retry` is its x-should-retry header, which
    overrides what the reason suggests. A stream that broke has in `usage` what was spent by then and in `partial`
    the completion object as far as it came.
    """

    reason: FailureReason
    message: str
    provider_status: int | None = None
    provider_code: str | None = None
    #: the field that is wrong, as the provider names it
    provider_param: str | None = None
    retry_after_seconds: float | None = None
    should_retry: bool | None = None
    usage: Usage | None = None
    partial: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReading:
    """What a provider's headers say of one limit: `kind` is requests, tokens, input_tokens or output_tokens.

    `limit` and `remaining` are counts per minute; `reset_seconds` is the time until the bucket is full again.
    """

    kind: str
    limit: int | None
    remaining: int | None
    reset_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRequest:
    """One HTTP call, ready to send but for the credential; `path` is joined to the connection's base URL."""

    path: str
    body: bytes
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
