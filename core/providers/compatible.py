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
        """The x-ratelimit-* family where it means a minute: Groq's request limits, for one, are per day."""
        return [
            reading
            for reading in openai_limits(headers)
            if reading.kind != "requests" or (reading.reset_seconds is not None and reading.reset_seconds <= 60)
        ]
