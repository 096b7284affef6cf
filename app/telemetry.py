"""What is known of every HTTP request: its id, and its count and duration by route."""

from __future__ import annotations

import re
import time
from collections import Counter as Count
from collections import defaultdict, deque

import structlog
from flask import Flask, Response, g, has_request_context, request
from prometheus_client import Counter, Histogram

from app.application import this_request
from core import ids, tracing
from core.metrics import observe_many

REQUESTS = Counter("llm_service_http_requests_total", "HTTP requests answered.", ["method", "route", "status"])
DURATION = Histogram(
    "llm_service_http_request_duration_seconds",
    "Time from a request's arrival to its answer's headers.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)

#: An id that a caller brings along is taken over when it is harmless in a log and in a header.
_CALLERS_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}\Z")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


#: method, route, status and seconds of requests answered since the last `fold`; more than MAX_WAITING are not left.
_answered: deque[tuple[str, str, int, float]] = deque()
MAX_WAITING = 1000


def register(app: Flask) -> None:
    app.before_request(_begin)
    app.after_request(_end)
    app.teardown_request(_leave)


def request_id() -> str:
    """The id of the request being answered: the caller's own `x-request-id` if it is sane, else a new one."""
    if not has_request_context():
        return ""
    found: str | None = g.get("request_id")
    if found is None:
        brought = request.headers.get("x-request-id", "")
        found = g.request_id = brought if _CALLERS_ID.match(brought) else ids.public("req", ids.new_id())
    return found


def _begin() -> None:
    g.started = time.perf_counter()
    found = request_id()
    structlog.contextvars.bind_contextvars(request_id=found)
    method, route = _kind()
    span = tracing.root(
        f"{method} {route}",
        tracing.SERVER,
        trace=found,
        http__request__method=method,
        http__route=route,
        llm_service__request_id=found,
    )
    g.span = span
    span.__enter__()


def _kind() -> tuple[str, str]:
    """Method and route. The route is the template, never the path: an id must not become a label."""
    asked = this_request()
    method, rule = asked.method, asked.url_rule
    return method if method in _METHODS else "other", rule.rule if rule is not None else "unmatched"


def _end(response: Response) -> Response:
    headers, status = response.headers, response.status_code
    headers["x-request-id"] = request_id()
    headers.setdefault("X-Content-Type-Options", "nosniff")
    span: tracing.Span = g.span
    span.set({"http.response.status_code": status})
    if status >= 500:
        span.failed(str(status))
    now = time.perf_counter()
    _answered.append((*_kind(), status, now - g.get("started", now)))
    if len(_answered) >= MAX_WAITING:
        fold()
    return response


def fold() -> None:
    """Add the requests that were answered to the metrics; done once a second, and before they are shown."""
    answers: Count[tuple[str, str, int]] = Count()
    durations: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(len(_answered)):
        method, route, status, seconds = _answered.popleft()
        answers[method, route, status] += 1
        durations[method, route].append(seconds)
    for (method, route, status), count in answers.items():
        REQUESTS.labels(method, route, str(status)).inc(count)
    for kind, seconds_each in durations.items():
        observe_many(DURATION.labels(*kind), seconds_each)


def _leave(_error: BaseException | None) -> None:
    """The request is answered, or what was left of it: a stream's body comes later."""
    span: tracing.Span | None = g.pop("span", None)
    if span is not None:
        span.__exit__(None, None, None)
