"""Provider calls as OpenTelemetry's conventions for generative AI name them, folded into the metrics once a second.

A call is put on a list, which costs next to nothing; the sampler (core/metrics_process.py) adds the list up. Each call
counts once, whether its answer was used or came second.
"""

from __future__ import annotations

import threading
import time
from collections import Counter as Count
from collections import defaultdict, deque
from types import TracebackType
from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram

from core import metrics_labels as labels
from core import tracing
from core.metrics import LONG_SECONDS, observe_many
from core.providers.types import Failure, Success

#: The names and the bounds of https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/, in Prometheus' form.
_ATTRIBUTES = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"]
DURATION = Histogram(
    "gen_ai_client_operation_duration_seconds",
    "Provider calls from the request's first byte to the answer's last.",
    [*_ATTRIBUTES, "error_type"],
    buckets=(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68),
)
TOKENS = Histogram(
    "gen_ai_client_token_usage",
    "Tokens of provider calls that were answered, each call's input and output.",
    [*_ATTRIBUTES, "gen_ai_token_type"],
    buckets=tuple(4**power for power in range(14)),
)
FIRST_CHUNK = Histogram(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "Streamed calls from the request to the first event of the answer.",
    _ATTRIBUTES,
    buckets=(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60),
)
ANSWERS = Counter(
    "llm_service_provider_answers_total", "Provider calls by the HTTP status of the answer.", ["provider", "status"]
)
IN_FLIGHT = Gauge(
    "llm_service_calls_in_flight",
    "Provider calls that run now: live completions, and rows of batches.",
    ["kind"],
    multiprocess_mode="livesum",
)
LIMITER_WAIT = Histogram(
    "llm_service_limiter_wait_seconds",
    "How long live completions waited for the limiter before a call.",
    ["provider"],
    buckets=LONG_SECONDS,
)
#: Values of gen_ai_operation_name.
CHAT, EMBEDDINGS = "chat", "embeddings"


class _Call(NamedTuple):
    provider: str
    model: str
    error_type: str
    status: int | None
    seconds: float
    input_tokens: int | None
    output_tokens: int | None
    operation: str


#: More than this are not left for the sampler.
MAX_WAITING = 1000

_waiting: deque[_Call] = deque()
#: provider and seconds of each live call's wait for the limiter; and the live calls that run
_waits: deque[tuple[str, float]] = deque()
_in_flight = [0]
_lock = threading.Lock()


def called(provider: str, model: str, outcome: Success | Failure, seconds: float, operation: str = CHAT) -> None:
    """Count one provider call that has ended.

    Parameters
    ----------
    model : as the provider was asked for it.
    """
    if isinstance(outcome, Success):
        usage = outcome.usage
        found = _Call(provider, model, "", 200, seconds, usage.input_tokens, usage.output_tokens, operation)
    else:
        found = _Call(provider, model, outcome.reason, outcome.provider_status, seconds, None, None, operation)
    _waiting.append(found)
    if len(_waiting) >= MAX_WAITING:
        fold()


def describe(span: tracing.Span, outcome: Success | Failure) -> None:
    """Say in a call's span what came of it."""
    if span is tracing.NOTHING:
        return
    if isinstance(outcome, Success):
        span.set(
            {
                "gen_ai.usage.input_tokens": outcome.usage.input_tokens,
                "gen_ai.usage.output_tokens": outcome.usage.output_tokens,
                "http.response.status_code": 200,
            }
        )
    else:
        span.set({"http.response.status_code": outcome.provider_status})
        span.failed(outcome.reason)


class LiveCall:
    """A call of a live completion, from the limiter's permission on. It runs until `ended` or the block's end.

    Parameters
    ----------
    waited_seconds : what it waited for the limiter.
    """

    __slots__ = ("_model", "_operation", "_provider", "_runs", "_span", "_started_at")

    def __init__(self, provider: str, model: str, waited_seconds: float, operation: str = CHAT) -> None:
        self._provider, self._model, self._operation = provider, model, operation
        self._started_at = time.perf_counter()
        self._runs = True
        self._span = tracing.call(operation, provider, model)
        _waits.append((provider, waited_seconds))
        _in_flight[0] += 1

    def first_chunk(self) -> None:
        """The first event of a streamed answer is there."""
        kind = _kind(self._operation, self._provider, self._model)
        FIRST_CHUNK.labels(*kind).observe(time.perf_counter() - self._started_at)

    def ended(self, outcome: Success | Failure) -> None:
        """Count it with what came of it."""
        if self._runs:
            seconds = time.perf_counter() - self._started_at
            called(self._provider, self._model, outcome, seconds, self._operation)
            describe(self._span, outcome)
            self.close()

    def close(self) -> None:
        if self._runs:
            self._runs = False
            self._span.end()
            _in_flight[0] -= 1

    def __enter__(self) -> LiveCall:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def fold() -> None:
    """Add what was put on the list to the metrics."""
    with _lock:
        durations: defaultdict[tuple[str, str, str, str], list[float]] = defaultdict(list)
        inputs: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
        outputs: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
        answers: Count[tuple[str, int | None]] = Count()
        waits: defaultdict[str, list[float]] = defaultdict(list)
        for _ in range(len(_waits)):
            provider, waited_seconds = _waits.popleft()
            waits[labels.provider(provider)].append(waited_seconds)
        for provider, each in waits.items():
            observe_many(LIMITER_WAIT.labels(provider), each)
        IN_FLIGHT.labels("live").set(_in_flight[0])
        for _ in range(len(_waiting)):
            call = _waiting.popleft()
            durations[call.operation, call.provider, call.model, call.error_type].append(call.seconds)
            answers[call.provider, call.status] += 1
            if call.input_tokens is not None and call.output_tokens is not None:
                inputs[call.operation, call.provider, call.model].append(call.input_tokens)
                outputs[call.operation, call.provider, call.model].append(call.output_tokens)
        for (operation, provider, model, error_type), seconds in durations.items():
            observe_many(DURATION.labels(*_kind(operation, provider, model), error_type), seconds)
        for name, tokens in (("input", inputs), ("output", outputs)):
            for (operation, provider, model), counts in tokens.items():
                observe_many(TOKENS.labels(*_kind(operation, provider, model), name), counts)
        for (provider, status), count in answers.items():
            ANSWERS.labels(labels.provider(provider), labels.status(status)).inc(count)


def _kind(operation: str, provider: str, model: str) -> tuple[str, str, str]:
    return operation, labels.provider(provider), labels.model(model, provider)
