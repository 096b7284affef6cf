"""Servers that speak OpenAI's protocol at a base URL of their own: send what the caller gave, expect little back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from core import catalogue
from core.catalogue import ModelInfo, Support
from core.errors import FieldError
from core.providers.headers import openai_limits
from core.providers.openai import DEFAULT_TEMPERATURE, PATH, OpenAI, finish_body
from core.providers.types import LimitReading, ProviderRequest


class OpenAICompatible(OpenAI):
    """The adapter for vLLM, Ollama, Groq, Azure's v1 base and the like (PROVIDERS.md 8)."""

    provider = "openai_compatible"

    def check(self, params: Mapping[str, Any], model: ModelInfo) -> list[FieldError]:
        """Nothing: what such a server can do is only known to it."""
        return []

    def build(self, params: Mapping[str, Any], model_id: str, *, stream: bool = False) -> ProviderRequest:
        """The call: the caller's fields as they are, unknown ones included.

        The default temperature is left out where the model's name is that of a reasoning family.
        """
        body = dict(params)
        body["model"] = model_id
        if "temperature" not in body and catalogue.find(model_id, self.provider).sampling is Support.ALWAYS:
            body["temperature"] = DEFAULT_TEMPERATURE
        # DeepSeek, for one, refuses a conversation that lacks the reasoning it gave (PROVIDERS.md 8).
        finish_body(body, stream, keep="reasoning_content")
        return ProviderRequest(path=PATH, body=orjson.dumps(body), headers={"content-type": "application/json"})

    def limits(self, headers: Mapping[str, str], *, now: float | None = None) -> list[LimitReading]:
        """The x-ratelimit-* family where it can be told by the minute: Groq's request limits, for one, are per day."""
        readings = [_by_minute(reading) for reading in openai_limits(headers)]
        return [reading for reading in readings if reading is not None]


#: How far the window that a reading shows may be off what it is taken for: resets are rounded.
_NEAR = 1.25
_SECOND, _MINUTE, _HOUR, _DAY = 1.0, 60.0, 3600.0, 86400.0


def _by_minute(reading: LimitReading) -> LimitReading | None:
    """A reading as one per minute; None if it may be of another window, and must not be read as one.

    The reset is the time until all of the limit is there again (PROVIDERS.md 4.4). Where it comes back continuously,
    that is the window's share that is used: 6 s for one of 14,400 requests is a day. Servers that count by a window
    give the time that is left of it instead, which may be short in any.
    """
    if reading.kind != "requests":
        return reading
    reset, used = reading.reset_seconds, (reading.limit or 0) - (reading.remaining or 0)
    if not reading.limit or reset is None or reset > _MINUTE:
        return None
    window = reset * reading.limit / used if reading.remaining is not None and used > 0 else 0.0
    if _is_near(window, _MINUTE):
        return reading
    if _is_near(window, _SECOND) and 2 * used < reading.limit:
        # (a window of a minute that is nearly over and used up looks the same). What is left of a second says nothing.
        return LimitReading(kind=reading.kind, limit=reading.limit * 60, remaining=None, reset_seconds=reset)
    if reset <= _SECOND or _is_near(window, _HOUR) or _is_near(window, _DAY):
        return None
    return reading


def _is_near(window: float, seconds: float) -> bool:
    return seconds / _NEAR <= window <= seconds * _NEAR
