"""What each provider speaks: requests, answers, errors and limits, as pure functions of values (no I/O here)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from core.catalogue import ModelInfo
from core.errors import FieldError
from core.providers.anthropic import Anthropic
from core.providers.compatible import OpenAICompatible
from core.providers.openai import OpenAI
from core.providers.streams import StreamTranslator
from core.providers.types import Failure, LimitReading, ProviderRequest, Success

__all__ = ["Adapter", "adapter_for"]


class Adapter(Protocol):
    """One provider's protocol. Requests come in OpenAI's form and answers leave in it.

    `params` is a completion request that `core.params.validate` found nothing wrong with.
    """

    provider: str

    def check(self, params: Mapping[str, Any], model: ModelInfo) -> list[FieldError]:
        """What this model cannot do of what is asked; empty if it can all be expressed."""

    def build(self, params: Mapping[str, Any], model_id: str, *, stream: bool = False) -> ProviderRequest:
        """The HTTP call, its path relative to the connection's base URL, without the credential.

        Raises InvalidInput for what `check` reports as inexpressible, should the caller not have checked.
        """

    def credential_headers(self, api_key: str, organization: str | None = None) -> dict[str, str]:
        """The headers that carry the credential."""

    def parse(
        self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None
    ) -> Success | Failure:
        """The outcome of an answer that did not stream. Never raises; `secret` is removed from messages."""

    def stream(self, params: Mapping[str, Any], model_id: str = "", *, secret: str | None = None) -> StreamTranslator:
        """A translator for one streamed answer of `model_id` to `params`: a 200 of type text/event-stream."""

    def list_models(self) -> ProviderRequest:
        """The call that lists models and, costing nothing, tests a key."""

    def parse_models(
        self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None
    ) -> list[str] | Failure:
        """The model ids in the answer to `list_models`. Never raises."""

    def limits(self, headers: Mapping[str, str], *, now: float | None = None) -> list[LimitReading]:
        """What the answer's headers say of the connection's limits."""


_ADAPTERS: dict[str, Adapter] = {adapter.provider: adapter for adapter in (OpenAI(), Anthropic(), OpenAICompatible())}


def adapter_for(provider_type: str) -> Adapter:
    """The adapter for a ProviderType or its value. Raises KeyError for anything else."""
    return _ADAPTERS[provider_type]
