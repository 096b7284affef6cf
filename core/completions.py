"""Completions in real time: the way of a batch's row without the queue, on the same adapters, limits and prices."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from core import catalogue, connections, feedback, limits, project_routes, tokens
from core import params as parameters
from core.call import Priced, call, priced
from core.connections import LoadedConnection
from core.dispatch import live
from core.errors import InvalidInput, NotFound, OverLimit, ProviderFailed
from core.identity import Principal
from core.limits import LimitKey
from core.providers import adapter_for
from core.providers.types import Failure, Success
from core.retry import decide
from core.routing import Route
from core.states import Action, FailureReason, ProviderType, RowStatus

#: Calls to one provider for one completion: the first and its retries.
MAX_CALLS = 3
#: Reasons for which the next provider of a mapping is tried.
_FALL_BACK = frozenset(
    {
        FailureReason.NETWORK,
        FailureReason.TIMEOUT,
        FailureReason.RATE_LIMITED,
        FailureReason.OVERLOADED,
        FailureReason.PROVIDER_ERROR,
        FailureReason.INVALID_RESPONSE,
        FailureReason.QUOTA_EXHAUSTED,
        FailureReason.AUTHENTICATION,
        FailureReason.PERMISSION,
        FailureReason.NOT_CONFIGURED,
    }
)
#: How long an answer waits for its row's commit before it goes out; the row goes on being written.
COMMIT_SECONDS = 10.0


@dataclass(slots=True)
class _Attempted:
    """Where a completion stands after the calls to one route."""

    route: Route
    calls: int
    started_at: float
    outcome: Success | Failure
    price: Priced | None = None


def complete(principal: Principal, params: dict[str, Any], *, request_id: str, timeout_seconds: float) -> bytes:
    """One completion: the OpenAI chat completion object with provider, cost_usd and request_id, as JSON.

    Its row is committed before this returns.

    Raises
    ------
    InvalidInput
        The request is wrong, or asks what the model cannot do.
    OverLimit
        The provider's limits leave no room within the time.
    ProviderFailed
        No provider answered; carries the reason, the provider's status and its own message.
    """
    deadline = time.monotonic() + timeout_seconds
    routes = _routes(principal, params)
    attempted: _Attempted | None = None
    for route in routes:
        last = attempted
        try:
            attempted = _try(route, params, request_id, deadline)
        except OverLimit:
            if route is routes[-1] and last is None:
                raise
            continue
        if isinstance(attempted.outcome, Success) or attempted.outcome.reason not in _FALL_BACK:
            break
    assert attempted is not None
    _record(principal, params, attempted, request_id)
    if isinstance(attempted.outcome, Failure):
        raise ProviderFailed(
            attempted.outcome.message,
            reason=attempted.outcome.reason,
            provider=attempted.route.provider,
            provider_status=attempted.outcome.provider_status,
            retry_after_seconds=attempted.outcome.retry_after_seconds,
        )
    assert attempted.price is not None
    return attempted.price.body


def _routes(principal: Principal, params: dict[str, Any]) -> list[Route]:
    """The first route and its fallbacks, checked against what their models can do."""
    routes = project_routes.of(principal)
    name = params.get("model")
    first = routes.route(name) if isinstance(name, str) and name else None
    wrong = parameters.validate(
        params, open_fields=first is not None and first.provider == ProviderType.OPENAI_COMPATIBLE
    )
    if wrong or first is None:
        raise InvalidInput(wrong)
    wrong = adapter_for(first.provider).check(params, catalogue.find(first.model, first.provider))
    if wrong:
        raise InvalidInput(wrong)
    able = [
        route
        for route in routes.fallbacks(params["model"])
        if not adapter_for(route.provider).check(params, catalogue.find(route.model, route.provider))
    ]
    return [first, *able]


def _try(route: Route, params: dict[str, Any], request_id: str, deadline: float) -> _Attempted:
    """Call one route, with retries of what is transient, within the time that is left."""
    started_at = time.time()
    try:
        connection = connections.load(UUID(route.connection.id))
    except NotFound:
        gone = Failure(reason=FailureReason.NOT_CONFIGURED, message="the provider was removed")
        return _Attempted(route, 0, started_at, gone)
    if route.connection.state != "active":
        stopped = Failure(
            reason=FailureReason.AUTHENTICATION,
            message=f"the {route.provider} key stopped working; replace it with POST /v1/providers",
        )
        return _Attempted(route, 0, started_at, stopped)
    for calls in range(1, MAX_CALLS + 1):
        outcome = _call(connection, route, params, deadline)
        if isinstance(outcome, Success):
            return _Attempted(route, calls, started_at, outcome, priced(outcome, connection, request_id=request_id))
        if outcome.reason.action is Action.STOP_CONNECTION:
            connections.stop(connection, outcome.reason, outcome.message)
            break
        retry = decide(
            outcome.reason, strikes=calls - 1, attempts=calls - 1, retry_after_seconds=outcome.retry_after_seconds
        )
        if retry is None or calls == MAX_CALLS or time.monotonic() + retry.delay_seconds >= deadline:
            break
        time.sleep(retry.delay_seconds)
    return _Attempted(route, calls, started_at, outcome)


def _call(connection: LoadedConnection, route: Route, params: dict[str, Any], deadline: float) -> Success | Failure:
    key = LimitKey(connection.id, limits.family(route.model))
    reserved = tokens.estimate(params, catalogue.find(route.model, route.provider))
    left = deadline - time.monotonic()
    with limits.acquire(key, connection.configured, *reserved, timeout_seconds=max(0.0, left)):
        left = max(0.001, deadline - time.monotonic())
        called = call(connection, route.model, params, timeout_seconds=left)
        feedback.report(key, reserved, called)
    return called.outcome


def _record(principal: Principal, params: dict[str, Any], attempted: _Attempted, request_id: str) -> None:
    body = orjson.dumps(params)
    outcome, price = attempted.outcome, attempted.price
    failed = outcome if isinstance(outcome, Failure) else None
    live.recorder().commit(
        live.LiveRow(
            tenant_id=principal.tenant_id,
            project_id=principal.project_id,
            status=RowStatus.FAILED if failed else RowStatus.SUCCEEDED,
            model_requested=params["model"],
            model=outcome.model if isinstance(outcome, Success) else attempted.route.model,
            provider=attempted.route.provider,
            connection_id=UUID(attempted.route.connection.id),
            request_id=request_id,
            request_sha256=hashlib.sha256(body).digest(),
            request=body.decode(),
            response=price.body.decode() if price else None,
            usage=outcome.usage if isinstance(outcome, Success) else None,
            cost_usd=price.cost_usd if price else None,
            list_cost_usd=price.list_cost_usd if price else None,
            price_version=price.version if price else None,
            attempts=attempted.calls,
            reason=failed.reason if failed else None,
            message=failed.message if failed else None,
            provider_status=failed.provider_status if failed else 200,
            started_at=datetime.fromtimestamp(attempted.started_at, UTC),
            ended_at=datetime.now(UTC),
        ),
        timeout_seconds=COMMIT_SECONDS,
    )
