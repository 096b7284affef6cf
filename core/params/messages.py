"""The messages of a completion request, checked: roles, forms of content, calls of tools."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from core.errors import FieldError

#: errors listed for one request; whoever sends a million of them has seen enough
MAX_ERRORS = 100

NAME_RULE = "must be 1 to 64 letters, digits, underscores or dashes"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")

#: Anthropic's; OpenAI takes half as many characters
TOOL_NAME_RULE = "must be 1 to 128 letters, digits, underscores or dashes"
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")

_ROLES = frozenset({"developer", "system", "user", "assistant", "tool", "function"})
_TEXT_ROLES = frozenset({"developer", "system", "user"})
_PARTS = {
    "developer": ("text",),
    "system": ("text",),
    "user": ("text", "image_url", "input_audio", "file"),
    "assistant": ("text", "refusal"),
    "tool": ("text",),
    "function": ("text",),
}


def escape(field: str) -> str:
    """A name as a part of a JSON pointer (RFC 6901), cut to 64 characters."""
    return field[:64].replace("~", "~0").replace("/", "~1")


def is_name(value: object) -> bool:
    """True for a name as functions, tools and schemas have it."""
    return type(value) is str and _NAME.match(value) is not None


def is_tool_name(value: object) -> bool:
    """True for a name as some vendor's functions and tools have it."""
    return type(value) is str and _TOOL_NAME.match(value) is not None


def check_messages(messages: list[Any], errors: list[FieldError], *, open_fields: bool = False) -> None:
    """Add to `errors` what is wrong with `messages`. `open_fields`: other types of content parts are let through."""
    if not messages:
        errors.append(FieldError("/messages", "must have at least one message"))
    for index, message in enumerate(messages):
        # Nearly every message is text in one of the plain roles: three look-ups and on to the next.
        if type(message) is dict and type(message.get("content")) is str and len(message) == 2:
            role = message.get("role")
            if type(role) is str and role in _TEXT_ROLES:
                continue
        _check_message(message, f"/messages/{index}", errors, open_fields)
        if len(errors) >= MAX_ERRORS:
            return


def _check_message(message: Any, pointer: str, errors: list[FieldError], open_fields: bool) -> None:
    if type(message) is not dict:
        errors.append(FieldError(pointer, "must be an object with role and content"))
        return
    role = message.get("role")
    if type(role) is not str or role not in _ROLES:
        errors.append(FieldError(f"{pointer}/role", f"must be one of {', '.join(sorted(_ROLES))}"))
        return
    content = message.get("content")
    if content is None:
        if not _may_lack_content(message, role):
            errors.append(FieldError(f"{pointer}/content", "is required: a string or a list of content parts"))
    elif type(content) is list:
        _check_parts(content, role, f"{pointer}/content", errors, open_fields)
    elif type(content) is not str:
        errors.append(FieldError(f"{pointer}/content", "must be a string or a list of content parts"))
    for field in ("name", "refusal", "reasoning_content"):
        if message.get(field) is not None and type(message[field]) is not str:
            errors.append(FieldError(f"{pointer}/{field}", "must be a string"))
    if role == "tool" and (type(message.get("tool_call_id")) is not str or not message["tool_call_id"]):
        errors.append(FieldError(f"{pointer}/tool_call_id", "is required: the id of the call that this answers"))
    if role == "function" and type(message.get("name")) is not str:
        errors.append(FieldError(f"{pointer}/name", "is required: the name of the function"))
    if message.get("tool_calls") is not None:
        if role != "assistant":
            errors.append(FieldError(f"{pointer}/tool_calls", "is only allowed with role assistant"))
        else:
            _check_calls(message["tool_calls"], f"{pointer}/tool_calls", errors)
    items = message.get("reasoning_items")
    if items is not None and (type(items) is not list or not all(type(item) is dict for item in items)):
        errors.append(FieldError(f"{pointer}/reasoning_items", "must be the list that an earlier answer contained"))
    thoughts = message.get("thinking_blocks")
    if thoughts is not None and (
        type(thoughts) is not list
        or not all(type(block) is dict and type(block.get("type")) is str for block in thoughts)
    ):
        errors.append(FieldError(f"{pointer}/thinking_blocks", "must be the list that an earlier answer contained"))


