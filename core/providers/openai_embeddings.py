"""Embeddings as OpenAI and compatible servers speak them: the call, and what its answer says of usage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from core.providers.failures import failure, unreadable
from core.providers.lenient import count
from core.providers.types import Failure, ProviderRequest, Success, Usage

PATH = "/embeddings"


def build(params: Mapping[str, Any], model_id: str) -> ProviderRequest:
    """The call for `params`, valid, to `model_id`."""
    body = orjson.dumps({**params, "model": model_id})
    return ProviderRequest(path=PATH, body=body, headers={"content-type": "application/json"})


def parse(
    status: int, headers: Mapping[str, str], body: bytes, model_id: str, *, secret: str | None = None
) -> Success | Failure:
    """The outcome of the call, the vectors in it. Never raises; `secret` is removed from a failure's message."""
    if status != 200:
        return failure(status, headers, body, secret=secret)
    try:
        found = orjson.loads(body)
        len(found["data"])
    except (ValueError, TypeError, KeyError):
        return unreadable(status, "the provider's answer has no embeddings")
    used, model = found.get("usage"), found.get("model")
    tokens = used.get("prompt_tokens") if isinstance(used, dict) else None
    return Success(
        completion=found,
        usage=Usage(input_tokens=count(tokens)),
        model=model if isinstance(model, str) else model_id,
        usage_reported=tokens is not None,
    )


def without_vectors(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What the log of a live call keeps of an answer."""
    return {
        "object": "list",
        "model": answer.get("model"),
        "usage": answer.get("usage"),
        "embeddings": len(answer["data"]),
    }
