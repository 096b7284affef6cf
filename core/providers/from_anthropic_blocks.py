"""One content block of Anthropic's at a time: what is wrong with it, and what of it OpenAI's form can say."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from core.providers.anthropic_native import ANTHROPIC_BLOCK

Block = dict[str, Any]

_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})


def wrong_with(block: Any) -> str | None:
    """Where a block lacks what every reader of it needs, as the end of a pointer; None if it does not."""
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        return "/type"
    match block["type"]:
        case "text" if not isinstance(block.get("text"), str):
            return "/text"
        case "image" | "document" if not isinstance(block.get("source"), dict):
            return "/source"
        case "tool_result" if not isinstance(block.get("tool_use_id"), str):
            return "/tool_use_id"
        case "tool_use":
            for field, kind in (("id", str), ("name", str), ("input", dict)):
                if not isinstance(block.get(field), kind):
                    return f"/{field}"
    return None


def unsigned(block: Block) -> bool:
    """Whether it is a thought of a model that is not Claude: Claude signs its own."""
    return block["type"] == "thinking" and not block.get("signature") and isinstance(block.get("thinking"), str)


def texts_only(part: Block, block: Block) -> Block:
    """The part where OpenAI's form takes only text: anything else rides on an empty one."""
    return part if part["type"] == "text" else {"type": "text", "text": "", ANTHROPIC_BLOCK: block}


def plain_call(block: Block) -> bool:
    """Whether it is no call of a tool, or one of which OpenAI's form says all."""
    if block["type"] != "tool_use":
        return True
    return block.keys() <= {"type", "id", "name", "input", "cache_control"}


def tool_call(block: Block, to_claude: bool) -> dict[str, Any]:
    """A `tool_use` block as OpenAI's call of a tool; for Claude, with its mark for the prompt cache."""
    function = {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()}
    call: dict[str, Any] = {"id": block["id"], "type": "function", "function": function}
    if to_claude and block.get("cache_control") is not None:
        call["cache_control"] = block["cache_control"]
    return call


def image_url(source: Mapping[str, Any]) -> str | None:
    """The URL of an image's source; None for one that OpenAI's form does not have."""
    if source.get("type") == "url" and source.keys() == {"type", "url"}:
        url = source["url"]
        return url if isinstance(url, str) and url.startswith(("https://", "http://")) else None
    if source.get("type") != "base64" or source.keys() != {"type", "media_type", "data"}:
        return None
    media_type, data = source["media_type"], source["data"]
    if not isinstance(media_type, str) or media_type not in _IMAGE_TYPES or not isinstance(data, str):
        return None
    return f"data:{media_type};base64,{data}"


def cites(document: Block) -> bool:
    """Whether a document is to be cited, which only Claude does."""
    citations = document.get("citations")
    return bool(citations.get("enabled")) if isinstance(citations, dict) else citations is not None


def file_of(block: Block) -> dict[str, Any] | None:
    """The file of a document; None for one that OpenAI's form does not have."""
    source, title = block["source"], block.get("title")
    if title is not None and (not isinstance(title, str) or not title):
        return None
    if source.keys() != {"type", "media_type", "data"} or not isinstance(source["data"], str):
        return None
    data: str = source["data"]
    match source["type"], source["media_type"]:
        case "base64", "application/pdf":
            pass
        case "text", "text/plain":
            data = base64.b64encode(data.encode("utf-8", "replace")).decode()
        case _:
            return None
    file = {"file_data": f"data:{source['media_type']};base64,{data}"}
    if title is not None:
        file["filename"] = title
    return file
