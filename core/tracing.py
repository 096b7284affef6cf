"""Traces: what a request, a claim, a row, a provider call and a webhook took, for OpenTelemetry; off by default.

Nothing of OpenTelemetry is imported while LLM_SERVICE_TRACES_URL is empty, and then a span costs one call that does
nothing. No trace context travels in messages, tables or headers: the trace of a row follows from its id, so that each
try of it, by whatever worker, is in the same trace, and is sampled or not as one; so do those of a batch.

Attributes are ids, names, numbers and reasons. Prompts, answers, messages, keys and addresses are never among them, and
an exception is told by its type only.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol
from uuid import UUID

from core.ids import public
from core.settings import settings

Value = str | int | float | bool
#: What a span is, in OpenTelemetry's words.
SERVER, CLIENT, CONSUMER, INTERNAL = "server", "client", "consumer", "internal"


class Span:
    """A span that is not recorded. Recorded ones are made by core/tracing_otel.py.

    Inside `with span:` it is the parent of what is started. Without, it runs until `end`.
    """

    def __enter__(self) -> Span:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return

    def name(self, name: str) -> None:
        """Call it otherwise."""

    def set(self, attributes: Mapping[str, Value | None]) -> None:
        """Add attributes; None adds none."""

    def belongs_to(self, trace: str) -> None:
        """Link it to the trace of that name."""

    def failed(self, reason: str) -> None:
        """Say that it failed, by a word of a closed vocabulary."""

    def end(self) -> None:
        """Its time is over. A span that is never ended is never sent."""


NOTHING = Span()


class Tracer(Protocol):
    """What core/tracing_otel.py does for this module."""

    def start(
        self, name: str, kind: str, trace: str | None, part_of: str | None, attributes: Mapping[str, Value | None]
    ) -> Span: ...

    def current(self) -> Span: ...

    def stop(self) -> None: ...


_tracer: Tracer | None = None


def configure(process: str) -> None:
    """Begin to send traces if there is an address for them; once in each process, after a fork.

    Raises
    ------
    SystemExit
        There is one, and the packages are missing.
    """
    global _tracer
    if not settings().traces_url:
        return
    try:
        from core import tracing_otel
    except ImportError:
        raise SystemExit("LLM_SERVICE_TRACES_URL is set: pip install -r requirements-otel.txt, or unset it") from None
    _tracer = tracing_otel.OpenTelemetry(process)


def shutdown() -> None:
    """Send what is left; a process calls it when it stops."""
    if _tracer is not None:
        _tracer.stop()


def root(name: str, kind: str, trace: str, part_of: str | None = None, **attributes: Value | None) -> Span:
    """A span of its own in the trace of that name; not recorded unless the trace is sampled.

    Parameters
    ----------
    trace : a name, such as `row 12`; whoever starts a span with the same one adds to the same trace.
    part_of : the trace that it is linked to.
    attributes : with `__` for the dots of their names.
    """
    return NOTHING if _tracer is None else _tracer.start(name, kind, trace, part_of, attributes)


def child(name: str, kind: str, **attributes: Value | None) -> Span:
    """A span within the one that runs in this greenlet; not recorded if there is none."""
    return NOTHING if _tracer is None else _tracer.start(name, kind, None, None, attributes)


def current() -> Span:
    """The span that runs in this greenlet."""
    return NOTHING if _tracer is None else _tracer.current()


def of_batch(batch_id: UUID) -> str:
    """The name of a batch's trace: what the scheduler claims of it, and its webhooks."""
    return public("batch", batch_id)


def call(operation: str, provider: str, model: str) -> Span:
    """One provider call, named and described as OpenTelemetry's conventions for generative AI have it."""
    if _tracer is None:
        return NOTHING
    return child(
        f"{operation} {model[:100]}",
        CLIENT,
        gen_ai__operation__name=operation,
        gen_ai__provider__name=provider,
        gen_ai__request__model=model[:100],
    )
