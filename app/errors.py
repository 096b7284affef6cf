"""What the faces of the API have in common when something fails; how they say it is each one's own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TypeVar

from flask import request
from werkzeug.exceptions import HTTPException

from app.telemetry import request_id
from core import errors

log = logging.getLogger(__name__)

Kind = TypeVar("Kind")


def nearest(kinds: Mapping[type[errors.ServiceError], Kind], error: errors.ServiceError) -> Kind | None:
    """How an error is told: as its class, or as the nearest parent that is listed."""
    return next((kinds[kind] for kind in type(error).__mro__ if kind in kinds), None)


def nobody_serves(error: errors.ServiceError) -> bool:
    """True if a model's name leads nowhere, which the vendors answer with 404."""
    # Routing says in its detail what it says of the field.
    return (
        isinstance(error, errors.InvalidInput)
        and [each.pointer for each in error.errors] == ["/model"]
        and error.detail == error.errors[0].message
    )


def status_of(error: HTTPException) -> int | None:
    """The status for what werkzeug and Flask raise; None for a fault of the service."""
    status = error.code or 500
    if status >= 500 and status != 503:
        return None
    # Invalid parameters are a 400 here, of whatever kind.
    return 400 if status in (415, 422) else status


def without_redis(error: Exception) -> errors.Unavailable:
    """The error to tell when Redis is away."""
    log.warning("redis is not available: %s", type(error).__name__, extra={"request_id": request_id()})
    return errors.Unavailable()


def log_unexpected(error: Exception) -> None:
    """A fault of the service: everything goes into the log, nothing of it to the caller."""
    log.error(
        "unexpected error in %s %s",
        request.method,
        request.url_rule,
        exc_info=error,
        extra={"request_id": request_id()},
    )
