"""A provider's list of models: the cheapest call that proves a key, since it costs no tokens."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from core.providers.failures import failure, failure_inside, unreadable
from core.providers.types import Failure

#: the longest list that is read; OpenRouter, for one, has hundreds
MAX_MODELS = 2000


def parse_model_list(
    status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None
) -> list[str] | Failure:
    """The ids in the answer to a GET of the model list, in either vendor's form (PROVIDERS.md 6). Never raises.

    A list proves the key and nothing about credit. An OpenAI key may lack the scope for it and still answer chat: a
    Failure with reason PERMISSION is then not the last word on the key.
    """
    if not 200 <= status < 300:
        return failure(status, headers, body, secret=secret)
    try:
        found = orjson.loads(body)
    except ValueError:
        return unreadable(status, "the provider's list of models is not JSON or is cut off")
    if isinstance(found, dict) and found.get("error"):
        return failure_inside(found, status, secret=secret)
    listed = found.get("data") if isinstance(found, dict) else found
    if not isinstance(listed, list):
        return unreadable(status, "the provider's list of models has no data")
    ids = [each.get("id") for each in listed[:MAX_MODELS] if isinstance(each, dict)]
    return [each for each in ids if isinstance(each, str) and len(each) <= 256]
