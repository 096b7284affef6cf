"""What /v1/responses refuses with 400, and how its input is read (PROVIDERS.md 2.9)."""

from __future__ import annotations

from typing import Any

from simulator.models import Model
from simulator.openai_rules import bad, unsupported
from simulator.prompt import Reading

_FIELDS = frozenset(
    [
        "model",
        "input",
        "instructions",
        "max_output_tokens",
        "temperature",
        "top_p",
        "reasoning",
        "text",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "include",
        "store",
        "stream",
        "metadata",
        "service_tier",
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "previous_response_id",
        "truncation",
        "background",
    ]
)
#: type of a content part -> the field of its text, None where it has none
_PARTS: dict[str, dict[str, str | None]] = {
    "user": {"input_text": "text", "input_image": None, "input_file": None},
    "system": {"input_text": "text"},
    "developer": {"input_text": "text"},
    "assistant": {"output_text": "text", "refusal": "refusal"},
}


def check_shape(body: dict[str, Any]) -> None:
    """Fields, tools and the wanted format."""
    for field in ("model", "input"):
        if body.get(field) is None:
            raise bad(f"Missing required parameter: '{field}'.", field, "missing_required_parameter")
    if unknown := body.keys() - _FIELDS:
        field = min(unknown)
        raise bad(f"Unknown parameter: '{field}'.", field, "unknown_parameter")
    for at, tool in enumerate(body.get("tools") or []):
        where = f"tools[{at}]"
        if tool.get("type") != "function":
            raise bad(f"Invalid value for '{where}.type'.", f"{where}.type", "invalid_value")
        for field in ("name", "parameters", "strict"):
            if field not in tool:
                raise bad(f"Missing required parameter: '{where}.{field}'.", f"{where}.{field}")
        if "function" in tool:
            raise bad(f"Unknown parameter: '{where}.function'.", f"{where}.function", "unknown_parameter")
    choice = body.get("tool_choice")
    if choice is not None and not body.get("tools"):
        raise bad("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    if isinstance(choice, dict) and choice.get("type") not in ("function", "allowed_tools"):
        raise bad("Invalid value for 'tool_choice.type'.", "tool_choice.type", "invalid_value")
    wanted = (body.get("text") or {}).get("format")
    if wanted is not None:
        if wanted.get("type") not in ("text", "json_object", "json_schema"):
            raise bad("Invalid value for 'text.format.type'.", "text.format.type", "invalid_value")
        if wanted["type"] == "json_schema" and not ({"name", "schema"} <= wanted.keys()):
            raise bad("Missing required parameter: 'text.format.name'.", "text.format.name")


def check_model(body: dict[str, Any], model: Model) -> None:
    """What this model refuses, from its entry in models.json."""
    effort = (body.get("reasoning") or {}).get("effort")
    flags = model.entry.get("reasoning_effort_flags") or {}
    if not model.entry.get("reasoning"):
        if effort is not None:
            raise unsupported("reasoning.effort")
    else:
        if effort is not None and flags.get(effort) is False:
            message = f"Unsupported value: 'reasoning.effort' does not support '{effort}' with this model."
            raise bad(message, "reasoning.effort", "unsupported_value")
        without = flags.get("none") is True and (effort or model.entry.get("default_reasoning_effort")) == "none"
        for field in ("temperature", "top_p"):
            if not without and body.get(field) not in (None, 1, 1.0):
                raise unsupported(field)
    asked, most = body.get("max_output_tokens"), model.max_output_tokens
    if asked is not None and most is not None and asked > most:
        raise bad(f"max_output_tokens is too large: {asked}.", "max_output_tokens", "invalid_value")


def read_input(body: dict[str, Any], reading: Reading) -> bool:
    """Read the conversation; True if it ends with the output of a tool."""
    if body.get("instructions"):
        reading.text(body["instructions"])
    given = body["input"]
    if isinstance(given, str):
        reading.new_turn("user")
        reading.text(given, user=True)
        return False
    called: set[str] = set()
    last = thought = None
    for at, item in enumerate(given):
        last = item.get("type", "message")
        where = f"input[{at}]"
        if last == "reasoning":
            if item.get("encrypted_content") != encrypted(item.get("id")):
                raise bad(
                    f"The encrypted content of {where} could not be verified.", where, "invalid_encrypted_content"
                )
            reading.text(item["encrypted_content"])
            thought = item["id"]
            continue
        if (thought is not None and last == "function_call_output") or item.get("role") not in (None, "assistant"):
            _followed(thought)
        thought = None
        if last == "function_call":
            reading.text(item["arguments"])
            called.add(item["call_id"])
        elif last == "function_call_output":
            if item["call_id"] not in called:
                message = f"No tool call found for function call output with call_id {item['call_id']}."
                raise bad(message, "input")
            called.discard(item["call_id"])
            output = item["output"]
            for text in [output] if isinstance(output, str) else [part["text"] for part in output]:
                reading.text(text)
        elif last == "message" and item.get("role") in _PARTS:
            _read_message(item, where, reading)
        else:
            raise bad(f"Invalid value for '{where}'.", where, "invalid_value")
    _followed(thought)
    if called:
        raise bad(f"No tool output found for function call {min(called)}.", "input")
    return last == "function_call_output"


def encrypted(item: object) -> str:
    """What the model thought, as only this vendor can read it."""
    return f"encrypted {item}"


def _followed(thought: str | None) -> None:
    """A reasoning item stands before what it led to."""
    if thought is not None:
        raise bad(f"Item '{thought}' of type 'reasoning' was provided without its required following item.", "input")


def _read_message(item: dict[str, Any], where: str, reading: Reading) -> None:
    role, content = item["role"], item["content"]
    reading.new_turn(role)
    if isinstance(content, str):
        reading.text(content, user=role == "user")
        return
    for part in content:
        if part.get("type") not in _PARTS[role]:
            raise bad(f"Invalid value: '{part.get('type')}' in {where}.content.", f"{where}.content", "invalid_value")
        field = _PARTS[role][part["type"]]
        if field is None:
            reading.attachment()
        else:
            reading.text(part[field], user=role == "user")
