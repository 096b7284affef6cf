"""What Anthropic's Messages refuses with 400: shapes, ranges, each model's quirks (PROVIDERS.md 1.3, 2.4, 2.8)."""

from __future__ import annotations

import re
from typing import Any

import orjson

from simulator.models import Model
from simulator.prompt import Reading, Refusal

_FIELDS = frozenset(
    [
        "model",
        "max_tokens",
        "messages",
        "system",
        "stop_sequences",
        "stream",
        "temperature",
        "top_p",
        "top_k",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "metadata",
        "service_tier",
        "speed",
        "inference_geo",
        "cache_control",
        "container",
        "diagnostics",
        "context_management",
        "mcp_servers",
        "fallbacks",
    ]
)
_SAMPLING = ("temperature", "top_p", "top_k")
_USER_BLOCKS = frozenset({"text", "image", "document", "tool_result", "search_result"})
_ASSISTANT_BLOCKS = frozenset({"text", "tool_use", "thinking", "redacted_thinking", "document", "server_tool_use"})
_TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")


def bad(message: str) -> Refusal:
    return Refusal(400, message)


def check_shape(body: dict[str, Any], *, counting: bool) -> None:
    """Fields, types and ranges that hold for every model. `counting`: the body is for count_tokens."""
    for field in ("model", "messages") if counting else ("model", "max_tokens", "messages"):
        if body.get(field) is None:
            raise bad(f"{field}: Field required")
    if unknown := body.keys() - _FIELDS:
        raise bad(f"{min(unknown)}: Extra inputs are not permitted")
    if not isinstance(body["model"], str):
        raise bad("model: Input should be a valid string")
    most = body.get("max_tokens")
    if most is not None:
        if isinstance(most, bool) or not isinstance(most, int):
            raise bad("max_tokens: Input should be a valid integer")
        if most < 0:
            raise bad("max_tokens: Input should be greater than or equal to 0")
    for field, high in (("temperature", 1), ("top_p", 1), ("top_k", None)):
        value = body.get(field)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise bad(f"{field}: Input should be a valid number")
        if value < 0 or (high is not None and value > high):
            raise bad(f"{field}: range: 0..{high}" if high else f"{field}: Input should be greater than or equal to 0")
    stop = body.get("stop_sequences")
    if stop is not None and (not isinstance(stop, list) or not all(isinstance(item, str) for item in stop)):
        raise bad("stop_sequences: Input should be a valid list of strings")
    for field, values in (("speed", ("standard", "fast")), ("inference_geo", ("global", "us"))):
        if body.get(field) not in (None, *values):
            raise bad(f"{field}: Input should be {' or '.join(map(repr, values))}")
    servers = body.get("mcp_servers") or []
    if not isinstance(servers, list) or not all(isinstance(each, dict) and each.get("url") for each in servers):
        raise bad("mcp_servers: Input should be a list of servers with a url")
    choice = body.get("tool_choice")
    if choice is not None and (
        not isinstance(choice, dict) or choice.get("type") not in ("auto", "any", "tool", "none")
    ):
        raise bad("tool_choice: Input should be a valid dictionary with a type of auto, any, tool or none")
    _check_tools(body)


def _check_tools(body: dict[str, Any]) -> None:
    tools = body.get("tools") or []
    if not isinstance(tools, list):
        raise bad("tools: Input should be a valid list")
    names = set()
    for at, tool in enumerate(tools):
        if isinstance(tool, dict) and tool.get("type") == "mcp_toolset":
            if tool.get("mcp_server_name") not in [server.get("name") for server in body.get("mcp_servers") or ()]:
                raise bad(f"tools.{at}.mcp_server_name: no such server in mcp_servers")
            continue
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            raise bad(f"tools.{at}.name: Field required")
        if tool.get("type", "custom") == "custom" and not isinstance(tool.get("input_schema"), dict):
            raise bad(f"tools.{at}.custom.input_schema: Field required")
        if tool["name"] in names:
            raise bad("tools: Tool names must be unique.")
        names.add(tool["name"])
    choice = body.get("tool_choice") or {}
    if choice.get("type") in ("any", "tool") and not tools:
        raise bad("tool_choice: it may only be given together with tools")
    if choice.get("type") == "tool" and choice.get("name") not in names:
        raise bad(f"tool_choice: Tool '{choice.get('name')}' not found in provided tools")


