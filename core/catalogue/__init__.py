"""The catalogue: what each known model costs, takes and refuses, and whose it is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.catalogue.families import guess
from core.catalogue.record import ModelInfo, Support, from_entry

__all__ = ["VERSION", "ModelInfo", "Support", "entry", "find", "is_dated_variant", "models", "provider_of"]

_RAW = (Path(__file__).parent / "models.json").read_bytes()
_ENTRIES: dict[str, dict[str, Any]] = json.loads(_RAW)

#: names the edition of models.json that a price or a limit was taken from
VERSION = "catalogue-" + hashlib.sha256(_RAW).hexdigest()[:12]

_DATED = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|latest)$")
_OPENAI = re.compile(r"(?:ft:)?(?:gpt-|chatgpt-|o\d+(?:-|$)|text-embedding-)")


def provider_of(model: str) -> str | None:
    """The vendor whose models are named like this ("openai", "anthropic"), or None.

    Goes by the shape of the name alone, so that a model that appears tomorrow is routed tomorrow.
    """
    if model.startswith("claude-"):
        return "anthropic"
    return "openai" if _OPENAI.match(model) else None


def entry_name(model: str) -> str | None:
    """The catalogue's name for a model or a dated snapshot or fine-tune of it; None if it is not listed."""
    if model in _ENTRIES:
        return model
    if model.startswith("ft:"):
        model = model.split(":")[1]
        if model in _ENTRIES:
            return model
    base = _DATED.sub("", model)
    return base if base in _ENTRIES else None


def entry(model: str) -> dict[str, Any] | None:
    """The entry of models.json for a model or a dated snapshot of it: prices in USD per million tokens."""
    name = entry_name(model)
    return _ENTRIES[name] if name else None


def is_dated_variant(model: str) -> bool:
    """True if `model` is a snapshot other than the one its catalogue entry describes: its price may differ."""
    name = entry_name(model)
    return name is not None and model != name and _ENTRIES[name].get("snapshot") not in (model, None)


@lru_cache(maxsize=4096)
def find(model: str, provider: str | None = None) -> ModelInfo:
    """What is known of `model`, or what its family lets expect. Never fails.

    A record with `known` False refuses nothing: the provider's own error decides. `provider` names who serves it
    when that is not the model's vendor: on an OpenAI-compatible server a familiar name promises nothing.
    """
    vendor = provider_of(model)
    if provider is not None and provider != vendor:
        return guess(model, provider)
    name = entry_name(model)
    if name is not None:
        return from_entry(model, name, _ENTRIES[name])
    return guess(model, vendor or "openai_compatible")


def models(provider: str | None = None) -> Iterator[ModelInfo]:
    """Every listed model, of one provider if it is named, newest families first as models.json has them."""
    for name, found in _ENTRIES.items():
        if provider is None or found["provider"] == provider:
            yield find(name)
