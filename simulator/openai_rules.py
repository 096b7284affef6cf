"""What OpenAI's Chat Completions refuses with 400: shapes, ranges, each model's quirks (PROVIDERS.md 2.1, 2.7)."""

from __future__ import annotations

import re
from typing import Any

from simulator.models import Model
from simulator.prompt import Reading, Refusal

_FIELDS = frozenset(
    [
        "model",
        "messages",
        "max_completion_tokens",
        "max_tokens",
        "temperature",
        "top_p",
        "n",
        "stop",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "reasoning_effort",
        "verbosity",
        "response_format",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "stream",
        "stream_options",
        "metadata",
        "store",
        "service_tier",
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "modalities",
        "audio",
        "prediction",
        "web_search_options",
        "moderation",
    ]
)
_ROLES = ("developer", "system", "user", "assistant", "tool", "function")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_SCHEMA_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: field -> lowest, highest
_RANGES = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "n": (1, 128),
    "top_logprobs": (0, 20),
}


def bad(message: str, param: str | None, code: str | None = None) -> Refusal:
    return Refusal(400, message, param=param, code=code)


def unsupported(field: str) -> Refusal:
    message = f"Unsupported parameter: '{field}' is not supported with this model."
    return bad(message, field, "unsupported_parameter")


def check_shape(body: dict[str, Any], *, strict: bool) -> None:
    """Fields, types and ranges that hold for every model. `strict`: unknown fields are refused."""
    for field in ("model", "messages"):
        if body.get(field) is None:
            raise bad(f"Missing required parameter: '{field}'.", field, "missing_required_parameter")
    if strict and (unknown := body.keys() - _FIELDS):
        field = min(unknown)
        raise bad(f"Unknown parameter: '{field}'.", field, "unknown_parameter")
    for field, (low, high) in _RANGES.items():
        value = body.get(field)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise bad(f"Invalid type for '{field}': expected a number.", field, "invalid_type")
        if not low <= value <= high:
            code = "decimal_above_max_value" if value > high else "decimal_below_min_value"
            raise bad(f"Invalid '{field}': expected a value between {low} and {high}, but got {value}.", field, code)
    for field in ("max_tokens", "max_completion_tokens"):
        value = body.get(field)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise bad(f"Invalid type for '{field}': expected an integer.", field, "invalid_type")
        if value is not None and value < 1:
            message = f"Invalid '{field}': expected a value of at least 1, but got {value}."
            raise bad(message, field, "integer_below_min_value")
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise bad("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.", "max_tokens")
    if body.get("stream_options") is not None and not body.get("stream"):
        raise bad("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        raise bad("'top_logprobs' needs 'logprobs' to be true.", "top_logprobs")
    stop = body.get("stop")
    if isinstance(stop, list) and len(stop) > 4:
        raise bad("Invalid 'stop': at most 4 sequences are allowed.", "stop", "array_above_max_length")
    _check_format(body.get("response_format"))
    _check_tools(body)


def _check_format(wanted: Any) -> None:
    if wanted is None:
        return
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        message = "Invalid value for 'response_format.type'. Supported values: 'text', 'json_object', 'json_schema'."
        raise bad(message, "response_format.type", "invalid_value")
    if kind == "json_schema":
        described = wanted.get("json_schema")
        if not isinstance(described, dict) or not described.get("name"):
            raise bad(
                "Missing required parameter: 'response_format.json_schema.name'.",
                "response_format.json_schema.name",
                "missing_required_parameter",
            )
        if not isinstance(described["name"], str) or not _SCHEMA_NAME.fullmatch(described["name"]):
            message = "Invalid 'response_format.json_schema.name': string does not match pattern."
            raise bad(message, "response_format.json_schema.name", "invalid_value")


def _check_tools(body: dict[str, Any]) -> None:
    tools = body.get("tools")
    choice = body.get("tool_choice")
    if tools is None:
        if choice not in (None, "none"):
            raise bad("Invalid value for 'tool_choice': it is only allowed when 'tools' are given.", "tool_choice")
        if body.get("parallel_tool_calls") is not None:
            raise bad("'parallel_tool_calls' is only allowed when 'tools' are given.", "parallel_tool_calls")
        return
    if not isinstance(tools, list) or not tools:
        raise bad("Invalid 'tools': expected a non-empty array.", "tools", "empty_array")
    names = set()
    for at, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        described = tool.get(kind) if kind in ("function", "custom") else None
        if not isinstance(described, dict) or not isinstance(described.get("name"), str):
            where = f"tools[{at}].function.name"
            raise bad(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
        names.add(described["name"])
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        message = "Invalid value for 'tool_choice'. Supported values: 'none', 'auto', 'required'."
        raise bad(message, "tool_choice", "invalid_value")
    if isinstance(choice, dict) and choice.get("type") in ("function", "custom"):
        named = choice.get(choice["type"])
        if not isinstance(named, dict) or named.get("name") not in names:
            raise bad("Tool choice names a tool that is not among 'tools'.", "tool_choice")
    elif isinstance(choice, dict):
        allowed = choice.get("allowed_tools")
        allowed = allowed if isinstance(allowed, dict) else {}
        listed = allowed.get("tools")
        if not isinstance(listed, list) or not listed or allowed.get("mode") not in ("auto", "required"):
            raise bad("Invalid 'tool_choice.allowed_tools': it needs a mode and tools.", "tool_choice")
        if not all(_name_of(tool) in names for tool in listed):
            raise bad("Tool choice allows a tool that is not among 'tools'.", "tool_choice")


def _name_of(tool: Any) -> str | None:
    kind = tool.get("type") if isinstance(tool, dict) else None
    described = tool.get(kind) if kind in ("function", "custom") else None
    name = described.get("name") if isinstance(described, dict) else None
    return name if isinstance(name, str) else None


def read_messages(messages: Any, reading: Reading) -> None:
    """Check the conversation and gather its text."""
    if not isinstance(messages, list):
        raise bad("Invalid type for 'messages': expected an array of objects.", "messages", "invalid_type")
    if not messages:
        raise bad("Invalid 'messages': expected an array with at least one message.", "messages", "empty_array")
    unanswered: set[str] = set()
    for at, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in _ROLES:
            where = f"messages[{at}].role"
            raise bad(f"Invalid value for '{where}'. Supported values: {', '.join(_ROLES)}.", where, "invalid_value")
        if role == "tool":
            if message.get("tool_call_id") not in unanswered:
                raise bad(
                    "Messages with role 'tool' must answer a preceding message with 'tool_calls'.",
                    f"messages[{at}].role",
                )
            unanswered.discard(message["tool_call_id"])
        elif unanswered:
            raise bad(
                "An assistant message with 'tool_calls' must be followed by tool messages for each 'tool_call_id'. "
                f"Not answered: {', '.join(sorted(unanswered))}",
                f"messages[{at}].role",
            )
        reading.new_turn(role)
        _read_content(message, at, role, reading)
        calls = message.get("tool_calls")
        if role == "assistant" and isinstance(calls, list):
            for call in calls:
                described = call.get("function") or call.get("custom") if isinstance(call, dict) else None
                if not isinstance(described, dict) or not isinstance(call.get("id"), str):
                    raise bad(f"Invalid 'messages[{at}].tool_calls'.", f"messages[{at}].tool_calls", "invalid_value")
                reading.text(str(described.get("arguments") or described.get("input") or ""))
                unanswered.add(call["id"])
    if unanswered:
        raise bad("An assistant message with 'tool_calls' must be followed by tool messages.", "messages")


def _read_content(message: dict[str, Any], at: int, role: str, reading: Reading) -> None:
    content = message.get("content")
    if isinstance(content, str):
        reading.text(content, user=role == "user")
        return
    where = f"messages[{at}].content"
    if content is None:
        if role == "assistant":
            return
        raise bad(f"Invalid value for '{where}': expected a string, got null.", where)
    if not isinstance(content, list):
        raise bad(f"Invalid type for '{where}': expected a string or an array.", where, "invalid_type")
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            reading.text(part["text"], user=role == "user")
        elif kind == "refusal" and role == "assistant":
            reading.text(str(part.get("refusal")))
        elif kind in ("image_url", "input_audio", "file") and role == "user" and isinstance(part.get(kind), dict):
            reading.attachment()
        else:
            raise bad(f"Invalid content part in '{where}' for role '{role}'.", where, "invalid_value")


def check_model(body: dict[str, Any], model: Model) -> None:
    """What this model refuses, from its entry in models.json and the family table."""
    entry = model.entry
    limit_fields = entry.get("output_limit_field", "").split("|")
    if body.get("max_tokens") is not None and "max_tokens" not in limit_fields:
        refusal = unsupported("max_tokens")
        refusal.message += " Use 'max_completion_tokens' instead."
        raise refusal
    effort = body.get("reasoning_effort")
    if effort is not None and effort not in _EFFORTS:
        raise bad(f"Invalid value for 'reasoning_effort': {effort!r}.", "reasoning_effort", "invalid_value")
    if not entry.get("reasoning"):
        if effort is not None:
            raise unsupported("reasoning_effort")
    else:
        _check_reasoning(body, model, effort)
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    most = model.max_output_tokens
    if asked is not None and most is not None and asked > most:
        field = "max_tokens" if body.get("max_tokens") is not None else "max_completion_tokens"
        message = f"{field} is too large: {asked}. This model supports at most {most} completion tokens."
        raise bad(message, field, "invalid_value")


def _check_reasoning(body: dict[str, Any], model: Model, effort: str | None) -> None:
    flags = model.entry.get("reasoning_effort_flags") or {}
    if effort is not None and flags.get(effort) is False:
        message = f"Unsupported value: 'reasoning_effort' does not support '{effort}' with this model."
        raise bad(message, "reasoning_effort", "unsupported_value")
    without = flags.get("none") is True and (effort or model.entry.get("default_reasoning_effort")) == "none"
    for field in ("stop", "frequency_penalty", "presence_penalty", "logit_bias", "prediction"):
        if body.get(field) not in (None, [], {}, 0, 0.0):
            raise unsupported(field)
    if not without:
        for field in ("temperature", "top_p"):
            value = body.get(field)
            if value is not None and value != 1:
                message = f"Unsupported value: '{field}' does not support {value} with this model. "
                raise bad(message + "Only the default (1) value is supported.", field, "unsupported_value")
        for field in ("logprobs", "top_logprobs"):
            if body.get(field):
                raise unsupported(field)
    if body.get("tools") and not without and _refuses_tools(model.name):
        message = (
            f"Function tools with reasoning_effort are not supported for {model.name} in /v1/chat/completions. "
            "To use function tools, use /v1/responses"
        )
        message += " or set reasoning_effort to 'none'." if flags.get("none") else "."
        raise bad(message, "reasoning_effort")


def _refuses_tools(name: str) -> bool:
    """From gpt-5.4 on, Chat Completions takes function tools only without reasoning."""
    found = re.match(r"gpt-(\d+)(?:\.(\d+))?", name)
    return found is not None and (int(found[1]), int(found[2] or 0)) >= (5, 4)