def check_model(body: dict[str, Any], model: Model, version: bytes) -> None:
    """What this model and this API version refuse."""
    entry = model.entry
    for field in _SAMPLING:
        value = body.get(field)
        if value is None:
            continue
        if version != b"2023-06-01":
            raise bad(f"{field}: Extra inputs are not permitted")
        if not entry.get("accepts_sampling_params") and not _tolerates(model.name, field, value):
            raise bad(f"{field}: this parameter is not supported for this model")
    thinking = entry.get("thinking")
    if thinking == "enabled+budget_tokens" and body.get("temperature") is not None and body.get("top_p") is not None:
        raise bad("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    most, asked = model.max_output_tokens, body.get("max_tokens")
    if asked is not None and most is not None and asked > most:
        raise bad(
            f"max_tokens: {asked} > {most}, which is the maximum allowed number of output tokens for {model.name}"
        )
    _check_thinking(body, thinking)
    if body.get("speed") == "fast" and "fast_mode_multiplier" not in entry:
        raise bad("speed: 'fast' is not supported for this model")
    if body.get("inference_geo") == "us" and "inference_geo_us_multiplier" not in entry:
        raise bad("inference_geo: this parameter is not supported for this model")
    effort = (body.get("output_config") or {}).get("effort")
    if effort is not None and effort not in (entry.get("effort_levels") or ()):
        raise bad(f"output_config.effort: '{effort}' is not supported for this model")
    if not entry.get("forced_tool_choice") and (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise bad('tool_choice: type "tool" and "any" are not supported for this model.')


def _tolerates(model: str, field: str, value: float) -> bool:
    """Sonnet 5 takes sampling parameters at their defaults under the older version."""
    return model == "claude-sonnet-5" and field in ("temperature", "top_p") and value == 1


def _check_thinking(body: dict[str, Any], support: str | None) -> None:
    asked = body.get("thinking")
    if asked is None:
        return
    kind = asked.get("type") if isinstance(asked, dict) else None
    if kind not in ("adaptive", "enabled", "disabled", "between_tools"):
        raise bad("thinking: Input should have a type of adaptive, enabled, disabled or between_tools")
    if kind == "adaptive" and support == "enabled+budget_tokens":
        raise bad("adaptive thinking is not supported on this model")
    refused = {
        "adaptive_always_on": ("enabled", "disabled", "between_tools"),
        "adaptive_or_disabled": ("enabled", "between_tools"),
    }.get(support or "", ("between_tools",))
    if kind in refused:
        raise bad(
            f'"thinking.type.{kind}" is not supported for this model. Use "thinking.type.adaptive" and '
            '"output_config.effort" to control thinking behavior.'
        )
    if kind == "enabled":
        budget, most = asked.get("budget_tokens"), body.get("max_tokens")
        if isinstance(budget, bool) or not isinstance(budget, int):
            raise bad("thinking.enabled.budget_tokens: Field required")
        if budget < 1024:
            raise bad("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if most is not None and budget >= most:
            raise bad("max_tokens: must be greater than thinking.budget_tokens")


def read_conversation(body: dict[str, Any], model: Model, version: bytes, reading: Reading) -> None:
    """Check system, messages and tools, and gather their text."""
    system = body.get("system")
    if isinstance(system, str):
        reading.text(system)
    elif isinstance(system, list):
        for at, block in enumerate(system):
            if not isinstance(block, dict) or block.get("type") != "text" or not isinstance(block.get("text"), str):
                raise bad(f"system.{at}: Input should be a text block")
            reading.text(block["text"])
    elif system is not None:
        raise bad("system: Input should be a valid string or a list of text blocks")
    messages = body["messages"]
    if not isinstance(messages, list):
        raise bad("messages: Input should be a valid list")
    if not messages:
        raise bad("messages: at least one message is required")
    called: set[str] = set()
    before: Any = None
    for at, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant", "system"):
            raise bad(f"messages.{at}.role: Input should be 'user' or 'assistant'")
        if role == "system" and not model.entry.get("mid_conversation_system"):
            raise bad(f"messages.{at}.role: role 'system' is not supported on this model")
        if role != before:
            # Consecutive turns of one role are one turn.
            reading.new_turn(role)
        called = _read_message(message, at, role, version, called, reading)
        before = role
    if called:
        raise bad(f"messages: `tool_use` ids without `tool_result` blocks: {', '.join(sorted(called))}")
    if before == "assistant" and not model.entry.get("assistant_prefill"):
        raise bad(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    if body.get("tools"):
        reading.overhead(len(orjson.dumps(body["tools"])))


def _read_message(
    message: dict[str, Any], at: int, role: str, version: bytes, called: set[str], reading: Reading
) -> set[str]:
    """Reads one turn; answers the ids of tool calls that are still to be answered."""
    content = message.get("content")
    if extra := message.keys() - {"role", "content"}:
        raise bad(f"messages.{at}.{min(extra)}: Extra inputs are not permitted")
    if isinstance(content, str):
        if not content and role != "assistant":
            raise bad(f"messages.{at}: user messages must have non-empty content")
        content = [{"type": "text", "text": content}] if content else []
    if not isinstance(content, list):
        raise bad(f"messages.{at}.content: Input should be a valid string or a list of content blocks")
    calls: set[str] = set()
    answered: set[str] = set()
    text_seen = False
    for index, block in enumerate(content):
        where = f"messages.{at}.content.{index}"
        kind = block.get("type") if isinstance(block, dict) else None
        if kind not in (_ASSISTANT_BLOCKS if role == "assistant" else _USER_BLOCKS):
            raise bad(f"{where}: Input tag '{kind}' is not expected in a message of role '{role}'")
        if kind == "text":
            text = block.get("text")
            if not isinstance(text, str):
                raise bad(f"{where}.text.text: Field required")
            if not text:
                raise bad("messages: text content blocks must be non-empty")
            if role == "user" and version != b"2023-06-01" and block.get("citations"):
                raise bad(f"{where}.text.citations: Extra inputs are not permitted")
            text_seen = True
            reading.text(text, user=role == "user")
        elif kind == "tool_use":
            if not isinstance(block.get("input"), dict):
                raise bad(f"{where}.tool_use.input: Input should be a valid dictionary")
            if not isinstance(block.get("id"), str) or not _TOOL_ID.fullmatch(block["id"]):
                raise bad(f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
            calls.add(block["id"])
            reading.overhead(len(orjson.dumps(block["input"])))
        elif kind == "tool_result":
            if block.get("tool_use_id") not in called:
                raise bad(
                    f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {block.get('tool_use_id')}"
                )
            if text_seen:
                raise bad(f"{where}: `tool_result` blocks must come before text")
            answered.add(block["tool_use_id"])
            _read_result(block.get("content"), where, reading)
        elif kind == "document" and role == "assistant" and version != b"2023-06-01":
            raise bad(f"{where}: document blocks are not permitted in assistant messages")
        elif kind in ("image", "document"):
            if not isinstance(block.get("source"), dict):
                raise bad(f"{where}.{kind}.source: Field required")
            reading.attachment()
    missing = called - answered
    if missing:
        raise bad(
            f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(sorted(missing))}"
        )
    return calls


def _read_result(content: Any, where: str, reading: Reading) -> None:
    if isinstance(content, str):
        reading.text(content)
        return
    for block in content if isinstance(content, list) else []:
        if not isinstance(block, dict):
            raise bad(f"{where}.content: Input should be a valid string or a list of content blocks")
        if isinstance(block.get("text"), str):
            reading.text(block["text"])
        else:
            reading.attachment()
