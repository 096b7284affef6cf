"""GET /v1/models and /v1/models/{id} for callers that send anthropic-version; the path is our own list's, too."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from flask import Flask, Response, request

from app import auth
from app.answers import answer
from app.anthropic_surface import errors
from app.anthropic_surface.paging import page_of
from app.anthropic_surface.routes import add_headers, authenticate
from core import catalogue, project_routes
from core.catalogue import ModelInfo
from core.errors import InvalidInput, NotFound, ServiceError
from core.project_routes import ProjectRoutes
from core.states import ProviderType

_PATH = "/v1/models"
#: `created_at` is part of the object; for a model whose release nobody recorded Anthropic itself gives the epoch.
_EPOCH = "1970-01-01T00:00:00Z"
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
#: forms of thinking -> types that a model takes
_THINKING = {
    "adaptive_always_on": frozenset({"adaptive"}),
    "adaptive_or_disabled": frozenset({"adaptive", "disabled"}),
    "adaptive_or_enabled": frozenset({"adaptive", "enabled", "disabled"}),
    "enabled+budget_tokens": frozenset({"enabled", "disabled"}),
}


def register(app: Flask) -> None:
    """Answer before the path's own route does, if the caller speaks Anthropic's form."""
    app.before_request(_answer_in_anthropics_form)


def _answer_in_anthropics_form() -> Response | None:
    path = request.path
    if path != _PATH and not path.startswith(_PATH + "/"):
        return None
    if request.method not in ("GET", "HEAD") or "anthropic-version" not in request.headers:
        return None
    try:
        authenticate()
        name = unquote(path[len(_PATH) + 1 :])
        response = _one(name) if name else _page()
    except ServiceError as error:
        response = errors.of_service_error(error)
    return add_headers(response)


def _page() -> Response:
    """Aliases of the project, then the known models of its providers."""
    routes = project_routes.of(auth.principal())
    configured = {each.provider_type for each in routes.connections}
    names = [alias for alias in sorted(routes.mapping) if _leads_anywhere(routes, alias)]
    for kind in (ProviderType.ANTHROPIC, ProviderType.OPENAI):
        if kind in configured:
            names += [model.name for model in catalogue.models(kind) if model.chat]
    names = list(dict.fromkeys(names))
    return answer(page_of(names, name=str, show=lambda name: _model(name, routes)))


def _one(name: str) -> Response:
    """Any model that would be called under this name, listed or not."""
    routes = project_routes.of(auth.principal())
    try:
        return answer(_model(name, routes))
    except InvalidInput as error:
        raise NotFound(f"model: {name[:256]}") from error


def _leads_anywhere(routes: ProjectRoutes, alias: str) -> bool:
    try:
        routes.route(alias)
    except InvalidInput:
        # It leads to a provider that is not configured: it cannot be called.
        return False
    return True


def _model(name: str, routes: ProjectRoutes) -> dict[str, Any]:
    route = routes.route(name)
    model = catalogue.find(route.model, route.provider)
    claude = route.provider == ProviderType.ANTHROPIC
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": _EPOCH,
        "lifecycle": "active",
        "max_input_tokens": model.max_input_tokens or model.context_tokens,
        "max_tokens": model.max_output_tokens,
        "deprecated_at": None,
        "retires_at": f"{model.shutdown_date}T00:00:00Z" if model.shutdown_date else None,
        # Of other vendors' models nobody says it in these terms.
        "capabilities": _capabilities(model) if claude else None,
    }


def _capabilities(model: ModelInfo) -> dict[str, Any]:
    """What a Claude model does through this service."""
    kinds, efforts = _THINKING.get(model.thinking or "", frozenset()), model.effort_levels
    return {
        # Our batches take every model.
        **{name: _supported(True) for name in ("batch", "citations", "image_input", "pdf_input", "structured_outputs")},
        # They need fields that this service does not take yet.
        **{name: _supported(False) for name in ("code_execution", "context_management")},
        "effort": _supported(bool(efforts)) | {effort: _supported(effort in efforts) for effort in _EFFORTS},
        "thinking": _supported(bool(kinds))
        | {"types": {kind: _supported(kind in kinds) for kind in ("adaptive", "enabled", "disabled", "between_tools")}},
    }


def _supported(yes: bool) -> dict[str, Any]:
    return {"supported": yes}
