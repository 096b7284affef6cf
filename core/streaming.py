"""A completion as it is produced: the provider's events go through as they come, and are counted, priced and logged."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import orjson

from core import budgets, catalogue, completions, connections, egress, limits, tokens
from core.call import MAX_ANSWER_BYTES, Called, no_answer, priced
from core.completions import Attempt, Attempts
from core.connections import LoadedConnection
from core.egress.errors import EgressError
from core.errors import AddressRefused, InvalidInput
from core.feedback import report
from core.identity import Principal
from core.limits import LimitKey
from core.metrics_calls import LiveCall
from core.providers import adapter_for
from core.providers.anthropic_native import params_for
from core.providers.failures import unreadable
from core.providers.sse import DONE, error_event
from core.providers.streams import StreamTranslator
from core.providers.types import Failure, LimitReading, Success, Usage
from core.routing import Route
from core.states import Action, FailureReason, RowStatus
from core.time_and_money import money_text

log = logging.getLogger(__name__)

#: An event with one of these may be the caller's last. They are in no text of an answer: its quotes are escaped.
_LAST_EVENT_MARKS = (b'"finish_reason":"', b'"finish_reason": "', b'"choices":[]', b'"choices": []')


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


class _Opened:
    """A provider's answer that has begun."""

    __slots__ = ("_permit", "began_at", "call", "first", "key", "reserved", "translator", "upstream")

    def __init__(
        self,
        upstream: egress.Stream,
        translator: StreamTranslator,
        first: bytes,
        permit: limits.Permit,
        key: LimitKey,
        reserved: tuple[int, int],
        call: LiveCall,
    ) -> None:
        self.upstream = upstream
        self.call = call
        self.translator = translator
        self.first = first
        self.began_at = time.time()
        self._permit = permit
        self.key = key
        self.reserved = reserved

    def release(self) -> None:
        """The call takes up no room any more."""
        self._permit.release()

    def close(self) -> None:
        self.upstream.close()
        self.release()


class _Streaming:
    """One streamed completion from its first call to its row."""

    def __init__(
        self,
        principal: Principal,
        params: dict[str, Any],
        request_id: str,
        attempts: Attempts[_Opened],
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
            raise completions.provider_failed(attempt.route, opened)
        try:
            yield from self._events_of(attempt, opened)
        finally:
            opened.close()

    def _events_of(self, attempt: Attempt[_Opened], opened: _Opened) -> Iterator[bytes]:
        """The events of an answer that has begun, and its row."""
        held = last = b""
        try:
            for out in _translated(opened):
                ready, held = _without_last(held + out if held else out)
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

    def _open(self, connection: LoadedConnection, route: Route, deadline: float) -> _Opened | Failure:
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
                upstream = _send(connection, route, params, deadline)
                readings = adapter_for(connection.provider_type).limits(upstream.headers)
                outcome = _begun(upstream, connection, route.model, params)
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
            return _Opened(upstream, translator, first, permit, key, reserved, live_call)
        finally:
            if not begun:
                live_call.close()
                permit.release()

    def _ended(self, attempt: Attempt[_Opened], opened: _Opened, success: Success, last: bytes) -> bytes:
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
        return _extended(last, extra)

    def _broken(self, attempt: Attempt[_Opened], opened: _Opened, failure: Failure) -> None:
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

    def _gone(self, attempt: Attempt[_Opened], opened: _Opened | None) -> None:
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
        self, attempt: Attempt[_Opened], status: RowStatus, failure: Failure, *, wait: bool = True
    ) -> Usage:
        """Log what came of an answer that has no end; what it used."""
        partial = failure.partial or {"model": attempt.route.model, "choices": []}
        usage = self._estimated(attempt.route, partial, failure.usage)
        assert attempt.connection is not None
        success = Success(completion=partial, usage=usage, model=partial["model"], usage_reported=False)
        price = priced(success, attempt.connection, request_id=self._request_id)
        self._record(attempt, status, price=price, usage=usage, model=success.model, failure=failure, wait=wait)
        return usage

    def _record(self, attempt: Attempt[_Opened], status: RowStatus, **what: Any) -> None:
        opened = attempt.outcome
        if isinstance(opened, _Opened):
            what["first_token_ms"] = max(0, round((opened.began_at - attempt.started_at) * 1000))
        completions.record(self._principal, self._params, attempt, self._request_id, status, **what)

    def _estimated(self, route: Route, completion: dict[str, Any], known: Usage | None) -> Usage:
        """What was used: as far as the provider said so, else estimated from the prompt and from what came."""
        model = catalogue.find(route.model, route.provider)
        known = known or Usage(input_tokens=tokens.estimate(self._params, model)[0])
        produced = tokens.estimate_text(_text_of(completion), model)
        return dataclasses.replace(known, output_tokens=max(known.output_tokens, produced))


