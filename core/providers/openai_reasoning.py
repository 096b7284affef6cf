"""What an OpenAI model thought, encrypted: how it travels through either form and back to the model that thought it.

/v1/responses gives reasoning as items that only OpenAI can read (PROVIDERS.md 2.9). In a chat message they are
`reasoning_items`, in an Anthropic message blocks of type redacted_thinking, which callers send back unread.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from core import catalogue

#: the field of an assistant message and of a stream's delta
FIELD = "reasoning_items"
#: how the data of a redacted_thinking block begins that holds one of these instead of Claude's own
_MARK = "openai-reasoning:"


def kept(item: Mapping[str, Any], model: object, before: int) -> dict[str, Any] | None:
    """The entry of FIELD for a reasoning item; None if it holds nothing that could go back.

    `before`: how many messages and calls of the answer come before it.
    """
    if not isinstance(item.get("encrypted_content"), str):
        return None
    return {
        "id": item.get("id"),
        "encrypted_content": item["encrypted_content"],
        "summary": item.get("summary") or [],
        "model": model,
        "before": before,
    }


def put_back(items: list[dict[str, Any]], entries: Any, model: str) -> None:
    """Insert into the input `items` of one answer what `model` thought on the way to it, each in its place.

    What another model thought is left out: it is bound to the one that made it.
    """
    number = 0
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or not _same(entry.get("model"), model):
            continue
        item = {field: entry.get(field) for field in ("id", "summary", "encrypted_content")}
        before = entry.get("before")
        place = before if type(before) is int and before >= 0 else 0
        if place >= len(items) - number:
            # Cut off before it led to anything: OpenAI refuses a thought on its own.
            continue
        items.insert(place + number, {"type": "reasoning", **item})
        number += 1


def _same(made_by: object, model: str) -> bool:
    """Whether both names are the same model's; one may be that of a dated snapshot."""
    if not isinstance(made_by, str):
        return False
    return made_by == model or (catalogue.entry_name(made_by) or made_by) == catalogue.entry_name(model)


def is_entry(value: object) -> bool:
    """Whether a value has the form of an entry, whoever sent it."""
    return isinstance(value, dict) and isinstance(value.get("encrypted_content"), str)


def block_of(entry: Mapping[str, Any]) -> dict[str, str]:
    """The block of an Anthropic message that carries an entry."""
    fields = {field: value for field, value in entry.items() if field != "index"}
    return {"type": "redacted_thinking", "data": _MARK + base64.b64encode(orjson.dumps(fields)).decode()}


def is_block(block: Mapping[str, Any]) -> bool:
    """Whether a block is one of `block_of`, which Claude would refuse."""
    data = block.get("data")
    return block.get("type") == "redacted_thinking" and isinstance(data, str) and data.startswith(_MARK)


def entry_of(block: Mapping[str, Any]) -> dict[str, Any] | None:
    """The entry that a block carries; None if it carries none, or was changed on the way."""
    if not is_block(block):
        return None
    try:
        found = orjson.loads(base64.b64decode(block["data"][len(_MARK) :], validate=True))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
