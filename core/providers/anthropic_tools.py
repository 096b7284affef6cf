"""Tools and the choice among them, from OpenAI's form into Anthropic's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.catalogue import ModelInfo
from core.errors import FieldError
from core.providers.anthropic_native import native_block


def put_tools(body: dict[str, Any], params: Mapping[str, Any], model: ModelInfo, errors: list[FieldError]) -> None:
    """Set `tools` and `tool_choice` (PROVIDERS.md 2.6). Anthropic refuses a choice without tools: none is sent."""
    tools = []
    for index, tool in enumerate(params["tools"]):
        native = native_block(tool)
        if native is not None:
            tools.append(native)
        elif tool["type"] == "function":
            tools.append(tool_of(tool))
        else:
            errors.append(FieldError(f"/tools/{index}/type", f"{model.id} does not take tools of type 'custom'"))
    choice, allowed = _choice(params.get("tool_choice"), model, errors)
    if allowed is not None:
        tools = [tool for tool in tools if tool.get("name") in allowed]
    if choice is not None and choice["type"] in ("any", "tool") and not model.forced_tool_choice:
        message = f"{model.id} cannot be forced to call a tool; use tool_choice 'auto' or 'none'"
        errors.append(FieldError("/tool_choice", message))
    if params.get("parallel_tool_calls") is False:
        choice = choice or {"type": "auto"}
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
    body["tools"] = tools
    if choice is not None:
        body["tool_choice"] = choice


def tool_of(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Anthropic's tool for a function of OpenAI's form."""
    function = tool["function"]
    made: dict[str, Any] = {
        "name": function["name"],
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    if function.get("description") is not None:
        made["description"] = function["description"]
    if function.get("strict"):
        made["strict"] = True
    if tool.get("cache_control") is not None:
        made["cache_control"] = tool["cache_control"]
    return made


def _choice(
    given: Any, model: ModelInfo, errors: list[FieldError]
) -> tuple[dict[str, Any] | None, frozenset[str] | None]:
    """The tool_choice object, and the names that remain when the caller allows only some tools."""
    if given is None:
        return None, None
    if isinstance(given, str):
        return {"type": "any" if given == "required" else given}, None
    if given["type"] == "function":
        return {"type": "tool", "name": given["function"]["name"]}, None
    if given["type"] == "allowed_tools":
        allowed = given["allowed_tools"]
        names = frozenset(filter(None, map(_function_name, allowed["tools"])))
        return {"type": "any" if allowed.get("mode") == "required" else "auto"}, names
    errors.append(FieldError("/tool_choice/type", f"{model.id} does not take a tool_choice of type 'custom'"))
    return None, None


def _function_name(tool: object) -> str | None:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None