def _send(connection: LoadedConnection, route: Route, params: dict[str, Any], deadline: float) -> egress.Stream:
    adapter = adapter_for(connection.provider_type)
    request = adapter.build(params, route.model, stream=True)
    credential = adapter.credential_headers(connection.secret.reveal(), connection.organization)
    return egress.stream(
        request.method,
        connection.base_url + request.path,
        headers={"accept": "text/event-stream", **request.headers, **credential},
        body=request.body,
        timeout_seconds=max(0.001, deadline - time.monotonic()),
        max_bytes=MAX_ANSWER_BYTES,
    )


def _begun(
    upstream: egress.Stream, connection: LoadedConnection, model: str, params: dict[str, Any]
) -> tuple[StreamTranslator, bytes] | Failure:
    """The translator and the first events for the caller, or why there are none; then the connection is closed."""
    adapter = adapter_for(connection.provider_type)
    secret = connection.secret.reveal()
    begun = False
    try:
        if upstream.status != 200 or not _is_event_stream(upstream):
            answer = adapter.parse(upstream.status, upstream.headers, upstream.read(), secret=secret)
            if isinstance(answer, Failure):
                return answer
            return unreadable(upstream.status, "the provider did not stream its answer")
        translator = adapter.stream(params, model, secret=secret)
        for piece in upstream:
            first = translator.feed(piece)
            if b"data:" in first:
                begun = True
                return translator, first
            if translator.ended:
                break
        _, outcome = translator.finish()
        return outcome if isinstance(outcome, Failure) else unreadable(200, "the provider's stream is empty")
    finally:
        if not begun:
            upstream.close()


def _is_event_stream(upstream: egress.Stream) -> bool:
    return (upstream.headers.get("content-type") or "").strip().lower().startswith("text/event-stream")


def _translated(opened: _Opened) -> Iterator[bytes]:
    """The caller's events, as the provider's arrive."""
    yield opened.first
    translator = opened.translator
    while not translator.ended:
        piece = next(opened.upstream, None)
        if piece is None:
            return
        out = translator.feed(piece)
        if out:
            yield out


def _without_last(events: bytes) -> tuple[bytes, bytes]:
    """Events that can go out, and one at their end that is kept back: it may be the last, which says what it cost."""
    before = events.rfind(b"\n\n", 0, -2)
    start = before + 2 if before >= 0 else 0
    last = events[start:] if start else events
    for mark in _LAST_EVENT_MARKS:
        if mark in last:
            return events[:start], last
    return events, b""


def _extended(events: bytes, extra: dict[str, Any]) -> bytes:
    """The same events, the last one's object with more fields."""
    end = events.rstrip(b"\n")
    if not end.endswith(b"}"):
        return events
    return end[:-1] + b"," + orjson.dumps(extra)[1:] + b"\n\n"


def _text_of(completion: dict[str, Any]) -> str:
    """All that a model wrote: content, refusals, reasoning, arguments of calls."""
    pieces = []
    for choice in completion["choices"]:
        message = choice["message"]
        pieces += [message.get(field) for field in ("content", "refusal", "reasoning_content", "reasoning")]
        for call in message.get("tool_calls") or ():
            body = call.get(call.get("type")) or {}
            pieces += [body.get("name"), body.get("arguments") or body.get("input")]
    return "".join(piece for piece in pieces if isinstance(piece, str))
