"""Answers in OpenAI's form, read from whatever a server that claims to speak it sends."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from typing import Any

from core.providers.failures import failure, failure_inside, unreadable
from core.providers.lenient import count, loads
from core.providers.openai_responses_answer import completion_of
from core.providers.types import Failure, Success, Usage


def parse(status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None) -> Success | Failure:
    """The outcome of an HTTP answer in OpenAI's form. Never raises."""
    if not 200 <= status < 300:
        return failure(status, headers, body, secret=secret)
    try:
        found = loads(body)
    except ValueError:
        return unreadable(status, "the provider's answer is not JSON or is cut off")
    return read_completion(found, status, secret=secret)


def read_completion(found: object, status: int = 200, *, secret: str | None = None) -> Success | Failure:
    """The outcome in a decoded body (of a call or of a line of a batch's output file). Never raises.

    An answer of /v1/responses is translated. What a compatible server may leave out (id, object, created, usage:
    PROVIDERS.md 8) is filled in; an error inside a 200 is a failure.
    """
    if not isinstance(found, dict):
        return unreadable(status, "the provider's answer is not a JSON object")
    if found.get("object") == "response":
        found = completion_of(found)
    if found.get("error"):
        return failure_inside(found, status, secret=secret)
    choices = found.get("choices")
    if not isinstance(choices, list) or not choices:
        return unreadable(status, "the provider's answer has no choices")
    for choice in choices:
        if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
            return unreadable(status, "the provider's answer has a choice without a message")
        if choice.get("finish_reason") == "error":
            return failure_inside({"error": choice.get("error") or {"type": "server_error"}}, status, secret=secret)
    usage = read_usage(found.get("usage"))
    fill_in(found)
    return Success(
        completion=found,
        usage=usage or Usage(),
        model=found["model"],
        usage_reported=usage is not None,
    )


def fill_in(completion: dict[str, Any]) -> None:
    """Give a completion object the fields that OpenAI's SDK counts on."""
    if not isinstance(completion.get("id"), str):
        completion["id"] = f"chatcmpl-{zlib.crc32(repr(completion.get('choices')).encode('utf-8', 'replace')):08x}"
    if completion.get("object") != "chat.completion":
        completion["object"] = "chat.completion"
    if not isinstance(completion.get("created"), int):
        completion["created"] = int(time.time())
    if not isinstance(completion.get("model"), str):
        completion["model"] = ""


def read_usage(found: object) -> Usage | None:
    """OpenAI's usage object; None if there is none. Counters that are absent or no counts are zero."""
    if not isinstance(found, dict) or ("prompt_tokens" not in found and "completion_tokens" not in found):
        return None
    prompt = found.get("prompt_tokens_details")
    completion = found.get("completion_tokens_details")
    cached = written = reasoning = 0
    if isinstance(prompt, dict):
        cached, written = count(prompt.get("cached_tokens")), count(prompt.get("cache_write_tokens"))
    if isinstance(completion, dict):
        reasoning = count(completion.get("reasoning_tokens"))
    return Usage(
        input_tokens=count(found.get("prompt_tokens")),
        output_tokens=count(found.get("completion_tokens")),
        cached_tokens=cached or count(found.get("prompt_cache_hit_tokens")),
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
    )
