"""A completion as it is produced: the provider's events go through as they come, and are counted, priced and logged."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from core import budgets, catalogue, completions, connections, limits, tokens
from core.attempts import Attempt, Attempts, provider_failed
from core.call import Called, no_answer, priced
from core.connections import LoadedConnection
from core.egress.errors import EgressError
from core.errors import AddressRefused, InvalidInput
from core.feedback import report
from core.identity import Principal
from core.limits import LimitKey
from core.metrics_calls import LiveCall
from core.opened_stream import Opened, begin, events_of, send
from core.providers import adapter_for
from core.providers.anthropic_native import params_for
from core.providers.sse import DONE, error_event
from core.providers.types import Failure, LimitReading, Success, Usage
from core.routing import Route
from core.states import Action, FailureReason, RowStatus
from core.stream_events import extended, text_of, without_last
from core.time_and_money import money_text

log = logging.getLogger(__name__)


class CallerGone(BaseException):
    """Thrown into a stream whose caller has gone away: the provider's call is stopped, what was used is logged.

    Not an Exception, so that nothing on the way takes it for a failure of its own.
    """


def stream(
    principal: Principal,
    params: dict[str, Any],
    *,
    request_id: str,
    timeout_seconds: float,
    meter: limits.Meter | None = None,
) -> Iterator[bytes]:
    """One completion as server-sent events in OpenAI's form, each piece as soon as the provider's arrives.

    The request is checked before this returns; the provider is called by the first `next()`, which raises if no
    provider begins to answer. Retries and fallbacks end there. What fails later is an event with `error`, and no DONE.
    The last chunk has provider, cost_usd and request_id; the row is committed before DONE is given. Closing the
    iterator, or throwing CallerGone into it wherever it waits, closes the provider's connection. `meter` is told how
    the limits of the connection stand, before the first event.

    Raises
    ------
    InvalidInput
        The request is wrong, or asks what the model cannot do.
    OverLimit, BudgetExhausted, ProviderFailed
        As `completions.complete`; from the first `next()`.
    """
    found = completions.routes(principal, params)
    deadline = time.monotonic() + timeout_seconds
    streaming = _Streaming(principal, params, request_id, Attempts(found), meter, deadline)
    return _within_budget(principal, lambda: completions.ceiling(found, params), streaming.events(), deadline)


def _within_budget(
    principal: Principal, ceiling: Callable[[], Decimal], events: Iterator[bytes], deadline: float
) -> Iterator[bytes]:
    """The events, while the budget holds what they can cost; closing and throwing pass through."""
    with budgets.hold(principal, ceiling, seconds=max(0.0, deadline - time.monotonic())):
        yield from events


class _Streaming:
    """One streamed completion from its first call to its row."""

    def __init__(
        self,
        principal: Principal,
        params: dict[str, Any],
        request_id: str,
        attempts: Attempts[Opened],
        meter: limits.Meter | None,
        deadline: float,
    ) -> None:
        self._principal = principal
        self._params = params
        self._request_id = request_id
        self._attempts = attempts
        self._meter = meter
        self._deadline = deadline
        #: a call is on its way, and nothing has come of it yet
        self._in_call = False

    def events(self) -> Iterator[bytes]:
        try:
            attempt = self._attempts.run(self._open, self._deadline)
        except Exception:
            raise
        except BaseException:
            self._gone(self._attempts.current, None)
            raise
        opened = attempt.outcome
        assert opened is not None
        if isinstance(opened, Failure):
            self._record(attempt, RowStatus.FAILED, failure=opened)
            raise provider_failed(attempt.route, opened)
        try:
            yield from self._events_of(attempt, opened)
        finally:
            opened.close()

    def _events_of(self, attempt: Attempt[Opened], opened: Opened) -> Iterator[bytes]:
        """The events of an answer that has begun, and its row."""
        held = last = b""
        try:
            for out in events_of(opened):
                ready, held = without_last(held + out if held else out)
                if ready:
                    yield ready
            last, outcome = opened.translator.finish()
        except EgressError as error:
            outcome = opened.translator.interrupted(no_answer(error).reason, error.detail)
            last = error_event(outcome)
        except Exception:
            log.exception("a stream failed", extra={"request_id": self._request_id})
            outcome = opened.translator.interrupted(FailureReason.INTERNAL, "the service failed in mid-stream")
            last = error_event(outcome)
        except BaseException:
            self._gone(attempt, opened)
            raise
        finally:
            opened.release()
        if isinstance(outcome, Failure):
            opened.close()
            self._broken(attempt, opened, outcome)
            yield held + last
            return
        end = self._ended(attempt, opened, outcome, held + last) + DONE
        # While the row was being committed, the rest has come.
        opened.upstream.finish()
        yield end

    def _open(self, connection: LoadedConnection, route: Route, deadline: float) -> Opened | Failure:
        """Call the provider and wait until `deadline` for the first event of its answer."""
        params = params_for(self._params, route.provider) or self._params
        key = LimitKey(connection.id, limits.family(route.model))
        reserved = tokens.estimate(params, catalogue.find(route.model, route.provider))
        permit = limits.acquire(
            key,
            connection.configured,
            *reserved,
            timeout_seconds=max(0.0, deadline - time.monotonic()),
            meter=self._meter,
        )
        live_call = LiveCall(route.provider, route.model, permit.waited_seconds)
        begun = False
        try:
            started_at = time.time()
            readings: list[LimitReading] = []
            self._in_call = True
            try:
                upstream = send(connection, route, params, deadline)
                readings = adapter_for(connection.provider_type).limits(upstream.headers)
                outcome = begin(upstream, connection, route.model, params)
                upstream.run_until(self._deadline)
            except (EgressError, AddressRefused, InvalidInput) as error:
                outcome = no_answer(error)
            self._in_call = False
            if isinstance(outcome, Failure):
                called = Called(outcome=outcome, readings=readings, started_at=started_at, ended_at=time.time())
                live_call.ended(outcome)
                report(key, reserved, called)
                return outcome
            if readings:
                limits.observe(key, readings)
            translator, first = outcome
            begun = True
            live_call.first_chunk()
            return Opened(upstream, translator, first, permit, key, reserved, live_call)
        finally:
            if not begun:
                live_call.close()
                permit.release()

    def _ended(self, attempt: Attempt[Opened], opened: Opened, success: Success, last: bytes) -> bytes:
        """Log an answer that came to its end; its last event with what it cost."""
        if not success.usage_reported:
            success = dataclasses.replace(success, usage=self._estimated(attempt.route, success.completion, None))
        opened.call.ended(success)
        limits.settle(opened.key, opened.reserved, success.usage)
        limits.success(opened.key)
        assert attempt.connection is not None
        price = priced(success, attempt.connection, request_id=self._request_id)
        self._record(attempt, RowStatus.SUCCEEDED, price=price, usage=success.usage, model=success.model)
        extra = {
            "provider": attempt.route.provider,
            "cost_usd": money_text(price.cost_usd),
            "request_id": self._request_id,
        }
        return extended(last, extra)

    def _broken(self, attempt: Attempt[Opened], opened: Opened, failure: Failure) -> None:
        """Log an answer that failed after it had begun."""
        opened.call.ended(failure)
        assert attempt.connection is not None
        if failure.reason.action is Action.STOP_CONNECTION:
            connections.stop(attempt.connection, failure.reason, failure.message)
        elif failure.reason in (FailureReason.RATE_LIMITED, FailureReason.OVERLOADED):
            limits.penalise(opened.key, retry_after_seconds=failure.retry_after_seconds)
        elif failure.reason.action is Action.RETRY:
            limits.failure(opened.key)
        limits.settle(opened.key, opened.reserved, self._record_part(attempt, RowStatus.FAILED, failure))

    def _gone(self, attempt: Attempt[Opened], opened: Opened | None) -> None:
        """Log a completion whose caller did not wait for its end, without keeping anybody waiting."""
        message = "the caller went away"
        if opened is not None:
            failure = opened.translator.interrupted(FailureReason.CANCELLED, message)
            opened.call.ended(failure)
            used = self._record_part(attempt, RowStatus.CANCELLED, failure, wait=False)
            limits.settle(opened.key, opened.reserved, used)
        elif attempt.calls:
            failure = Failure(reason=FailureReason.CANCELLED, message=message)
            if self._in_call:
                self._record_part(attempt, RowStatus.CANCELLED, failure, wait=False)
            else:
                self._record(attempt, RowStatus.CANCELLED, failure=failure, wait=False)

    def _record_part(
        self, attempt: Attempt[Opened], status: RowStatus, failure: Failure, *, wait: bool = True
    ) -> Usage:
        """Log what came of an answer that has no end; what it used."""
        partial = failure.partial or {"model": attempt.route.model, "choices": []}
        usage = self._estimated(attempt.route, partial, failure.usage)
        assert attempt.connection is not None
        success = Success(completion=partial, usage=usage, model=partial["model"], usage_reported=False)
        price = priced(success, attempt.connection, request_id=self._request_id)
        self._record(attempt, status, price=price, usage=usage, model=success.model, failure=failure, wait=wait)
        return usage

    def _record(self, attempt: Attempt[Opened], status: RowStatus, **what: Any) -> None:
        opened = attempt.outcome
        if isinstance(opened, Opened):
            what["first_token_ms"] = max(0, round((opened.began_at - attempt.started_at) * 1000))
        completions.record(self._principal, self._params, attempt, self._request_id, status, **what)

    def _estimated(self, route: Route, completion: dict[str, Any], known: Usage | None) -> Usage:
        """What was used: as far as the provider said so, else estimated from the prompt and from what came."""
        model = catalogue.find(route.model, route.provider)
        known = known or Usage(input_tokens=tokens.estimate(self._params, model)[0])
        produced = tokens.estimate_text(text_of(completion), model)
        return dataclasses.replace(known, output_tokens=max(known.output_tokens, produced))
