"""POST /v1/messages: one message, whole or as it is produced."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson
from flask import Response

from app import auth, body, event_stream, idempotent, rate_limits, telemetry
from app.answers import raw_answer
from app.anthropic_surface import errors
from app.anthropic_surface.routes import blueprint
from app.anthropic_surface.translation import params_of, told_in_callers_terms
from app.patience import timeout_seconds
from core import catalogue, completions, streaming, tokens
from core.errors import FieldError, InvalidInput
from core.providers.anthropic_native import MessagesParams
from core.providers.from_anthropic_answer import ADDED, message_of
from core.providers.from_anthropic_stream import PING, MessageEvents
from core.routing import Route
from core.settings import settings


@blueprint.post("/v1/messages")
@idempotent.idempotent(lock_seconds=settings().call_timeout_seconds + 30)
def create_message() -> Response:
    """Generate a message and wait for it, or with `stream: true` get it as it is produced."""
    given = body.json_object()
    params, route = params_of(given)
    stream = given.get("stream")
    if stream not in (None, True, False):
        raise InvalidInput([FieldError("/stream", "Input should be a valid boolean")])
    if stream:
        if idempotent.current() is not None:
            message = "a stream cannot be given again; leave out stream or the Idempotency-Key"
            raise InvalidInput([FieldError("/stream", message)])
        return _streamed(params, route)
    with told_in_callers_terms(params):
        made = completions.complete(
            auth.principal(),
            params,
            request_id=telemetry.request_id(),
            timeout_seconds=timeout_seconds(),
            meter=rate_limits.meter(),
            on_commit=idempotent.keeping(),
            form=_message,
        )
    return raw_answer(made)


def _message(completion: dict[str, Any]) -> bytes:
    """The caller's message for a completion object."""
    return orjson.dumps(message_of(completion) | {field: completion[field] for field in ADDED})


def _streamed(params: MessagesParams, route: Route) -> Response:
    for each in (params, params.others):
        if each is not None:
            each |= {"stream": True, "stream_options": {"include_usage": True}}
    request_id = telemetry.request_id()
    with told_in_callers_terms(params):
        chunks = streaming.stream(
            auth.principal(),
            params,
            request_id=request_id,
            timeout_seconds=settings().call_timeout_seconds,
            meter=rate_limits.meter(),
        )
        events = MessageEvents(
            request_id=request_id,
            input_tokens=tokens.estimate(params, catalogue.find(route.model, route.provider))[0],
        )
        return event_stream.stream(
            _Translated(chunks, events),
            error_line=partial(errors.of_stream, answered=request_id),
            keep_alive=PING,
        )


class _Translated:
    """The caller's events for the chunks of a stream; what is thrown in or closed reaches the stream itself."""

    def __init__(self, chunks: Iterator[bytes], events: MessageEvents) -> None:
        self._chunks = chunks
        self._events = events

    def __iter__(self) -> _Translated:
        return self

    def __next__(self) -> bytes:
        while True:
            out = self._events.feed(next(self._chunks))
            if out:
                return out

    def close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()
