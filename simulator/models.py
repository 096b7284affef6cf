"""Which models the simulator serves and what each refuses, read from the catalogue's data.

The rules are read from models.json here and not through core.catalogue's own reading of it: a stand-in that shared the
adapters' understanding of a model could not show where that is wrong.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import core

#: served besides the catalogue: models still met in the field, with their largest output in tokens
_OLDER_OPENAI = {
    "gpt-4": 8_192,
    "gpt-4-turbo": 4_096,
    "gpt-4-32k": 32_768,
    "gpt-3.5-turbo": 4_096,
    "gpt-4.1-nano": 32_768,
    "chatgpt-4o": 16_384,
}
_OLDER_REASONING = {"o1": 100_000, "o3-mini": 100_000, "o4-mini": 100_000}
_OLDER_CLAUDE = {
    "claude-3-haiku": 4_096,
    "claude-3-opus": 4_096,
    "claude-3-5-haiku": 8_192,
    "claude-3-5-sonnet": 8_192,
    "claude-3-7-sonnet": 64_000,
    "claude-sonnet-4": 64_000,
    "claude-opus-4": 32_000,
    "claude-opus-4-1": 32_000,
}
_DATED = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|latest|preview|0)$")


@dataclass(frozen=True, slots=True)
class Model:
    """One served model: `entry` has the fields of models.json."""

    name: str
    vendor: str
    entry: dict[str, Any]

    @property
    def max_output_tokens(self) -> int | None:
        return self.entry.get("max_output_tokens")

    @property
    def max_input_tokens(self) -> int | None:
        return self.entry.get("max_input_tokens") or self.entry.get("context_tokens")


def _older() -> dict[str, dict[str, Any]]:
    plain = {"provider": "openai", "reasoning": False, "output_limit_field": "max_completion_tokens|max_tokens"}
    thinking = {
        "provider": "openai",
        "reasoning": True,
        "output_limit_field": "max_completion_tokens",
        "reasoning_effort_flags": {"none": False, "minimal": False, "xhigh": False, "max": False},
    }
    claude = {
        "provider": "anthropic",
        "accepts_sampling_params": True,
        "thinking": "enabled+budget_tokens",
        "assistant_prefill": True,
        "forced_tool_choice": True,
        "mid_conversation_system": False,
        "effort_levels": None,
    }
    chat = {"endpoints": ["chat/completions"]}
    return (
        {name: plain | chat | {"max_output_tokens": most} for name, most in _OLDER_OPENAI.items()}
        | {name: thinking | chat | {"max_output_tokens": most} for name, most in _OLDER_REASONING.items()}
        | {
            name: claude | {"max_output_tokens": most, "endpoints": ["messages"]}
            for name, most in _OLDER_CLAUDE.items()
        }
    )


class Models:
    """The served models, by the names that callers use: aliases, dated snapshots, fine-tunes."""

    def __init__(self, extra: list[str]) -> None:
        listed = json.loads((Path(core.__file__).parent / "catalogue" / "models.json").read_bytes())
        self._entries: dict[str, dict[str, Any]] = listed | _older()
        older = _older()
        for name in extra:
            # A name made up by a test refuses nothing.
            like = older["claude-3-7-sonnet" if name.startswith("claude") else "gpt-4"]
            self._entries.setdefault(name, like | {"max_output_tokens": None})
        self._found: dict[tuple[str, str], Model | None] = {}

    def find(self, name: str, vendor: str) -> Model | None:
        """The model of this vendor that `name` means, or None if it serves no such model."""
        if (name, vendor) not in self._found:
            if len(self._found) > 10_000:
                self._found.clear()
            self._found[name, vendor] = self._resolve(name, vendor)
        return self._found[name, vendor]

    def _resolve(self, name: str, vendor: str) -> Model | None:
        base = name.split(":")[1] if name.startswith("ft:") and name.count(":") >= 2 else name
        for candidate in (base, _DATED.sub("", base), _DATED.sub("", _DATED.sub("", base))):
            entry = self._entries.get(candidate)
            if entry is not None:
                return Model(candidate, vendor, entry) if entry["provider"] == vendor else None
        return None

    def listed(self, vendor: str) -> list[Model]:
        """Every model of a vendor, in the catalogue's order."""
        return [Model(name, vendor, entry) for name, entry in self._entries.items() if entry["provider"] == vendor]
