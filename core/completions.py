"""Completions in real time: the way of a batch's row without the queue, on the same adapters, limits and prices."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any, Generic, TypeVar
from uuid import UUID

import orjson

from core import budgets, catalogue, connections, db, feedback, limits, metrics_calls, pricing, project_routes, tokens
from core import params as parameters
from core.call import Priced, call, priced
from core.dispatch import live
from core.errors import InvalidInput, NotFound, OverLimit, ProviderFailed, Unavailable
from core.failed_calls import FailedCall, documents
from core.limits import LimitKey
from core.loaded_connections import LoadedConnection
from core.principal import Principal
from core.providers import adapter_for
from core.providers.anthropic_native import params_for
from core.providers.types import Failure, Success, Usage
from core.retry import decide
from core.routing import Route
from core.states import Action, FailureReason, ProviderType, RowStatus

#: Calls to one provider for one completion: the first and its retries.
MAX_CALLS = 3
#: The part of the time left that a route may take while there are others behind it.
SHARE_OF_FIRST = 2 / 3
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

Answer = TypeVar("Answer")
#: Called with an answer, in the transaction that writes its row.
OnCommit = Callable[[bytes, db.RawConnection], None]
#: Makes the caller's own form of a completion object.
Form = Callable[[dict[str, Any]], bytes]
#: One call until a moment (monotonic seconds): an answer, or why there is none.
MakeCall = Callable[[LoadedConnection, Route, float], "Answer | Failure"]


@dataclass(slots=True)
class Attempt(Generic[Answer]):
    """Where a completion stands with one route: the calls so far, and what came of the last."""

    route: Route
    started_at: float
    connection: LoadedConnection | None = None
    calls: int = 0
    outcome: Answer | Failure | None = None
    #: all that failed so far, of the routes before it too; shared with them
    failed: list[FailedCall] = field(default_factory=list)

    def fail(self, failure: Failure, started_at: float) -> None:
        """The outcome of a call begun at `started_at` (epoch seconds)."""
        self.outcome = failure
        self.failed.append(FailedCall(failure, self.route.provider, self.route.model, started_at, time.time()))


class Attempts(Generic[Answer]):
    """Tries a completion's routes in order, each with retries of what is transient, within the time there is.

    `current` is the route being tried, for whoever has to record a completion that was broken off.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self.current: Attempt[Answer] = Attempt(routes[0], time.time())

    def run(self, make: MakeCall[Answer], deadline: float) -> Attempt[Answer]:
        """The attempt that decided: with an answer, or with the failure that the caller hears of.

        Parameters
        ----------
        deadline : monotonic seconds.

        Raises
        ------
        OverLimit
            The limits of every provider leave no room within the time.
        """
        decided: Attempt[Answer] | None = None
        for route in self._routes:
            self.current = Attempt(route, time.time(), failed=self.current.failed)
            left = deadline - time.monotonic()
            # One that hangs must leave the next one time to answer.
            until = deadline if route is self._routes[-1] else deadline - left * (1 - SHARE_OF_FIRST)
            try:
                self._try(self.current, make, until)
            except (OverLimit, Unavailable) as error:
                if self.current.outcome is None:
                    if decided is None and (route is self._routes[-1] or isinstance(error, Unavailable)):
                        raise
                    continue
                # There was no room for another try: the failure of the last one is what is logged and heard of.
            decided = self.current
            if not isinstance(decided.outcome, Failure) or decided.outcome.reason not in _FALL_BACK:
                break
        assert decided is not None
        self.current = decided
        return decided

    def _try(self, attempt: Attempt[Answer], make: MakeCall[Answer], deadline: float) -> None:
        route = attempt.route
        try:
            attempt.connection = connection = connections.load(_id_of(route.connection.id))
        except NotFound:
            gone = Failure(reason=FailureReason.NOT_CONFIGURED, message="the provider was removed")
            attempt.fail(gone, attempt.started_at)
            return
        if route.connection.state != "active":
            stopped = Failure(
                reason=FailureReason.AUTHENTICATION,
                message=f"the {route.provider} key stopped working; replace it with POST /v1/providers",
            )
            attempt.fail(stopped, attempt.started_at)
            return
        while True:
            attempt.calls += 1
            started_at = time.time()
            try:
                outcome = make(connection, route, deadline)
            except (OverLimit, Unavailable):
                # The call was not made.
                attempt.calls -= 1
                raise
            if not isinstance(outcome, Failure):
                attempt.outcome = outcome
                return
            attempt.fail(outcome, started_at)
            if outcome.reason.action is Action.STOP_CONNECTION:
                connections.stop(connection, outcome.reason, outcome.message)
                return
            tried = attempt.calls - 1
            retry = decide(
                outcome.reason, strikes=tried, attempts=tried, retry_after_seconds=outcome.retry_after_seconds
            )
            if retry is None or attempt.calls == MAX_CALLS or time.monotonic() + retry.delay_seconds >= deadline:
                return
            time.sleep(retry.delay_seconds)


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


@lru_cache(maxsize=4096)
def _id_of(connection: str) -> UUID:
    return UUID(connection)


def provider_failed(route: Route, failure: Failure) -> ProviderFailed:
    """The error that tells the caller why no provider answered."""
    return ProviderFailed(
        failure.message,
        reason=failure.reason,
        provider=route.provider,
        provider_status=failure.provider_status,
        retry_after_seconds=failure.retry_after_seconds,
        provider_code=failure.provider_code,
        provider_param=failure.provider_param,
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
        connection_id=_id_of(attempt.route.connection.id),
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