def _may_lack_content(message: Mapping[str, Any], role: str) -> bool:
    if role == "function":
        return True
    spoken = ("tool_calls", "function_call", "refusal", "audio", "thinking_blocks")
    return role == "assistant" and any(message.get(field) for field in spoken)


def _check_parts(parts: list[Any], role: str, pointer: str, errors: list[FieldError], open_fields: bool) -> None:
    if not parts:
        errors.append(FieldError(pointer, "must have at least one part"))
    for index, part in enumerate(parts):
        kind = part.get("type") if type(part) is dict else None
        if type(kind) is not str:
            errors.append(FieldError(f"{pointer}/{index}", "must be an object with a type"))
        elif kind in ("text", "refusal") and kind in _PARTS[role]:
            if type(part.get(kind)) is not str:
                errors.append(FieldError(f"{pointer}/{index}/{kind}", "must be a string"))
            _check_breakpoint(part, f"{pointer}/{index}", errors)
        elif open_fields:
            pass
        elif kind not in _PARTS[role]:
            message = f"must be one of {', '.join(_PARTS[role])} in a message with role {role}"
            errors.append(FieldError(f"{pointer}/{index}/type", message))
        else:
            _check_medium(part, kind, f"{pointer}/{index}", errors)
        if len(errors) >= MAX_ERRORS:
            return


def _check_breakpoint(part: Mapping[str, Any], pointer: str, errors: list[FieldError]) -> None:
    for field in ("cache_control", "prompt_cache_breakpoint"):
        if part.get(field) is not None and type(part[field]) is not dict:
            errors.append(FieldError(f"{pointer}/{field}", "must be an object"))


def _check_medium(part: Mapping[str, Any], kind: str, pointer: str, errors: list[FieldError]) -> None:
    """An image, a sound or a file."""
    _check_breakpoint(part, pointer, errors)
    medium = part.get(kind)
    pointer = f"{pointer}/{kind}"
    if type(medium) is not dict:
        errors.append(FieldError(pointer, "must be an object"))
    elif kind == "image_url":
        if type(medium.get("url")) is not str or not medium["url"]:
            errors.append(FieldError(f"{pointer}/url", "is required: an https or data URL"))
        if medium.get("detail") not in ("auto", "low", "high", "original", None):
            errors.append(FieldError(f"{pointer}/detail", "must be one of auto, low, high, original"))
    elif kind == "input_audio":
        if type(medium.get("data")) is not str:
            errors.append(FieldError(f"{pointer}/data", "is required: base64"))
        if medium.get("format") not in ("wav", "mp3"):
            errors.append(FieldError(f"{pointer}/format", "must be wav or mp3"))
    else:
        for field in ("file_id", "file_data", "filename"):
            if medium.get(field) is not None and type(medium[field]) is not str:
                errors.append(FieldError(f"{pointer}/{field}", "must be a string"))
        if medium.get("file_id") is None and medium.get("file_data") is None:
            errors.append(FieldError(pointer, "needs file_id or file_data"))


def _check_calls(calls: Any, pointer: str, errors: list[FieldError]) -> None:
    """The tool calls of an assistant message."""
    if type(calls) is not list or not calls:
        errors.append(FieldError(pointer, "must be a list of at least one call"))
        return
    for index, call in enumerate(calls):
        where = f"{pointer}/{index}"
        kind = call.get("type") if type(call) is dict else None
        if type(kind) is not str or kind not in ("function", "custom") or type(call.get(kind)) is not dict:
            errors.append(FieldError(where, "must be an object with id, type function and function"))
        else:
            if type(call.get("id")) is not str or not call["id"]:
                errors.append(FieldError(f"{where}/id", "must be a string"))
            if type(call[kind].get("name")) is not str or not call[kind]["name"]:
                errors.append(FieldError(f"{where}/{kind}/name", "must be a string"))
            text = "arguments" if kind == "function" else "input"
            if type(call[kind].get(text)) is not str:
                errors.append(FieldError(f"{where}/{kind}/{text}", "must be a string"))
        if len(errors) >= MAX_ERRORS:
            return
