"""Anthropic's tools and tool_choice in OpenAI's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import FieldError
from core.providers.anthropic_native import ANTHROPIC_BLOCK, MessagesParams
from core.providers.anthropic_tools import tool_of

#: fields of a tool that OpenAI's models do without: they change how fast or how cheaply it is called, not what it is
_HINTS = frozenset({"type", "cache_control", "eager_input_streaming", "input_examples"})
_FIELDS = frozenset({"name", "description", "input_schema", "strict"})
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def put_tools(params: MessagesParams, body: Mapping[str, Any], errors: list[FieldError], *, to_claude: bool) -> None:
    """Set `tools`, `tool_choice` and `parallel_tool_calls`."""
    given = body.get("tools")
    if given is not None and not isinstance(given, list):
        errors.append(FieldError("/tools", "Input should be a valid list"))
        return
    tools = []
    for index, tool in enumerate(given or ()):
        made = _tool(tool, f"/tools/{index}", errors, to_claude, str(body.get("model"))[:64])
        if made is not None:
            tools.append(made)
    if tools:
        params["tools"] = tools
    choice = body.get("tool_choice")
    if choice is not None:
        _put_choice(params, choice, errors)


def _tool(tool: Any, pointer: str, errors: list[FieldError], to_claude: bool, model: str) -> dict[str, Any] | None:
    if not isinstance(tool, dict):
        errors.append(FieldError(pointer, "Input should be a valid dictionary"))
        return None
    kind = tool.get("type")
    if kind not in (None, "custom"):
        if to_claude and isinstance(kind, str):
            name = tool.get("name") if isinstance(tool.get("name"), str) else kind
            return {"type": "custom", "custom": {"name": name}, ANTHROPIC_BLOCK: tool}
        errors.append(FieldError(f"{pointer}/type", f"{model} takes only tools of type 'custom'"))
        return None
    schema = tool.get("input_schema")
    if not isinstance(tool.get("name"), str) or not isinstance(schema, dict):
        missing = "input_schema" if isinstance(tool.get("name"), str) else "name"
        errors.append(FieldError(f"{pointer}/{missing}", "Field required"))
        return None
    function: dict[str, Any] = {"name": tool["name"], "parameters": schema}
    for field in ("description", "strict"):
        if tool.get(field) is not None:
            function[field] = tool[field]
    made: dict[str, Any] = {"type": "function", "function": function}
    if to_claude:
        if tool.get("cache_control") is not None:
            made["cache_control"] = tool["cache_control"]
        if tool_of(made) != tool:
            made[ANTHROPIC_BLOCK] = tool
        return made
    for field in tool.keys() - _FIELDS - _HINTS:
        if tool[field]:
            errors.append(FieldError(f"{pointer}/{field[:64]}", f"{model} does not take it"))
    return made


def _put_choice(params: MessagesParams, choice: Any, errors: list[FieldError]) -> None:
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "tool" and isinstance(choice.get("name"), str):
        params["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    elif isinstance(kind, str) and kind in _CHOICES:
        params["tool_choice"] = _CHOICES[kind]
    else:
        message = "Input should be an object with type 'auto', 'any', 'tool' (and a name) or 'none'"
        errors.append(FieldError("/tool_choice", message))
        return
    known = {"type", "name"} if kind == "tool" else {"type"}
    for field in sorted(choice.keys() - known - ({"disable_parallel_tool_use"} if kind != "none" else set())):
        if choice[field] is not None:
            errors.append(FieldError(f"/tool_choice/{field[:64]}", "Extra inputs are not permitted"))
    if choice.get("disable_parallel_tool_use") is not None and kind != "none":
        params["parallel_tool_calls"] = not choice["disable_parallel_tool_use"]
