"""A provider's streamed answer from the request to its events: whether it begins, and what of it the caller gets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from core import egress, limits
from core.call import MAX_ANSWER_BYTES
from core.connections import LoadedConnection
from core.limits import LimitKey
from core.metrics_calls import LiveCall
from core.providers import adapter_for
from core.providers.failures import unreadable
from core.providers.streams import StreamTranslator
from core.providers.types import Failure
from core.routing import Route


class Opened:
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


def send(connection: LoadedConnection, route: Route, params: dict[str, Any], deadline: float) -> egress.Stream:
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


def begin(
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


def events_of(opened: Opened) -> Iterator[bytes]:
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
