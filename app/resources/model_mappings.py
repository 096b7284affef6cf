"""/v1/model-mappings: names of the project's own for models, and what takes over when a provider is down."""

from __future__ import annotations

from typing import Any

from flask import Response

from app import auth, body, changes
from app.answers import answer, nothing
from app.openapi import Blueprint
from app.paging import page_by_id
from app.schemas import PageQuery, page_of
from app.setup_schemas import MappingBody, MappingSchema
from core import mappings

blueprint = Blueprint("model-mappings", "Names of the project's own for models, with fallbacks")

_BODY = {"model": "claude-sonnet-4-5", "provider": "anthropic", "fallbacks": [{"model": "gpt-4o"}]}
_MAPPING = {
    "alias": "gpt-4",
    **_BODY,
    "created_at": "2026-11-23T12:00:00.000000Z",
    "updated_at": "2026-11-23T12:00:00.000000Z",
}


# An alias may be any name, slashes included: `anthropic/claude-sonnet-4-5` is one.
@blueprint.put("/v1/model-mappings/<path:alias>")
@blueprint.takes(MappingBody, example=_BODY)
@blueprint.response(201, MappingSchema, example=_MAPPING)
@blueprint.alt_response(200, schema=MappingSchema, description="The alias was there: replaced")
def put_mapping(alias: str) -> Response:
    """Let an alias lead to a model. It may carry a real model's name, to switch that model's callers over."""
    row, created = mappings.put(auth.principal(), alias, body.json_object())
    changes.routes_changed(auth.principal())
    return answer(mappings.as_object(row), 201 if created else 200)


@blueprint.get("/v1/model-mappings")
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(MappingSchema, "MappingPage"))
def list_mappings(query: dict[str, Any]) -> Response:
    """The project's aliases, newest first."""
    principal = auth.principal()
    return page_by_id("map", query, lambda **page: mappings.page(principal, **page), mappings.as_object)


@blueprint.get("/v1/model-mappings/<path:alias>")
@blueprint.response(200, MappingSchema, example=_MAPPING)
def get_mapping(alias: str) -> Response:
    """One alias."""
    return answer(mappings.as_object(mappings.get(auth.principal(), alias)))


@blueprint.delete("/v1/model-mappings/<path:alias>")
@blueprint.response(204)
def delete_mapping(alias: str) -> Response:
    """Remove an alias."""
    mappings.delete(auth.principal(), alias)
    changes.routes_changed(auth.principal())
    return nothing()
