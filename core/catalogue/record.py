"""The record of one model: its limits and what it takes, as one frozen value that every adapter reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Support(StrEnum):
    """Whether a model takes a feature. UNKNOWN: send it when the caller gave it, never on our own account."""

    ALWAYS = "always"
    EFFORT_NONE = "effort_none"
    NEVER = "never"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """One model as its provider's documentation describes it (PROVIDERS.md 2.7, 2.8 and models.json)."""

    #: what the caller wrote, without a provider prefix
    id: str
    #: the catalogue's entry, or the id itself
    name: str
    provider: str
    #: False: guessed from the family's name, and nothing is refused on the strength of it
    known: bool
    context_tokens: int | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    endpoints: frozenset[str] = frozenset()
    batch_supported: bool = False
    snapshot: str | None = None
    #: YYYY-MM-DD
    shutdown_date: str | None = None
    reasoning: bool = False
    #: temperature, top_p, top_k, logprobs
    sampling: Support = Support.UNKNOWN
    #: temperature and top_p exclude each other
    sampling_exclusive: bool = False
    #: stop, penalties, logit_bias
    accepts_stop: bool = True
    #: function tools on Chat Completions
    chat_tools: Support = Support.ALWAYS
    #: False: max_tokens must be spelt max_completion_tokens
    accepts_max_tokens: bool = True
    refused_efforts: frozenset[str] = frozenset()
    default_effort: str | None = None
    #: Claude: adaptive_always_on, adaptive_or_disabled, adaptive_or_enabled, enabled+budget_tokens
    thinking: str | None = None
    #: Claude: values of output_config.effort; empty if the field is refused
    effort_levels: frozenset[str] = frozenset()
    forced_tool_choice: bool = True
    assistant_prefill: bool = True
    mid_conversation_system: bool = False
    min_cacheable_tokens: int | None = None
    #: Claude: speed "fast", and inference_geo "us"
    fast_mode: bool = False
    us_inference: bool = False

    @property
    def chat(self) -> bool:
        """True if the model answers chat requests (some of OpenAI's on /v1/responses only)."""
        return not self.endpoints or bool(self.endpoints & {"chat/completions", "responses", "messages"})

    def effort_is_none(self, effort: str | None) -> bool:
        """True if a request with this reasoning_effort (None: not given) runs without reasoning."""
        return (effort or self.default_effort) == "none"

    def takes(self, support: Support, effort: str | None) -> bool:
        """Whether a feature may be sent together with this reasoning_effort, as far as is known."""
        if support is Support.EFFORT_NONE:
            return self.effort_is_none(effort)
        return support is not Support.NEVER


_VERSION = re.compile(r"gpt-(\d+)(?:\.(\d+))?")
_ALL_EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "max"})


def openai_version(name: str) -> tuple[int, int]:
    """(major, minor) of a gpt-N.M name; (0, 0) for the o-series and others."""
    found = _VERSION.match(name)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def from_entry(model: str, name: str, entry: dict[str, Any]) -> ModelInfo:
    """The record of a models.json entry."""
    common: dict[str, Any] = {
        "id": model,
        "name": name,
        "provider": entry["provider"],
        "known": True,
        "context_tokens": entry.get("context_tokens"),
        "max_input_tokens": entry.get("max_input_tokens"),
        "max_output_tokens": entry.get("max_output_tokens"),
        "endpoints": frozenset(entry.get("endpoints") or ()),
        "batch_supported": bool(entry.get("batch_supported")),
        "snapshot": entry.get("snapshot"),
        "shutdown_date": entry.get("shutdown_date"),
    }
    if entry["provider"] == "anthropic":
        return ModelInfo(**common, **_claude(entry))
    return ModelInfo(**common, **_gpt(name, entry))


def _gpt(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    if not entry.get("reasoning"):
        return {"sampling": Support.ALWAYS, "refused_efforts": _ALL_EFFORTS}
    flags = entry.get("reasoning_effort_flags") or {}
    none_ok = flags.get("none")
    # o3 is listed with unknown flags; the family table refuses sampling for all of the o-series.
    by_effort = Support.EFFORT_NONE if none_ok else Support.NEVER
    return {
        "reasoning": True,
        "sampling": by_effort,
        "accepts_stop": False,
        "chat_tools": by_effort if openai_version(name) >= (5, 4) else Support.ALWAYS,
        "accepts_max_tokens": "max_tokens" in entry.get("output_limit_field", "").split("|"),
        "refused_efforts": frozenset(effort for effort, accepted in flags.items() if accepted is False),
        "default_effort": entry.get("default_reasoning_effort"),
    }


def _claude(entry: dict[str, Any]) -> dict[str, Any]:
    thinking = entry.get("thinking")
    return {
        "reasoning": thinking == "adaptive_always_on",
        "sampling": Support.ALWAYS if entry.get("accepts_sampling_params") else Support.NEVER,
        "sampling_exclusive": thinking == "enabled+budget_tokens",
        "thinking": thinking,
        "effort_levels": frozenset(entry.get("effort_levels") or ()),
        "forced_tool_choice": bool(entry.get("forced_tool_choice")),
        "assistant_prefill": bool(entry.get("assistant_prefill")),
        "mid_conversation_system": bool(entry.get("mid_conversation_system")),
        "min_cacheable_tokens": entry.get("min_cacheable_tokens"),
        "fast_mode": "fast_mode_multiplier" in entry,
        "us_inference": "inference_geo_us_multiplier" in entry,
    }
