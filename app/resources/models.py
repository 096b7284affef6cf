"""GET /v1/models: what this project can call."""

from __future__ import annotations

from typing import Any

from flask import Response
from marshmallow import validate
from webargs import fields

from app import auth
from app.answers import answer
from app.openapi import Blueprint
from app.schemas import PageQuery
from app.setup_schemas import ModelList
from core import catalogue, project_routes
from core.errors import FieldError, InvalidInput
from core.states import ProviderType

blueprint = Blueprint("models", "What this project can call")


class ModelQuery(PageQuery):
    limit = fields.Integer(
        load_default=None, validate=validate.Range(1, 100), metadata={"description": "How many to answer; all without"}
    )


@blueprint.get("/v1/models")
@blueprint.arguments(ModelQuery, location="query")
@blueprint.response(
    200,
    ModelList,
    example={
        "object": "list",
        "data": [{"id": "gpt-4o", "object": "model", "created": 0, "owned_by": "openai", "provider": "openai"}],
        "has_more": False,
        "next_cursor": None,
    },
)
def list_models(query: dict[str, Any]) -> Response:
    """The project's aliases, and the known models of its providers; all of them at once, or in pages of `limit`.

    A provider takes models that are not listed here as well: the catalogue only knows their prices and limits.
    """
    routes = project_routes.of(auth.principal())
    configured = {each.provider_type for each in routes.connections}
    listed: dict[str, dict[str, Any]] = {}
    for alias in sorted(routes.mapping):
        try:
            provider = routes.route(alias).provider
        except InvalidInput:
            # It leads to a provider that is not configured: it cannot be called.
            continue
        listed[alias] = _model(alias, provider)
    for kind in ProviderType:
        if kind in configured and kind != ProviderType.OPENAI_COMPATIBLE:
            for model in catalogue.models(kind):
                if model.chat:
                    listed.setdefault(model.name, _model(model.name, kind))
    names, start = list(listed), 0
    if query["cursor"] is not None:
        if query["cursor"] not in listed:
            raise InvalidInput([FieldError("?cursor", "is not a cursor; use next_cursor of the page before as it is")])
        start = names.index(query["cursor"]) + 1
    page = names[start:][: query["limit"]]
    more = start + len(page) < len(names)
    shown = [listed[name] for name in page]
    return answer({"object": "list", "data": shown, "has_more": more, "next_cursor": page[-1] if more else None})


def _model(name: str, provider: str) -> dict[str, Any]:
    # `created` is part of OpenAI's object; nobody publishes it for all models.
    return {"id": name, "object": "model", "created": 0, "owned_by": provider, "provider": provider}
