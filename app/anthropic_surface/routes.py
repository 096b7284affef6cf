"""The blueprint of Anthropic's surface: its credentials, its headers, and errors in its form."""

from __future__ import annotations

import redis.exceptions
from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from app import auth, rate_limits
from app.anthropic_surface import errors
from app.telemetry import request_id
from core import identity
from core.errors import ServiceError, Unauthenticated

blueprint = Blueprint("anthropic_surface", __name__)


def authenticate() -> None:
    """The principal of the single token, in x-api-key or as a bearer; x-secret-key marks our own four headers.

    Raises Unauthenticated, OverLimit.
    """
    if request.method == "OPTIONS":
        return
    if "x-secret-key" in request.headers:
        auth.require_project(rate_limits.anthropic)
        return
    token = request.headers.get("x-api-key", "")
    if not token:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        token = given.strip() if scheme.lower() == "bearer" else ""
    if not token:
        raise Unauthenticated("Send the token as x-api-key or as Authorization: Bearer.")
    rate_limits.admit(identity.authenticate_token(token), rate_limits.anthropic)


def add_headers(response: Response) -> Response:
    """The request id under Anthropic's name."""
    response.headers["request-id"] = request_id()
    return response


blueprint.before_request(authenticate)
blueprint.after_request(add_headers)
blueprint.register_error_handler(ServiceError, errors.of_service_error)
blueprint.register_error_handler(redis.exceptions.RedisError, errors.of_redis_error)
blueprint.register_error_handler(HTTPException, errors.of_http_exception)
blueprint.register_error_handler(Exception, errors.of_unexpected)
