"""Embeddings: passed through to OpenAI and compatible servers under the same limits, prices and log as completions."""

from __future__ import annotations

import time
from decimal import Decimal
from functools import partial
from typing import Any

import orjson

from core import budgets, catalogue, completions, egress, limits, pricing, project_routes
from core.attempts import Attempts, provider_failed
from core.call import MAX_ANSWER_BYTES, Called, Priced, no_answer
from core.egress.errors import EgressError
from core.errors import AddressRefused, InvalidInput
from core.feedback import report
from core.limits import LimitKey
from core.loaded_connections import LoadedConnection
from core.metrics_calls import EMBEDDINGS, LiveCall
from core.params import embeddings as asked
from core.principal import Principal
from core.providers import adapter_for, openai_embeddings
from core.providers.types import Failure, Success
from core.routing import Route
from core.states import RowStatus

#: The provider's own answer, with what was read from it.
_Answer = tuple[Success, bytes]


def embed(
    principal: Principal,
    params: dict[str, Any],
    *,
    request_id: str,
    timeout_seconds: float,
    meter: limits.Meter | None = None,
    on_commit: completions.OnCommit | None = None,
) -> bytes:
    """The provider's answer as it came; its row, which keeps no vectors, is committed before this returns.

    Parameters
    ----------
    on_commit : as for `completions.complete`.

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
        return _embed(principal, params, routes, request_id, deadline, meter, on_commit)


def _embed(
    principal: Principal,
    params: dict[str, Any],
    routes: list[Route],
    request_id: str,
    deadline: float,
    meter: limits.Meter | None,
    on_commit: completions.OnCommit | None,
) -> bytes:
    attempts: Attempts[_Answer] = Attempts(routes)
    attempt = attempts.run(lambda connection, route, until: _call(connection, route, params, until, meter), deadline)
    outcome = attempt.outcome
    assert outcome is not None
    if isinstance(outcome, Failure):
        completions.record(principal, params, attempt, request_id, RowStatus.FAILED, failure=outcome)
        raise provider_failed(attempt.route, outcome)
    success, body = outcome
    price = _priced(success, attempt.route)
    ended = RowStatus.SUCCEEDED
    completions.record(
        principal,
        params,
        attempt,
        request_id,
        ended,
        price=price,
        usage=success.usage,
        model=success.model,
        on_commit=None if on_commit is None else partial(on_commit, body),
    )
    return body


def _routes(principal: Principal, params: dict[str, Any]) -> list[Route]:
    wrong = asked.validate(params)
    if wrong:
        raise InvalidInput(wrong)
    name = params["model"]
    routes = project_routes.of(principal)
    found = [routes.route(name), *routes.fallbacks(name)]
    able = [route for route in found if not asked.check(route.provider, route.model)]
    if not able:
        raise InvalidInput(asked.check(found[0].provider, found[0].model))
    return able


def _call(
    connection: LoadedConnection, route: Route, params: dict[str, Any], deadline: float, meter: limits.Meter | None
) -> _Answer | Failure:
    key = LimitKey(connection.id, limits.family(route.model))
    reserved = (_estimate(params, route), 0)
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
        request = openai_embeddings.build(params, route.model)
        started_at = time.time()
        secret = connection.secret.reveal()
        outcome: Success | Failure
        body, readings = b"", []
        try:
            answer = egress.request(
                request.method,
                connection.base_url + request.path,
                headers={**request.headers, **adapter.credential_headers(secret, connection.organization)},
                body=request.body,
                timeout_seconds=max(0.001, deadline - time.monotonic()),
                max_bytes=MAX_ANSWER_BYTES,
            )
        except (EgressError, AddressRefused) as error:
            outcome = no_answer(error)
        else:
            body, readings = answer.body, adapter.limits(answer.headers)
            outcome = openai_embeddings.parse(answer.status, answer.headers, body, route.model, secret=secret)
        live_call.ended(outcome)
        report(key, reserved, Called(outcome=outcome, readings=readings, started_at=started_at, ended_at=time.time()))
    return outcome if isinstance(outcome, Failure) else (outcome, body)


def _priced(success: Success, route: Route) -> Priced:
    known = success.model if pricing.card_for(route.provider, success.model) else route.model
    price = pricing.price(route.provider, known, success.usage)
    kept = orjson.dumps(openai_embeddings.without_vectors(success.completion))
    return Priced(kept, price.cost_usd, price.list_cost_usd, price.version)


def _ceiling(routes: list[Route], params: dict[str, Any]) -> Decimal:
    """The most it can cost at the dearest of its routes, in USD; zero if no price is known."""
    return max(pricing.ceiling(route.provider, route.model, _estimate(params, route), 0) for route in routes)


def _estimate(params: dict[str, Any], route: Route) -> int:
    return asked.estimate(params, catalogue.find(route.model, route.provider))
