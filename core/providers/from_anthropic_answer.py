"""Completion objects as Anthropic's messages, and what of a message of Claude's a completion must keep for that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from core.providers import openai_reasoning

#: where a completion keeps what of Claude's message its other fields do not say
NATIVE = "anthropic"

#: PROVIDERS.md 2.6, reversed
STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_SERVICE_TIERS = {"default": "standard", "priority": "priority"}
#: what a call's arguments become when they are no JSON object: cut off, or the model's mistake
UNREADABLE_INPUT = "unreadable_arguments"
#: what this service adds to an answer, in either form
ADDED = ("provider", "cost_usd", "request_id")


def message_of(completion: Mapping[str, Any]) -> dict[str, Any]:
    """The Messages answer for a completion object (PROVIDERS.md 2.5), Claude's own exactly as it came."""
    choices = completion.get("choices") or [{}]
    choice: Mapping[str, Any] = choices[0]
    answer: Mapping[str, Any] = choice.get("message") or {}
    refusal = answer.get("refusal")
    calls = answer.get("tool_calls") or ()
    message: dict[str, Any] = {
        "id": message_id(completion.get("id")),
        "type": "message",
        "role": "assistant",
        "model": completion.get("model") or "",
        "content": _content(answer),
        "stop_reason": stop_reason(choice.get("finish_reason"), called=bool(calls), refused=bool(refusal)),
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": usage_of(completion.get("usage"), completion.get("service_tier")),
    }
    if message["stop_reason"] == "refusal":
        message["stop_details"] = {"type": "refusal", "category": None, "explanation": refusal}
    native = completion.get(NATIVE)
    if isinstance(native, dict):
        usage = {**message["usage"], **(native.get("usage") or {})}
        message = {**message, **native, "usage": usage}
    return message


def message_id(given: object) -> str:
    """A message's id for a completion's."""
    text = given if isinstance(given, str) and given else "unknown"
    return text if text.startswith("msg_") else "msg_" + text.removeprefix("chatcmpl-")


def stop_reason(finish_reason: object, *, called: bool, refused: bool = False) -> str | None:
    """The stop_reason for a finish_reason; some compatible servers say "stop" though they call a tool."""
    if finish_reason is None:
        return None
    if finish_reason == "stop" and called:
        return "tool_use"
    if finish_reason == "stop" and refused:
        return "refusal"
    return STOP_REASONS.get(finish_reason, "end_turn") if isinstance(finish_reason, str) else "end_turn"


def usage_of(usage: object, service_tier: object = None) -> dict[str, Any]:
    """Anthropic's usage object for OpenAI's: what the cache gave or took is no part of its input_tokens."""
    given = usage if isinstance(usage, dict) else {}
    prompt, completion = _object(given.get("prompt_tokens_details")), _object(given.get("completion_tokens_details"))
    cached, written = _count(prompt.get("cached_tokens")), _count(prompt.get("cache_write_tokens"))
    return {
        "input_tokens": max(_count(given.get("prompt_tokens")) - cached - written, 0),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": _count(given.get("completion_tokens")),
        "output_tokens_details": {"thinking_tokens": _count(completion.get("reasoning_tokens"))},
        "server_tool_use": None,
        "service_tier": _SERVICE_TIERS.get(service_tier, "standard") if isinstance(service_tier, str) else "standard",
        "inference_geo": None,
    }


def left_over(message: Mapping[str, Any], completion: Mapping[str, Any]) -> dict[str, Any]:
    """What `message` says that the message made of `completion` would not: a completion keeps it under NATIVE."""
    again = message_of(completion)
    rest = {
        field: value
        for field, value in message.items()
        if field not in ("usage", "content", "id", "model", "type", "role") and value != again.get(field)
    }
    content = [settled(block) for block in message.get("content") or ()]
    if [_said(block) for block in content] != again["content"]:
        rest["content"] = content
    usage = _object(message.get("usage"))
    rest_of_usage = {field: value for field, value in usage.items() if value != again["usage"].get(field)}
    if rest_of_usage:
        rest["usage"] = rest_of_usage
    return rest


def end_left_over(message: Mapping[str, Any], finish_reason: object) -> dict[str, Any]:
    """What `message` says of its end that `finish_reason` does not, for the last chunk of a stream."""
    rest = {field: message[field] for field in ("stop_sequence", "container") if message.get(field) is not None}
    if message.get("stop_reason") != STOP_REASONS.get(str(finish_reason)):
        rest["stop_reason"] = message.get("stop_reason")
    details = _object(message.get("stop_details"))
    if details.get("category") is not None:
        rest["stop_details"] = details
    return rest


def settled(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block whose input was streamed, with the input that the pieces make if they make one."""
    if "partial_json" not in block:
        return dict(block)
    whole = {field: value for field, value in block.items() if field != "partial_json"}
    whole["input"] = read_input(block["partial_json"])
    return whole


def read_input(arguments: object) -> dict[str, Any]:
    """The object in a call's arguments, which Anthropic's form demands; empty text is an empty object."""
    if not isinstance(arguments, str) or not arguments.strip():
        return {}
    try:
        found = orjson.loads(arguments)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {UNREADABLE_INPUT: arguments}


def _content(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    thoughts = answer.get("thinking_blocks")
    reasoning = answer.get("reasoning_content") or answer.get("reasoning")
    if isinstance(thoughts, list):
        blocks += thoughts
    elif isinstance(answer.get(openai_reasoning.FIELD), list):
        blocks += map(openai_reasoning.block_of, filter(openai_reasoning.is_entry, answer[openai_reasoning.FIELD]))
    elif isinstance(reasoning, str):
        blocks.append({"type": "thinking", "thinking": reasoning, "signature": ""})
    text = _text(answer.get("content"))
    if text:
        blocks.append({"type": "text", "text": text})
    for index, call in enumerate(answer.get("tool_calls") or ()):
        if isinstance(call, dict):
            function = _object(call.get("function"))
            blocks.append(use(call.get("id"), function.get("name"), read_input(function.get("arguments")), index))
    return blocks


def use(id: object, name: object, input: dict[str, Any], index: int) -> dict[str, Any]:
    """The block of a call; some compatible servers give their calls no id, and every result needs one."""
    return {
        "type": "tool_use",
        "id": id if isinstance(id, str) and id else f"toolu_{index}",
        "name": name if isinstance(name, str) else "",
        "input": input,
    }


def _text(content: object) -> str:
    """An answer's text; some compatible servers give it in parts."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _said(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block without fields that are null, which say nothing."""
    return {field: value for field, value in block.items() if value is not None}


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return value if type(value) is int and value >= 0 else 0
