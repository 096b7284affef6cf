"""The model lists of both vendors, in each one's shape (PROVIDERS.md 6)."""

from __future__ import annotations

import calendar
from typing import Any

from simulator import anthropic_vendor, openai_vendor
from simulator.models import Model
from simulator.paging import page
from simulator.simulation import Simulation

#: the catalogue knows no release dates: one day for all
_CREATED = calendar.timegm((2026, 10, 26, 0, 0, 0))
_LINES = ("haiku", "sonnet", "opus", "fable", "mythos")
_CREATED_AT = "2026-10-26T00:00:00Z"


def openai_list(simulation: Simulation) -> dict[str, Any]:
    """GET /v1/models: one full list."""
    return {"object": "list", "data": [_openai(model, model.name) for model in simulation.models.listed("openai")]}


def openai_one(simulation: Simulation, name: str) -> dict[str, Any]:
    """GET /v1/models/{id}. Raises Refusal (404)."""
    model = simulation.models.find(name, "openai")
    if model is None:
        refusal = openai_vendor.unknown_model(name)
        refusal.param = "model"
        raise refusal
    return _openai(model, name)


def anthropic_list(simulation: Simulation, query: str) -> dict[str, Any]:
    """GET /v1/models?limit&after_id&before_id. Raises Refusal (400) for a bad limit or cursor."""
    models = simulation.models.listed("anthropic")
    part, more = page([model.name for model in models], query)
    data = [_anthropic(model) for model in models[part]]
    ids = [model["id"] for model in data]
    return {
        "data": data,
        "has_more": more,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }


def anthropic_one(simulation: Simulation, name: str) -> dict[str, Any]:
    """GET /v1/models/{id}; aliases resolve. Raises Refusal (404)."""
    model = simulation.models.find(name, "anthropic")
    if model is None:
        raise anthropic_vendor.unknown_model(name)
    return _anthropic(model)


def _openai(model: Model, name: str) -> dict[str, Any]:
    shutdown = model.entry.get("shutdown_date")
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "system", "shutdown_date": shutdown}


def _anthropic(model: Model) -> dict[str, Any]:
    entry = model.entry
    thinking = entry.get("thinking")
    efforts = entry.get("effort_levels") or ()

    def flag(value: bool) -> dict[str, Any]:
        return {"supported": value}

    return {
        "type": "model",
        "id": model.name,
        "display_name": model.name.replace("-", " ").title(),
        "created_at": _CREATED_AT,
        "lifecycle": "active",
        "line": next((line for line in _LINES if line in model.name), "sonnet"),
        "max_input_tokens": model.max_input_tokens,
        "max_tokens": model.max_output_tokens,
        "deprecated_at": None,
        "retires_at": f"{entry['shutdown_date']}T00:00:00Z" if entry.get("shutdown_date") else None,
        "capabilities": {
            "batch": flag(bool(entry.get("batch_supported"))),
            "structured_outputs": flag(True),
            "image_input": flag(True),
            "pdf_input": flag(True),
            "citations": flag(True),
            # Tools that a provider runs itself are not simulated.
            "code_execution": flag(False),
            "context_management": flag(False),
            "server_tools": flag(False) | {"code_execution": flag(False), "web_search": flag(False)},
            "effort": flag(bool(efforts))
            | {level: flag(level in efforts) for level in ("low", "medium", "high", "xhigh", "max")},
            "thinking": flag(thinking is not None)
            | {
                "types": {
                    "adaptive": flag(thinking != "enabled+budget_tokens"),
                    "enabled": flag(thinking in ("enabled+budget_tokens", "adaptive_or_enabled")),
                    "disabled": flag(thinking != "adaptive_always_on"),
                    "between_tools": flag(False),
                }
            },
        },
    }
