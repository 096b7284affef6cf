"""Routes that the vendors have and this service does not: refused in the form that their packages read."""

from __future__ import annotations

from flask import Flask, Response, request
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.exceptions import NotFound as NoSuchRoute

from app.anthropic_surface import errors as anthropic_errors
from app.anthropic_surface.routes import add_headers as add_anthropic_headers
from app.openai_surface import errors as openai_errors
from app.openai_surface.routes import add_headers as add_openai_headers
from app.openai_surface.routes import token
from core.errors import NotFound

#: OpenAI's, whose files Anthropic's package would take for its own.
_FILES = "/v1/files"


def register(app: Flask) -> None:
    """Answer before the 404 of the application does, if the caller speaks a vendor's form."""
    app.before_request(_refuse)


def _refuse() -> Response | None:
    path = request.path
    if not path.startswith("/v1/") or path.startswith("/v1/admin/"):
        return None
    missing = isinstance(request.routing_exception, NoSuchRoute | MethodNotAllowed)
    error = NotFound(f"This service does not have {request.method} {path}; its documentation lists what it has.")
    if "anthropic-version" in request.headers:
        if missing or path == _FILES or path.startswith(_FILES + "/"):
            return add_anthropic_headers(anthropic_errors.of_service_error(error))
    elif missing and token() is not None:
        return add_openai_headers(openai_errors.of_service_error(error))
    return None
