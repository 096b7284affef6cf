"""What whoever runs the service asks it: is it alive, can it serve, and its metrics."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import redis
from flask import Response

from app import telemetry
from app.answers import answer
from app.openapi import OpenBlueprint
from core import crypto, db, metrics
from core.settings import settings

blueprint = OpenBlueprint("operations", "Health and metrics")

_CHECK_SECONDS = 2.0


@blueprint.get("/livez")
@blueprint.response(200, {"type": "object"}, example={"status": "alive"})
def livez() -> Response:
    """The process answers; it says nothing of the stores."""
    return answer({"status": "alive"})


@blueprint.get("/readyz")
@blueprint.response(
    200, {"type": "object"}, example={"status": "ready", "checks": {"database": "ok", "redis": "ok", "kek": "ok"}}
)
@blueprint.alt_response(503, schema={"type": "object"}, description="A part is missing; `checks` says which")
def readyz() -> Response:
    """Calls can be served: the database, Redis and the key-encryption key are there."""
    checks = {"database": _check(_database), "redis": _check(_redis), "kek": _check(_kek)}
    ready = all(found == "ok" for found in checks.values())
    return answer(
        {"status": "ready" if ready else "not ready", "checks": checks},
        200 if ready else 503,
        None if ready else {"Retry-After": "2"},
    )


@blueprint.get("/metrics")
@blueprint.response(200, {"type": "string"}, content_type="text/plain")
def answer_scrape() -> Response:
    """Prometheus metrics, added up over all processes that share PROMETHEUS_MULTIPROC_DIR."""
    telemetry.fold()
    return Response(metrics.exposition(), content_type=metrics.CONTENT_TYPE)


def _check(look: Callable[[], None]) -> str:
    """`ok`, or the kind of failure: this answer needs no credentials, so it carries no addresses."""
    try:
        look()
    except Exception as error:
        return f"failed: {type(error).__name__}"
    return "ok"


def _database() -> None:
    with db.connection() as connection:
        connection.execute("SELECT 1 FROM tenant LIMIT 1")


def _redis() -> None:
    _redis_client(settings().redis_url).ping()


@lru_cache(maxsize=4)
def _redis_client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=_CHECK_SECONDS, socket_connect_timeout=_CHECK_SECONDS)


def _kek() -> None:
    crypto.newest_version()
