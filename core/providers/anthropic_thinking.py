"""How much Claude thinks: reasoning_effort put into the form that each generation of models takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.catalogue import ModelInfo
from core.errors import FieldError

#: tokens of thinking for models that take a budget instead of an effort; 1024 is the least Anthropic accepts
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 4096, "high": 16_384}
_LEAST_BUDGET = 1024

_KINDS = {
    "adaptive_always_on": ("adaptive",),
    "adaptive_or_disabled": ("adaptive", "disabled"),
    "adaptive_or_enabled": ("adaptive", "enabled", "disabled"),
    "enabled+budget_tokens": ("enabled", "disabled"),
}


def put_thinking(
    body: dict[str, Any], params: Mapping[str, Any], model: ModelInfo, errors: list[FieldError], *, limited: bool
) -> bool:
    """Set `thinking` and `output_config.effort` (PROVIDERS.md 2.6 and 2.8). True if the request asks for thinking.

    `limited`: the caller gave the output limit that stands in the body, so it is not raised to make room. A
    caller's own `thinking` object goes first; the effort then only sets `output_config.effort`, as it does when
    `thinking` is null.
    """
    effort = params.get("reasoning_effort")
    own = params.get("thinking")
    if own is not None:
        kinds = _KINDS.get(model.thinking or "", ())
        if model.known and own.get("type") in ("adaptive", "enabled", "disabled") and own["type"] not in kinds:
            errors.append(FieldError("/thinking/type", f"{model.id} does not take thinking of type '{own['type']}'"))
        body["thinking"] = own
    if effort is None:
        return own is not None and own.get("type") != "disabled"
    if own is None and "thinking" in params:
        # A null beside the effort: the effort is the caller's own word, and nothing is made of it.
        body.setdefault("output_config", {})["effort"] = effort
        if model.known and effort not in model.effort_levels:
            errors.append(FieldError("/reasoning_effort", f"{model.id} does not take effort '{effort}'"))
        return False
    if effort == "none":
        if own is None and model.thinking == "adaptive_always_on":
            errors.append(FieldError("/reasoning_effort", f"{model.id} always thinks; 'none' is not possible"))
        elif own is None and model.thinking != "enabled+budget_tokens":
            body["thinking"] = {"type": "disabled"}
        return own is not None and own.get("type") != "disabled"
    level = "low" if effort == "minimal" else effort
    if model.effort_levels:
        if level in model.effort_levels:
            body.setdefault("output_config", {})["effort"] = level
        else:
            errors.append(FieldError("/reasoning_effort", f"{model.id} does not take reasoning_effort '{effort}'"))
    if own is None:
        if model.thinking == "enabled+budget_tokens":
            _put_budget(body, effort, model, errors, limited)
        elif model.thinking != "adaptive_always_on":
            body["thinking"] = {"type": "adaptive"}
    return True


def _put_budget(body: dict[str, Any], effort: str, model: ModelInfo, errors: list[FieldError], limited: bool) -> None:
    """A budget below the output limit, which counts thinking too."""
    budget = _BUDGETS.get(effort)
    if budget is None:
        if not model.effort_levels:
            errors.append(FieldError("/reasoning_effort", f"{model.id} does not take reasoning_effort '{effort}'"))
        return
    if not limited:
        most = model.max_output_tokens or body["max_tokens"] + budget
        body["max_tokens"] = min(body["max_tokens"] + budget, most)
    room = body["max_tokens"] - 1
    if room < _LEAST_BUDGET:
        message = f"{model.id} thinks within max_tokens: give more than {_LEAST_BUDGET}, or no reasoning_effort"
        errors.append(FieldError("/reasoning_effort", message))
        return
    body["thinking"] = {"type": "enabled", "budget_tokens": min(budget, max(_LEAST_BUDGET, body["max_tokens"] // 2))}
