"""What is known of every HTTP request: its id, and its count and duration by route."""

from __future__ import annotations

import re
import time

import structlog
from flask import Flask, Response, g, has_request_context, request
from prometheus_client import Counter, Histogram

from core import ids, tracing

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
    structlog.contextvars.bind_contextvars(request_id=request_id())
    g.span = tracing.root(
        f"{_method()} {_route()}",
        tracing.SERVER,
        trace=request_id(),
        http__request__method=_method(),
        http__route=_route(),
        llm_service__request_id=request_id(),
    )
    g.span.__enter__()


def _method() -> str:
    return request.method if request.method in _METHODS else "other"


def _route() -> str:
    """The template, never the path: an id must not become a label."""
    return request.url_rule.rule if request.url_rule is not None else "unmatched"


def _end(response: Response) -> Response:
    response.headers["x-request-id"] = request_id()
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    route, method = _route(), _method()
    g.span.set({"http.response.status_code": response.status_code})
    if response.status_code >= 500:
        g.span.failed(str(response.status_code))
    REQUESTS.labels(method, route, str(response.status_code)).inc()
    DURATION.labels(method, route).observe(time.perf_counter() - g.get("started", time.perf_counter()))
    return response


def _leave(_error: BaseException | None) -> None:
    """The request is answered, or what was left of it: a stream's body comes later."""
    span: tracing.Span | None = g.pop("span", None)
    if span is not None:
        span.__exit__(None, None, None)
