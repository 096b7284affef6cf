"""What /v1/responses answered, as a chat completion object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.providers import openai_reasoning


def completion_of(response: Mapping[str, Any]) -> dict[str, Any]:
    """The chat completion object for a decoded response object; with only `error` if it failed. Never raises.

    finish_reason as PROVIDERS.md 2.9 says: a token limit is `length`, a filter `content_filter`, a call `tool_calls`.
    """
    if response.get("error") or response.get("status") == "failed":
        return {"error": response.get("error") or {"type": "server_error", "message": "the response failed"}}
    texts, refusals = [], []
    calls: list[dict[str, Any]] = []
    annotations: list[Any] = []
    thoughts: list[dict[str, Any]] = []
    spoken = 0
    output = response.get("output")
    for item in output if isinstance(output, list) else ():
        if not isinstance(item, dict):
            continue
        if item.get("type") == "reasoning":
            entry = openai_reasoning.kept(item, response.get("model"), spoken)
            thoughts += [entry] if entry else []
            continue
        spoken += 1
        if item.get("type") == "function_call":
            called = {"name": item.get("name"), "arguments": item.get("arguments")}
            calls.append({"id": item.get("call_id"), "type": "function", "function": called})
        elif item.get("type") == "message":
            content = item.get("content")
            for part in content if isinstance(content, list) else ():
                if isinstance(part, dict) and isinstance(part.get("text"), str):
                    texts.append(part["text"])
                    annotations += part.get("annotations") or []
                elif isinstance(part, dict) and isinstance(part.get("refusal"), str):
                    refusals.append(part["refusal"])
    message: dict[str, Any] = {
        "role": "assistant",
        # A model that spent its whole budget on reasoning said nothing, and says so with an empty text.
        "content": "".join(texts) if texts or not (calls or refusals) else None,
        "refusal": "".join(refusals) if refusals else None,
        "annotations": annotations,
    }
    if calls:
        message["tool_calls"] = calls
    if thoughts:
        message[openai_reasoning.FIELD] = thoughts
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(response, bool(calls))}
    completion = {**head_of(response), "object": "chat.completion", "choices": [choice]}
    usage = usage_of(response)
    if usage is not None:
        completion["usage"] = usage
    return completion


def head_of(response: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a completion, and of each chunk of it, that say which response it was."""
    number = str(response.get("id") or "").removeprefix("resp_")
    return {
        "id": f"chatcmpl-{number}" if number else None,
        "created": response.get("created_at"),
        "model": response.get("model"),
        "service_tier": response.get("service_tier"),
        "system_fingerprint": None,
    }


def finish_reason(response: Mapping[str, Any], called: bool) -> str:
    """Why a response ended, in Chat's words."""
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    if response.get("status") == "incomplete":
        return "content_filter" if reason == "content_filter" else "length"
    return "tool_calls" if called else "stop"


def usage_of(response: Mapping[str, Any]) -> dict[str, Any] | None:
    """Chat's usage object; None if the response has none."""
    found = response.get("usage")
    if not isinstance(found, dict):
        return None
    given, produced = found.get("input_tokens_details"), found.get("output_tokens_details")
    given = given if isinstance(given, dict) else {}
    produced = produced if isinstance(produced, dict) else {}
    return {
        "prompt_tokens": found.get("input_tokens"),
        "completion_tokens": found.get("output_tokens"),
        "total_tokens": found.get("total_tokens"),
        "prompt_tokens_details": {
            "cached_tokens": given.get("cached_tokens", 0),
            "cache_write_tokens": given.get("cache_write_tokens", 0),
        },
        "completion_tokens_details": {"reasoning_tokens": produced.get("reasoning_tokens", 0)},
    }
