"""GET /v1/models and /v1/models/{id} for callers with a single token; the path is our own list's, too."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from flask import Flask, Response, request

from app import auth
from app.answers import answer
from app.openai_surface import errors
from app.openai_surface.routes import add_headers, authenticate, token
from core import catalogue, project_routes
from core.errors import InvalidInput, ServiceError
from core.states import ProviderType

_PATH = "/v1/models"


def register(app: Flask) -> None:
    """Answer before the path's own route does, if the caller's credentials are of OpenAI's kind."""
    app.before_request(_answer_in_openai_form)


def _answer_in_openai_form() -> Response | None:
    path = request.path
    if path != _PATH and not path.startswith(_PATH + "/"):
        return None
    # Claude's package sends a bearer token as well, and always its version.
    if request.method not in ("GET", "HEAD") or token() is None or "anthropic-version" in request.headers:
        return None
    try:
        authenticate()
        name = unquote(path[len(_PATH) + 1 :])
        response = _one(name) if name else _all()
    except ServiceError as error:
        response = errors.of_service_error(error)
    return add_headers(response)


def _all() -> Response:
    """Aliases of the project, then the known models of its providers."""
    routes = project_routes.of(auth.principal())
    configured = {each.provider_type for each in routes.connections}
    owners: dict[str, str] = {}
    for alias in sorted(routes.mapping):
        try:
            owners[alias] = routes.route(alias).provider
        except InvalidInput:
            # It leads to a provider that is not configured: it cannot be called.
            continue
    for kind in (ProviderType.OPENAI, ProviderType.ANTHROPIC):
        if kind in configured:
            for model in catalogue.models(kind):
                if model.chat:
                    owners.setdefault(model.name, kind)
    return answer({"object": "list", "data": [_model(name, owner) for name, owner in owners.items()]})


def _one(name: str) -> Response:
    """Any model that would be called under this name, listed or not."""
    try:
        return answer(_model(name, project_routes.of(auth.principal()).route(name).provider))
    except InvalidInput as error:
        return errors.of_service_error(error)


def _model(name: str, owner: str) -> dict[str, Any]:
    # `created` is part of OpenAI's object; nobody publishes it for all models.
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
