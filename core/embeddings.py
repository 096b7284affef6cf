"""Embeddings: passed through to OpenAI and compatible servers under the same limits, prices and log as completions."""

from __future__ import annotations

import importlib.metadata
import time
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson

from core import budgets, catalogue, completions, egress, limits, pricing, project_routes, tokens
from core.call import MAX_ANSWER_BYTES, Called, Priced, no_answer
from core.completions import Attempts
from core.connections import LoadedConnection
from core.egress.errors import EgressError
from core.errors import AddressRefused, FieldError, InvalidInput
from core.feedback import report
from core.identity import Principal
from core.limits import LimitKey
from core.metrics_calls import EMBEDDINGS, LiveCall
from core.providers import adapter_for
from core.providers.failures import failure, unreadable
from core.providers.types import Failure, Success, Usage
from core.routing import Route
from core.states import ProviderType, RowStatus

PATH = "/embeddings"
#: OpenAI's limit of inputs in one request
MAX_INPUTS = 2048
_FIELDS = frozenset({"model", "input", "encoding_format", "dimensions", "user"})

#: The provider's own answer, with what was read from it.
_Answer = tuple[Success, bytes]


def embed(
    principal: Principal,
    params: dict[str, Any],
    *,
    request_id: str,
    timeout_seconds: float,
    meter: limits.Meter | None = None,
) -> bytes:
    """The provider's answer as it came; its row, which keeps no vectors, is committed before this returns.

    Raises
    ------
    InvalidInput
        The request is wrong, or the model's provider has no embeddings.
    OverLimit, BudgetExhausted, ProviderFailed
        As `completions.complete`.
    """
    deadline = time.monotonic() + timeout_seconds
    routes = _routes(principal, params)
    with budgets.hold(principal, lambda: _ceiling(routes, params), seconds=timeout_seconds):
        return _embed(principal, params, routes, request_id, deadline, meter)


def _embed(
    principal: Principal,
    params: dict[str, Any],
    routes: list[Route],
    request_id: str,
    deadline: float,
    meter: limits.Meter | None,
) -> bytes:
    attempts: Attempts[_Answer] = Attempts(routes)
    attempt = attempts.run(lambda connection, route: _call(connection, route, params, deadline, meter), deadline)
    outcome = attempt.outcome
    assert outcome is not None
    if isinstance(outcome, Failure):
        completions.record(principal, params, attempt, request_id, RowStatus.FAILED, failure=outcome)
        raise completions.provider_failed(attempt.route, outcome)
    success, body = outcome
    price = _priced(success, attempt.route)
    ended = RowStatus.SUCCEEDED
    completions.record(
        principal, params, attempt, request_id, ended, price=price, usage=success.usage, model=success.model
    )
    return body


def _routes(principal: Principal, params: dict[str, Any]) -> list[Route]:
    wrong = [FieldError(f"/{name}", "is not a known field") for name in params.keys() - _FIELDS]
    name = params.get("model")
    if not isinstance(name, str) or not name:
        wrong.append(FieldError("/model", "is required: the name of a model, such as text-embedding-3-small"))
    wrong += _check_input(params.get("input"))
    if wrong:
        raise InvalidInput(wrong)
    assert isinstance(name, str)
    routes = project_routes.of(principal)
    # OpenAI's models for this are not named like its others.
    plain = name.startswith("text-embedding-") and name not in routes.mapping
    found = [routes.route(f"{ProviderType.OPENAI}/{name}" if plain else name), *routes.fallbacks(name)]
    able = [route for route in found if route.provider != ProviderType.ANTHROPIC]
    if not able:
        raise InvalidInput([FieldError("/model", f"{found[0].provider} has no embeddings")])
    return able


def _check_input(given: object) -> list[FieldError]:
    if isinstance(given, str) and given:
        return []
    if isinstance(given, list) and 1 <= len(given) <= MAX_INPUTS:
        if all(isinstance(each, str) and each for each in given):
            return []
        if all(type(each) is int for each in given):
            return []
        if all(isinstance(each, list) and each and all(type(token) is int for token in each) for each in given):
            return []
    return [FieldError("/input", f"must be a text, or a list of 1 to {MAX_INPUTS} texts or lists of tokens")]


