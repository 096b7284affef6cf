"""Completions in real time: the way of a batch's row without the queue, on the same adapters, limits and prices."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import orjson

from core import budgets, catalogue, db, feedback, limits, metrics_calls, pricing, project_routes, tokens
from core import params as parameters
from core.attempts import Attempt, Attempts, provider_failed
from core.call import Priced, call, priced
from core.dispatch import live
from core.errors import InvalidInput
from core.failed_calls import documents
from core.limits import LimitKey
from core.loaded_connections import LoadedConnection
from core.principal import Principal
from core.providers import adapter_for
from core.providers.anthropic_native import params_for
from core.providers.types import Failure, Success, Usage
from core.routing import Route
from core.states import ProviderType, RowStatus

#: How long an answer waits for its row's commit before it goes out; the row goes on being written.
COMMIT_SECONDS = 10.0

#: Called with an answer, in the transaction that writes its row.
OnCommit = Callable[[bytes, db.RawConnection], None]
#: Makes the caller's own form of a completion object.
Form = Callable[[dict[str, Any]], bytes]


def complete(
    principal: Principal,
    params: dict[str, Any],
    *,
    request_id: str,
    timeout_seconds: float,
    meter: limits.Meter | None = None,
    on_commit: OnCommit | None = None,
    form: Form | None = None,
) -> bytes:
    """One completion: the OpenAI chat completion object with provider, cost_usd and request_id, as JSON or in `form`.

    Its row is committed before this returns. `meter` is told how the limits of the connection stand. `on_commit` is
    called with the answer in the transaction that writes the row.

    Raises
    ------
    InvalidInput
        The request is wrong, or asks what the model cannot do.
    OverLimit
        The provider's limits leave no room within the time.
    ProviderFailed
        No provider answered; carries the reason, the provider's status and its own message.
    BudgetExhausted
        The project's budget has no room for what this can cost.
    """
    deadline = time.monotonic() + timeout_seconds
    found = routes(principal, params)
    with budgets.hold(principal, lambda: ceiling(found, params), seconds=timeout_seconds):
        return _complete(principal, params, found, request_id, deadline, meter, on_commit, form)


def _complete(
    principal: Principal,
    params: dict[str, Any],
    found: list[Route],
    request_id: str,
    deadline: float,
    meter: limits.Meter | None,
    on_commit: OnCommit | None,
    form: Form | None,
) -> bytes:
    def make(connection: LoadedConnection, route: Route, until: float) -> Success | Failure:
        return _call(connection, route, params_for(params, route.provider) or params, until, meter)

    attempts: Attempts[Success] = Attempts(found)
    attempt = attempts.run(make, deadline)
    outcome = attempt.outcome
    if isinstance(outcome, Success):
        assert attempt.connection is not None
        price = priced(outcome, attempt.connection, request_id=request_id)
        logged = partial(
            record,
            principal,
            params,
            attempt,
            request_id,
            RowStatus.SUCCEEDED,
            price=price,
            usage=outcome.usage,
            model=outcome.model,
        )
        try:
            answer = price.body if form is None else form(outcome.completion)
        except Exception:
            # It is paid for, so it is logged, whatever becomes of the answer.
            logged()
            raise
        logged(on_commit=None if on_commit is None else partial(on_commit, answer))
        return answer
    assert outcome is not None
    record(principal, params, attempt, request_id, RowStatus.FAILED, failure=outcome)
    raise provider_failed(attempt.route, outcome)


def routes(principal: Principal, params: dict[str, Any]) -> list[Route]:
    """The first route and its fallbacks, checked against what their models can do. Raises InvalidInput."""
    found = project_routes.of(principal)
    name = params.get("model")
    first = found.route(name) if isinstance(name, str) and name else None
    wrong = parameters.validate(
        params, open_fields=first is not None and first.provider == ProviderType.OPENAI_COMPATIBLE
    )
    if wrong or first is None:
        raise InvalidInput(wrong)
    wrong = adapter_for(first.provider).check(params, catalogue.find(first.model, first.provider))
    if wrong:
        raise InvalidInput(wrong)
    return [first, *(route for route in found.fallbacks(params["model"]) if _able(route, params, first))]


def _able(route: Route, params: dict[str, Any], first: Route) -> bool:
    """Whether a fallback can do what is asked."""
    asked = params_for(params, route.provider)
    if asked is None:
        return False
    if first.provider == ProviderType.OPENAI_COMPATIBLE != route.provider and parameters.validate(asked):
        # Only a compatible server takes fields of its own.
        return False
    return not adapter_for(route.provider).check(asked, catalogue.find(route.model, route.provider))


def ceiling(found: Sequence[Route], params: dict[str, Any]) -> Decimal:
    """What a completion may cost at the dearest of its routes, in USD, as estimated; zero if no price is known."""
    return max(
        pricing.ceiling(
            route.provider,
            route.model,
            *tokens.estimate(params, catalogue.find(route.model, route.provider)),
            service_tier=params.get("service_tier"),
            speed=params.get("speed"),
            inference_geo=params.get("inference_geo"),
        )
        for route in found
    )


def _call(
    connection: LoadedConnection, route: Route, params: dict[str, Any], deadline: float, meter: limits.Meter | None
) -> Success | Failure:
    key = LimitKey(connection.id, limits.family(route.model))
    reserved = tokens.estimate(params, catalogue.find(route.model, route.provider))
    left = deadline - time.monotonic()
    with (
        limits.acquire(key, connection.configured, *reserved, timeout_seconds=max(0.0, left), meter=meter) as permit,
        metrics_calls.LiveCall(route.provider, route.model, permit.waited_seconds) as live_call,
    ):
        left = max(0.001, deadline - time.monotonic())
        called = call(connection, route.model, params, timeout_seconds=left)
        live_call.ended(called.outcome)
        feedback.report(key, reserved, called)
    return called.outcome


def record(
    principal: Principal,
    params: dict[str, Any],
    attempt: Attempt[Any],
    request_id: str,
    status: RowStatus,
    *,
    price: Priced | None = None,
    usage: Usage | None = None,
    model: str | None = None,
    failure: Failure | None = None,
    first_token_ms: int | None = None,
    on_commit: Callable[[db.RawConnection], None] | None = None,
    wait: bool = True,
) -> None:
    """Log a completion that has ended.

    Parameters
    ----------
    price : the answer, or the part of it that came, and its cost.
    model : as the provider calls the one that answered.
    first_token_ms : from the attempt's start to the first piece of a streamed answer.
    on_commit : see `live.LiveRow`.
    wait : return when it is committed, or after COMMIT_SECONDS; without, at once.
    """
    body = orjson.dumps(params)
    row = live.LiveRow(
        tenant_id=principal.tenant_id,
        project_id=principal.project_id,
        status=status,
        model_requested=params["model"],
        model=model or attempt.route.model,
        model_called=attempt.route.model,
        provider=attempt.route.provider,
        connection_id=attempt.connection_id,
        request_id=request_id,
        request_sha256=hashlib.sha256(body).digest(),
        request=body.decode(),
        response=price.body.decode() if price else None,
        usage=usage,
        cost_usd=price.cost_usd if price else None,
        list_cost_usd=price.list_cost_usd if price else None,
        price_version=price.version if price else None,
        attempts=attempt.calls,
        reason=failure.reason if failure else None,
        message=failure.message if failure else None,
        provider_status=failure.provider_status if failure else 200,
        failed_attempts=documents(attempt.failed, failure) if attempt.failed else None,
        started_at=datetime.fromtimestamp(attempt.started_at, UTC),
        ended_at=datetime.now(UTC),
        first_token_ms=first_token_ms,
        on_commit=on_commit,
    )
    if wait:
        live.recorder().commit(row, timeout_seconds=COMMIT_SECONDS)
    else:
        live.recorder().put(row)
