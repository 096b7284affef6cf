"""The tools of a completion request and the choice among them, checked."""

from __future__ import annotations

from typing import Any

from core.errors import FieldError
from core.params.messages import MAX_ERRORS, TOOL_NAME_RULE, is_tool_name

#: more than anybody takes; OpenAI's own limits are in its adapter
MAX_TOOLS = 1000


def check_tools(value: Any, errors: list[FieldError]) -> None:
    """`tools`: functions and custom tools."""
    if type(value) is not list or not 1 <= len(value) <= MAX_TOOLS:
        errors.append(FieldError("/tools", f"must be a list of 1 to {MAX_TOOLS} tools; leave it out for none"))
        return
    for index, tool in enumerate(value):
        pointer = f"/tools/{index}"
        kind = tool.get("type") if type(tool) is dict else None
        if type(kind) is not str or kind not in ("function", "custom"):
            errors.append(FieldError(f"{pointer}/type", "must be function or custom"))
        elif type(tool.get(kind)) is not dict:
            errors.append(FieldError(f"{pointer}/{kind}", "is required: an object with a name"))
        else:
            _check_function(tool[kind], f"{pointer}/{kind}", errors)
        if type(tool) is dict and tool.get("cache_control") is not None and type(tool["cache_control"]) is not dict:
            errors.append(FieldError(f"{pointer}/cache_control", "must be an object"))
        if len(errors) >= MAX_ERRORS:
            return


def check_functions(value: Any, errors: list[FieldError]) -> None:
    """`functions`, the predecessor of tools."""
    if type(value) is not list or len(value) > MAX_TOOLS:
        errors.append(FieldError("/functions", f"must be a list of at most {MAX_TOOLS} functions"))
        return
    for index, function in enumerate(value):
        if type(function) is dict:
            _check_function(function, f"/functions/{index}", errors)
        else:
            errors.append(FieldError(f"/functions/{index}", "must be an object with a name"))
        if len(errors) >= MAX_ERRORS:
            return


def _check_function(function: dict[str, Any], pointer: str, errors: list[FieldError]) -> None:
    if not is_tool_name(function.get("name")):
        errors.append(FieldError(f"{pointer}/name", TOOL_NAME_RULE))
    if function.get("description") is not None and type(function["description"]) is not str:
        errors.append(FieldError(f"{pointer}/description", "must be a string"))
    if function.get("parameters") is not None and type(function["parameters"]) is not dict:
        errors.append(FieldError(f"{pointer}/parameters", "must be a JSON schema"))
    if function.get("strict") is not None and type(function["strict"]) is not bool:
        errors.append(FieldError(f"{pointer}/strict", "must be true or false"))


def check_tool_choice(value: Any, errors: list[FieldError]) -> None:
    """`tool_choice`: a word, a named tool, or a list of allowed ones."""
    if type(value) is str:
        if value not in ("none", "auto", "required"):
            errors.append(FieldError("/tool_choice", "must be none, auto, required or an object"))
        return
    kind = value.get("type") if type(value) is dict else None
    if type(kind) is not str or kind not in ("function", "custom", "allowed_tools"):
        errors.append(FieldError("/tool_choice/type", "must be function, custom or allowed_tools"))
    elif type(value.get(kind)) is not dict:
        errors.append(FieldError(f"/tool_choice/{kind}", "is required: an object"))
    elif kind == "allowed_tools":
        if value[kind].get("mode") not in ("auto", "required"):
            errors.append(FieldError("/tool_choice/allowed_tools/mode", "must be auto or required"))
        if type(value[kind].get("tools")) is not list or not value[kind]["tools"]:
            errors.append(FieldError("/tool_choice/allowed_tools/tools", "must be a list of at least one tool"))
            return
        for index, tool in enumerate(value[kind]["tools"]):
            if not _is_named(tool):
                message = "must be an object with type function or custom, and the name of one in it"
                errors.append(FieldError(f"/tool_choice/allowed_tools/tools/{index}", message))
            if len(errors) >= MAX_ERRORS:
                return
    elif type(value[kind].get("name")) is not str:
        errors.append(FieldError(f"/tool_choice/{kind}/name", "must be the name of a tool"))


def _is_named(tool: Any) -> bool:
    """Whether an entry of a list of allowed tools names one."""
    kind = tool.get("type") if type(tool) is dict else None
    described = tool.get(kind) if type(kind) is str and kind in ("function", "custom") else None
    return type(described) is dict and type(described.get("name")) is str


def check_function_call(value: Any, errors: list[FieldError]) -> None:
    """`function_call`, the predecessor of tool_choice."""
    named = type(value) is dict and type(value.get("name")) is str
    if not named and (type(value) is not str or value not in ("none", "auto")):
        errors.append(FieldError("/function_call", "must be none, auto or an object with a name"))
