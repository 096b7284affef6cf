"""Fields deep inside a request that a translation would leave behind: each is refused by name instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.catalogue import ModelInfo
from core.errors import FieldError
from core.params.messages import escape

#: what a tool of OpenAI's form may hold beside its function
TOOL_FIELDS = frozenset({"type", "function", "cache_control"})
#: what a content part may hold, of whatever kind, and what its medium may
_PART_FIELDS = frozenset({"type", "cache_control", "prompt_cache_breakpoint"})
_MEDIUM_FIELDS = {
    "image_url": frozenset({"url", "detail"}),
    "file": frozenset({"filename", "file_data", "file_id"}),
}


def refuse_unknown(
    found: Mapping[str, Any], known: frozenset[str], pointer: str, model: ModelInfo, errors: list[FieldError]
) -> None:
    """An error for each field that is not known and says something."""
    for field in sorted(found.keys() - known):
        if found[field] is not None:
            errors.append(FieldError(f"{pointer}/{escape(field)}", f"{model.id} does not take it"))


def refuse_unknown_of_part(part: Mapping[str, Any], pointer: str, model: ModelInfo, errors: list[FieldError]) -> None:
    """The same for a content part, checked as core.params does, of a kind that is translated, and for its medium."""
    kind = part["type"]
    refuse_unknown(part, _PART_FIELDS | {kind}, pointer, model, errors)
    if kind in _MEDIUM_FIELDS:
        refuse_unknown(part[kind], _MEDIUM_FIELDS[kind], f"{pointer}/{kind}", model, errors)