def _call(
    connection: LoadedConnection, route: Route, params: dict[str, Any], deadline: float, meter: limits.Meter | None
) -> _Answer | Failure:
    key = LimitKey(connection.id, limits.family(route.model))
    reserved = (_estimate(params["input"], route), 0)
    with (
        limits.acquire(
            key,
            connection.configured,
            *reserved,
            timeout_seconds=max(0.0, deadline - time.monotonic()),
            meter=meter,
        ) as permit,
        LiveCall(route.provider, route.model, permit.waited_seconds, operation=EMBEDDINGS) as live_call,
    ):
        adapter = adapter_for(connection.provider_type)
        started_at = time.time()
        secret = connection.secret.reveal()
        outcome: Success | Failure
        body, readings = b"", []
        try:
            answer = egress.request(
                "POST",
                connection.base_url + PATH,
                headers={
                    "content-type": "application/json",
                    **adapter.credential_headers(secret, connection.organization),
                },
                body=orjson.dumps({**params, "model": route.model}),
                timeout_seconds=max(0.001, deadline - time.monotonic()),
                max_bytes=MAX_ANSWER_BYTES,
            )
        except (EgressError, AddressRefused) as error:
            outcome = no_answer(error)
        else:
            body, readings = answer.body, adapter.limits(answer.headers)
            if answer.status == 200:
                outcome = _read(body, route)
            else:
                outcome = failure(answer.status, answer.headers, body, secret=secret)
        live_call.ended(outcome)
        report(key, reserved, Called(outcome=outcome, readings=readings, started_at=started_at, ended_at=time.time()))
    return outcome if isinstance(outcome, Failure) else (outcome, body)


def _read(body: bytes, route: Route) -> Success | Failure:
    """What the log and the bill need of an answer."""
    try:
        found = orjson.loads(body)
        count = len(found["data"])
    except (ValueError, TypeError, KeyError):
        return unreadable(200, "the provider's answer has no embeddings")
    used = found.get("usage")
    used = used.get("prompt_tokens") if isinstance(used, dict) else None
    model = found.get("model")
    return Success(
        completion={"object": "list", "model": model, "usage": found.get("usage"), "embeddings": count},
        usage=Usage(input_tokens=used if type(used) is int and used >= 0 else 0),
        model=model if isinstance(model, str) else route.model,
        usage_reported=used is not None,
    )


def _priced(success: Success, route: Route) -> Priced:
    card = _card(route.provider, success.model) or _card(route.provider, route.model)
    price = pricing.price(
        route.provider, success.model, success.usage, overrides={success.model: card} if card else None
    )
    return Priced(orjson.dumps(success.completion), price.cost_usd, price.list_cost_usd, price.version)


def _ceiling(routes: list[Route], params: dict[str, Any]) -> Decimal:
    """The most it can cost at the dearest of its routes, in USD; zero if no price is known."""
    found = Decimal(0)
    for route in routes:
        card = _card(route.provider, route.model)
        if card is not None:
            overrides = {route.model: card}
            size = _estimate(params["input"], route)
            found = max(found, pricing.ceiling(route.provider, route.model, size, 0, overrides=overrides))
    return found


@lru_cache(maxsize=256)
def _card(provider: str, model: str) -> pricing.RateCard | None:
    """What a model that has input only costs; None if no list has it."""
    from genai_prices.data_snapshot import get_snapshot

    if provider != ProviderType.OPENAI:
        return None
    try:
        _, found = get_snapshot().find_provider_model(model, None, provider, None)
        prices = found.get_prices(datetime.now(tz=UTC))
    except LookupError:
        return None
    if prices.input_mtok is None or prices.output_mtok is not None:
        return None
    entry = {"input_per_mtok_usd": prices.input_mtok, "output_per_mtok_usd": 0}
    return pricing.rate_card(entry, "genai-prices-" + importlib.metadata.version("genai-prices"))


def _estimate(given: str | list[Any], route: Route) -> int:
    model = catalogue.find(route.model, route.provider)
    if isinstance(given, str):
        return tokens.estimate_text(given, model)
    return sum(
        1 if isinstance(each, int) else tokens.estimate_text(each, model) if isinstance(each, str) else len(each)
        for each in given
    )
