"""What the name of an unlisted model lets expect: old models keep working, new ones are sent nothing unasked."""

from __future__ import annotations

import re
from typing import Any

from core.catalogue.record import ModelInfo, Support, openai_version

#: o1-pro, gpt-5-codex, gpt-5.1-codex-max: reasoning models that answer on /v1/responses only (PROVIDERS.md 2.7)
_RESPONSES_ONLY = re.compile(r"-(?:pro|codex)(?:-|$)")
_O_SERIES = re.compile(r"(?:ft:)?o\d+(?:-|$)")
#: claude-3-5-sonnet-20241022, claude-opus-4-1-20250805, claude-sonnet-4-20250514, claude-2.1
_CLAUDE_OLD_STYLE = re.compile(r"claude-(?:instant|[123](?:[.-]|$))")
_CLAUDE_NEW_STYLE = re.compile(r"claude-[a-z]+-(\d+)(?:-(\d{1,2}))?(?:-|$)")

#: the most a model of the old families writes in one answer; longest prefix first
_OLD_OUTPUT_LIMITS = (
    ("gpt-4-turbo", 4_096),
    ("gpt-4-1106", 4_096),
    ("gpt-4-0125", 4_096),
    ("gpt-4-32k", 32_768),
    ("gpt-4.1-nano", 32_768),
    ("gpt-4.5", 16_384),
    ("gpt-4-", 8_192),
    ("gpt-3.5", 4_096),
    ("chatgpt-4o", 16_384),
    ("claude-opus-4-", 32_000),
    ("claude-sonnet-4-", 64_000),
    ("claude-3-7", 64_000),
    ("claude-3-5", 8_192),
    ("claude-", 4_096),
)


def guess(model: str, provider: str) -> ModelInfo:
    """A record for a model that the catalogue does not list, served by `provider`. Refuses nothing.

    Sampling parameters are ALWAYS for families known to take them, UNKNOWN where a newer family might not: then the
    default temperature is left out and the caller's own is passed on.
    """
    found: dict[str, Any] = {"id": model, "name": model, "provider": provider, "known": False}
    if _O_SERIES.match(model) or openai_version(model.removeprefix("ft:")) >= (5, 0):
        if provider == "openai" and _RESPONSES_ONLY.search(model):
            found["endpoints"] = frozenset({"responses"})
        return ModelInfo(**found, reasoning=True, accepts_max_tokens=provider == "openai_compatible")
    if model.startswith("claude-"):
        return ModelInfo(**found, **_claude(model))
    return ModelInfo(**found, sampling=Support.ALWAYS, max_output_tokens=_output_limit(model, provider))


def _claude(model: str) -> dict[str, Any]:
    newer = _CLAUDE_NEW_STYLE.match(model)
    version = (int(newer[1]), int(newer[2] or 0)) if newer else (99, 0)
    if _CLAUDE_OLD_STYLE.match(model) or version <= (4, 5):
        return {
            "sampling": Support.ALWAYS,
            "sampling_exclusive": True,
            "thinking": "enabled+budget_tokens",
            "max_output_tokens": _output_limit(model, "anthropic"),
        }
    if version <= (4, 6):
        return {"sampling": Support.ALWAYS, "thinking": "adaptive_or_enabled"}
    return {"sampling": Support.UNKNOWN, "thinking": "adaptive_or_disabled", "effort_levels": _EFFORTS}


_EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})


def _output_limit(model: str, provider: str) -> int | None:
    if provider == "openai_compatible":
        return None
    # A bare name counts as its own family: "gpt-4" is "gpt-4-".
    named = model + "-"
    return next((limit for prefix, limit in _OLD_OUTPUT_LIMITS if named.startswith(prefix)), None)
