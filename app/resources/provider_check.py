"""Whether a stored provider key works: asks the provider for its models, with that key and at that address."""

from __future__ import annotations

import time
from typing import Any

import orjson

from core import connections, egress
from core.egress import AddressRefused, EgressError
from core.providers import adapter_for
from core.providers.anthropic import VERSION
from core.providers.types import Failure
from core.states import ProviderType
from core.tables.connections import Connection

TIMEOUT_SECONDS = 15.0
MAX_ANSWER_BYTES = 4 << 20
#: Names of models that an answer carries at the most.
MAX_MODELS = 1000


def check(row: Connection) -> dict[str, Any]:
    """{"ok", "providerType", "latencyMs", "models" or "error"}; what the network or the provider does is an outcome.

    The models' list costs nothing at either vendor, and an OpenAI-compatible server has it too (PROVIDERS.md 1).
    """
    adapter = adapter_for(row.provider_type)
    secret = connections.credential(row).reveal()
    url = connections.resolved_base_url(row) + "/models"
    headers = adapter.credential_headers(secret, row.organization)
    if row.provider_type == ProviderType.ANTHROPIC:
        url = connections.resolved_base_url(row) + "/v1/models?limit=1000"
        headers["anthropic-version"] = VERSION
    found: dict[str, Any] = {"ok": False, "providerType": row.provider_type, "latencyMs": None}
    started = time.perf_counter()
    try:
        answered = egress.request(
            "GET", url, headers=headers, timeout_seconds=TIMEOUT_SECONDS, max_bytes=MAX_ANSWER_BYTES
        )
    except (EgressError, AddressRefused, ValueError) as error:
        detail = getattr(error, "detail", "The key or organization holds characters that HTTP cannot carry.")
        return {**found, "error": detail}
    found["latencyMs"] = round((time.perf_counter() - started) * 1000)
    if answered.status == 200:
        models = _models(answered.body)
        if models is None:
            return {**found, "error": "The provider's answer is not a list of models."}
        return {**found, "ok": True, "models": models}
    outcome = adapter.parse(answered.status, answered.headers, answered.body, secret=secret)
    message = outcome.message if isinstance(outcome, Failure) else "unexpected answer"
    return {**found, "error": f"{answered.status}: {message}"}


def _models(body: bytes) -> list[str] | None:
    """The ids in {"data": [{"id": ...}]}, as both vendors answer."""
    try:
        listed = orjson.loads(body)["data"]
        return [str(each["id"]) for each in listed[:MAX_MODELS]]
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        return None
