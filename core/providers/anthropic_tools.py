"""Tools and the choice among them, from OpenAI's form into Anthropic's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.catalogue import ModelInfo
from core.errors import FieldError
from core.providers.anthropic_native import native_block
from core.providers.unknown_fields import TOOL_FIELDS, refuse_unknown

_FUNCTION_FIELDS = frozenset({"name", "description", "parameters", "strict"})


def put_tools(body: dict[str, Any], params: Mapping[str, Any], model: ModelInfo, errors: list[FieldError]) -> None:
    """Set `tools` and `tool_choice` (PROVIDERS.md 2.6). Anthropic refuses a choice without tools: none is sent."""
    tools = []
    for index, tool in enumerate(params["tools"]):
        native = native_block(tool)
        if native is not None:
            tools.append(native)
        elif tool["type"] == "function":
            refuse_unknown(tool, TOOL_FIELDS, f"/tools/{index}", model, errors)
            refuse_unknown(tool["function"], _FUNCTION_FIELDS, f"/tools/{index}/function", model, errors)
            tools.append(tool_of(tool))
        else:
            errors.append(FieldError(f"/tools/{index}/type", f"{model.id} does not take tools of type 'custom'"))
    choice, allowed = _choice(params.get("tool_choice"), model, errors)
    if allowed is not None:
        names = [tool.get("name") for tool in tools]
        for number, name in enumerate(allowed):
            if name is None or name not in names:
                pointer = f"/tool_choice/allowed_tools/tools/{number}"
                errors.append(FieldError(pointer, f"{model.id} may be allowed only functions that are in tools"))
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
) -> tuple[dict[str, Any] | None, list[str | None] | None]:
    """The tool_choice object, and the names (None: of no function) when the caller allows only some tools."""
    if given is None:
        return None, None
    if isinstance(given, str):
        return {"type": "any" if given == "required" else given}, None
    refuse_unknown(given, frozenset({"type", given["type"]}), "/tool_choice", model, errors)
    if given["type"] == "function":
        return {"type": "tool", "name": given["function"]["name"]}, None
    if given["type"] == "allowed_tools":
        allowed = given["allowed_tools"]
        names = [_function_name(tool) for tool in allowed["tools"]]
        return {"type": "any" if allowed.get("mode") == "required" else "auto"}, names
    errors.append(FieldError("/tool_choice/type", f"{model.id} does not take a tool_choice of type 'custom'"))
    return None, None


def _function_name(tool: object) -> str | None:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None
