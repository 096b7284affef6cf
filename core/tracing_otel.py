"""Traces by OpenTelemetry's SDK, sent as OTLP over HTTP. Imported only where they are switched on."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from core import tracing
from core.settings import settings
from core.tracing import Value

#: Spans that wait to be sent; more are dropped, so that a collector that is away costs no memory.
MAX_WAITING = 8192
#: A batch of spans is sent so often, and given up after; a stop waits for the last one.
SEND_SECONDS, SEND_TIMEOUT_SECONDS = 2.0, 2.0

_KINDS = {
    tracing.SERVER: api.SpanKind.SERVER,
    tracing.CLIENT: api.SpanKind.CLIENT,
    tracing.CONSUMER: api.SpanKind.CONSUMER,
    tracing.INTERNAL: api.SpanKind.INTERNAL,
}
#: The trace id of the next span without a parent.
_next_trace_id: ContextVar[int] = ContextVar("next_trace_id")


class _TraceIds(RandomIdGenerator):
    """Gives a span without a parent the trace that it was started for."""

    def generate_trace_id(self) -> int:
        return _next_trace_id.get()


def trace_id(name: str) -> int:
    """The id of the trace of that name: 128 bits that look random, the same in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest()) or 1


def sampled(found: int, ratio: float) -> bool:
    """Whether a trace is recorded: decided by its id, for all its spans alike."""
    return (found & (1 << 64) - 1) < ratio * (1 << 64)


class OpenTelemetry:
    """Starts the spans of this process and sends them.

    Parameters
    ----------
    process : api, worker or scheduler.
    """

    def __init__(self, process: str) -> None:
        # Attributes that a deployment names (OTEL_RESOURCE_ATTRIBUTES) are added by the SDK.
        resource = Resource.create(
            {"service.name": f"llm-service-{process}", "service.instance.id": f"{os.getpid()}-{secrets.token_hex(4)}"}
        )
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, id_generator=_TraceIds(), shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=settings().traces_url, timeout=SEND_TIMEOUT_SECONDS)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=MAX_WAITING, schedule_delay_millis=SEND_SECONDS * 1000)
        )
        self._tracer = self._provider.get_tracer("llm-service")
        self._ratio = settings().traces_ratio

    def start(
        self, name: str, kind: str, trace: str | None, part_of: str | None, attributes: Mapping[str, Value | None]
    ) -> tracing.Span:
        context: Context | None = None
        if trace is not None:
            found = trace_id(trace)
            if not sampled(found, self._ratio):
                return tracing.NOTHING
            _next_trace_id.set(found)
            context = Context()
        elif not api.get_current_span().is_recording():
            return tracing.NOTHING
        links = [] if part_of is None else [api.Link(_first_of(part_of))]
        plain = {name.replace("__", "."): value for name, value in attributes.items() if value is not None}
        return _Span(self._tracer.start_span(name, context, _KINDS[kind], plain, links))

    def current(self) -> tracing.Span:
        found = api.get_current_span()
        return _Span(found) if found.is_recording() else tracing.NOTHING

    def stop(self) -> None:
        self._provider.shutdown()


def _first_of(name: str) -> api.SpanContext:
    found = trace_id(name)
    return api.SpanContext(found, found >> 64 or 1, is_remote=True, trace_flags=api.TraceFlags(api.TraceFlags.SAMPLED))


class _Span(tracing.Span):
    __slots__ = ("_current", "_span")

    def __init__(self, span: api.Span) -> None:
        self._span = span
        self._current: AbstractContextManager[api.Span] | None = None

    def __enter__(self) -> tracing.Span:
        # What is raised inside may hold a prompt or a key in its message: it is told by `__exit__`, by its type.
        self._current = api.use_span(self._span, record_exception=False, set_status_on_exception=False)
        self._current.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._current is not None:
            self._current.__exit__(None, None, None)
            self._current = None
        if kind is not None:
            self.failed(kind.__name__)
        self.end()

    def name(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, attributes: Mapping[str, Value | None]) -> None:
        self._span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def belongs_to(self, trace: str) -> None:
        self._span.add_link(_first_of(trace))

    def failed(self, reason: str) -> None:
        self._span.set_attribute("error.type", reason)
        self._span.set_status(api.StatusCode.ERROR)

    def end(self) -> None:
        if self._span.is_recording():
            self._span.end()
