"""One call to a provider: built, sent through the egress client, classified, priced. Live and batch rows share it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from core import egress, pricing
from core.egress.errors import BodyFailed, ConnectFailed, EgressError, TimedOut, TooMuchData
from core.errors import AddressRefused, InvalidInput
from core.loaded_connections import LoadedConnection
from core.params import embeddings
from core.providers import adapter_for, openai_embeddings
from core.providers.from_anthropic_answer import NATIVE
from core.providers.types import Failure, LimitReading, Success
from core.states import FailureReason
from core.time_and_money import money_text

#: An answer larger than this is no completion.
MAX_ANSWER_BYTES = 64 << 20


@dataclass(slots=True, kw_only=True)
class Called:
    """What came of a call."""

    outcome: Success | Failure
    #: what the provider's headers say of its limits; not read of every answer
    readings: list[LimitReading]
    started_at: float
    ended_at: float
    #: False if the request cannot have reached the provider
    sent: bool = True


def call(connection: LoadedConnection, model: str, params: dict[str, Any], *, timeout_seconds: float) -> Called:
    """Make the call. Never raises for what a provider or the network does: that is an outcome.

    Parameters
    ----------
    params : a completion request in OpenAI's form, or one for embeddings, checked.
    timeout_seconds : wall-clock limit of the whole call.
    """
    adapter = adapter_for(connection.provider_type)
    embedding = embeddings.asked_for(params)
    started_at = time.time()
    try:
        request = openai_embeddings.build(params, model) if embedding else adapter.build(params, model)
        key = connection.secret.reveal()
        answer = egress.request(
            "POST",
            connection.base_url + request.path,
            headers={**request.headers, **adapter.credential_headers(key, connection.organization)},
            body=request.body,
            timeout_seconds=timeout_seconds,
            max_bytes=MAX_ANSWER_BYTES,
        )
    except (EgressError, AddressRefused, InvalidInput) as error:
        return Called(
            outcome=no_answer(error),
            readings=[],
            started_at=started_at,
            ended_at=time.time(),
            sent=getattr(error, "sent", False),
        )
    ended_at = time.time()
    if embedding:
        outcome = openai_embeddings.parse(answer.status, answer.headers, answer.body, model, secret=key)
    else:
        outcome = adapter.parse(answer.status, answer.headers, answer.body, secret=key)
    return Called(
        outcome=outcome,
        readings=adapter.limits(answer.headers) if _worth_reading(connection, model, answer.status, ended_at) else [],
        started_at=started_at,
        ended_at=ended_at,
    )


#: Headers of answers that come thick and fast say the same: one in so many seconds is read, and each refusal's.
READ_LIMITS_SECONDS = 0.02
_read_at: dict[tuple[UUID, str], float] = {}


def _worth_reading(connection: LoadedConnection, model: str, status: int, now: float) -> bool:
    key = (connection.id, model)
    if status == 200 and now - _read_at.get(key, 0.0) < READ_LIMITS_SECONDS:
        return False
    if len(_read_at) > 10_000:
        _read_at.clear()
    _read_at[key] = now
    return True


def no_answer(error: EgressError | AddressRefused | InvalidInput) -> Failure:
    """The Failure of a call that got no answer, or not the whole of one."""
    match error:
        case AddressRefused():
            reason = FailureReason.ADDRESS_REFUSED
        case InvalidInput(errors=[first, *_]):
            return Failure(reason=FailureReason.INVALID_REQUEST, message=f"{first.pointer}: {first.message}")
        case InvalidInput():
            reason = FailureReason.INVALID_REQUEST
        case TimedOut():
            reason = FailureReason.TIMEOUT
        case TooMuchData():
            reason = FailureReason.INVALID_RESPONSE
        case BodyFailed():
            reason = FailureReason.INTERNAL
        case ConnectFailed() | _:
            reason = FailureReason.NETWORK
    return Failure(reason=reason, message=error.detail)


@dataclass(frozen=True, slots=True)
class Priced:
    """An answer with what it cost, as it is stored and given to the caller."""

    body: bytes
    cost_usd: Decimal | None
    list_cost_usd: Decimal | None
    version: str


def priced(success: Success, connection: LoadedConnection, *, request_id: str, batch: bool = False) -> Priced:
    """The completion object with provider, cost_usd and request_id added. `batch`: the provider's batch API gave it."""
    completion = success.completion
    # Claude says there what was dearer than usual.
    native = (completion.get(NATIVE) or {}).get("usage") or {} if connection.provider_type == "anthropic" else {}
    price = pricing.price(
        connection.provider_type,
        success.model,
        success.usage,
        batch=batch,
        service_tier=completion.get("service_tier"),
        speed=native.get("speed"),
        inference_geo=native.get("inference_geo"),
    )
    completion["provider"] = connection.provider_type
    completion["cost_usd"] = money_text(price.cost_usd)
    completion["request_id"] = request_id
    return Priced(orjson.dumps(completion), price.cost_usd, price.list_cost_usd, price.version)
