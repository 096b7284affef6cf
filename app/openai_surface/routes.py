"""The blueprint of OpenAI's surface: a single token for credentials, the vendor's headers and errors."""

from __future__ import annotations

import time

import redis.exceptions
from flask import Blueprint, Response, g, request
from werkzeug.exceptions import HTTPException

from app import rate_limits
from app.openai_surface import errors
from core import identity
from core.errors import ServiceError, Unauthenticated

blueprint = Blueprint("openai_surface", __name__)


def token() -> str | None:
    """The bearer token of the request, None if it has none."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() or None if scheme.lower() == "bearer" else None


@blueprint.before_request
def authenticate() -> None:
    """The principal of the request's token, or 401, or 429."""
    if request.method == "OPTIONS":
        return
    given = token()
    if given is None:
        raise Unauthenticated("You didn't provide an API key: send it as `Authorization: Bearer <token>`.")
    rate_limits.admit(identity.authenticate_token(given), rate_limits.openai)


@blueprint.after_request
def add_headers(response: Response) -> Response:
    """What every answer of OpenAI's carries; x-request-id is on all of ours."""
    response.headers["openai-version"] = "2020-10-01"
    response.headers["openai-processing-ms"] = str(int((time.perf_counter() - g.started) * 1000))
    return response


blueprint.register_error_handler(ServiceError, errors.of_service_error)
blueprint.register_error_handler(HTTPException, errors.of_http_exception)
blueprint.register_error_handler(redis.exceptions.RedisError, errors.of_redis_error)
blueprint.register_error_handler(Exception, errors.of_unexpected)
