"""Anthropic's answers as OpenAI chat completion objects."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from core.providers.failures import failure, failure_inside, unreadable
from core.providers.from_anthropic_answer import NATIVE, left_over
from core.providers.lenient import count, loads
from core.providers.types import Failure, Success, Usage

#: PROVIDERS.md 2.6; a reason that appears later reads as "stop"
FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "pause_turn": "length",
    "refusal": "content_filter",
}
_SERVICE_TIERS = {"standard": "default", "priority": "priority", "batch": "default"}


def parse(status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None) -> Success | Failure:
    """The outcome of an HTTP answer in Anthropic's form. Never raises."""
    if not 200 <= status < 300:
        return failure(status, headers, body, secret=secret)
    try:
        found = loads(body)
    except ValueError:
        return unreadable(status, "the provider's answer is not JSON or is cut off")
    return read_message(found, status, secret=secret)


def read_message(found: object, status: int = 200, *, secret: str | None = None) -> Success | Failure:
    """The outcome in a decoded body (of a call, or the `message` of a batch's result line). Never raises."""
    if not isinstance(found, dict):
        return unreadable(status, "the provider's answer is not a JSON object")
    if found.get("type") == "error" or found.get("error"):
        return failure_inside(found, status, secret=secret)
    blocks = found.get("content")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        return unreadable(status, "the provider's answer has no content blocks")
    if not found.get("stop_reason"):
        return unreadable(status, "the provider's answer has no stop_reason")
    usage = read_usage(found.get("usage"))
    completion = completion_of(found, usage)
    return Success(
        completion=completion,
        usage=usage or Usage(),
        model=completion["model"],
        usage_reported=usage is not None,
    )


def completion_of(message: Mapping[str, Any], usage: Usage | None) -> dict[str, Any]:
    """The chat completion object for a message whose `content` is a list of objects.

    Thinking comes as `reasoning_content` (text) and `thinking_blocks` (signed, to be sent back unchanged).
    """
    texts: list[str] = []
    thoughts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for block in message["content"]:
        kind = block.get("type")
        if kind == "text":
            texts.append(_text(block.get("text")))
        elif kind == "tool_use":
            calls.append(_call(block))
        elif kind in ("thinking", "redacted_thinking"):
            thoughts.append(block)
    text = "".join(texts)
    answer: dict[str, Any] = {"role": "assistant", "content": None if calls and not text else text, "refusal": None}
    if calls:
        answer["tool_calls"] = calls
    if thoughts:
        answer["reasoning_content"] = "".join(_text(block.get("thinking")) for block in thoughts)
        answer["thinking_blocks"] = thoughts
    stop = message.get("stop_reason")
    if stop == "refusal":
        answer["refusal"] = explanation(message)
    usage_given = message.get("usage")
    tier = usage_given.get("service_tier") if isinstance(usage_given, dict) else None
    completion: dict[str, Any] = {
        "id": _text(message.get("id")) or "msg_unknown",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": _text(message.get("model")),
        "choices": [{"index": 0, "message": answer, "logprobs": None, "finish_reason": finish_reason(stop)}],
        "service_tier": _SERVICE_TIERS.get(tier) if isinstance(tier, str) else None,
        "system_fingerprint": None,
    }
    if usage is not None:
        completion["usage"] = usage_object(usage)
    rest = left_over(message, completion)
    if rest:
        completion[NATIVE] = rest
    return completion


def finish_reason(stop_reason: object) -> str:
    """OpenAI's finish_reason for a stop_reason."""
    return FINISH_REASONS.get(stop_reason, "stop") if isinstance(stop_reason, str) else "stop"


def explanation(message: Mapping[str, Any]) -> str | None:
    """Why Claude refused, from `stop_details`; None if it does not say."""
    details = message.get("stop_details")
    found = details.get("explanation") if isinstance(details, dict) else None
    return found if isinstance(found, str) else None


def _call(block: Mapping[str, Any]) -> dict[str, Any]:
    # A streamed call keeps its text as it came: it may be cut off by max_tokens and be no JSON.
    arguments = _text(block.get("partial_json")) or orjson.dumps(block.get("input") or {}).decode()
    function = {"name": _text(block.get("name")), "arguments": arguments}
    return {"id": _text(block.get("id")), "type": "function", "function": function}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def read_usage(found: object) -> Usage | None:
    """Anthropic's usage object in our convention; None if there is none.

    Its `input_tokens` leave out what was read from or written to the cache (PROVIDERS.md 2.5): added up here.
    """
    if not isinstance(found, dict) or ("input_tokens" not in found and "output_tokens" not in found):
        return None
    cached = count(found.get("cache_read_input_tokens"))
    written = count(found.get("cache_creation_input_tokens"))
    by_ttl = found.get("cache_creation")
    long_lived = count(by_ttl.get("ephemeral_1h_input_tokens")) if isinstance(by_ttl, dict) else 0
    details = found.get("output_tokens_details")
    return Usage(
        input_tokens=count(found.get("input_tokens")) + cached + written,
        output_tokens=count(found.get("output_tokens")),
        cached_tokens=cached,
        cache_write_tokens=max(written - long_lived, 0),
        cache_write_1h_tokens=min(long_lived, written),
        reasoning_tokens=count(details.get("thinking_tokens")) if isinstance(details, dict) else 0,
    )


def usage_object(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage object for ours."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens + usage.cache_write_1h_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
