"""/v1/providers: a project's own credentials at the providers."""

from __future__ import annotations

from typing import Any

from flask import Response

from app import auth, body, changes, idempotent
from app.answers import answer, nothing
from app.openapi import Blueprint
from app.paging import page_by_id
from app.resources import provider_check
from app.schemas import PageQuery, page_of
from app.setup_schemas import NewProvider, ProviderChange, ProviderSchema, ProviderTest, ProviderTestAnswer
from core import connections, ids
from core.errors import FieldError, InvalidInput

blueprint = Blueprint("providers", "The project's own keys at OpenAI, Anthropic and OpenAI-compatible servers")

_PROVIDER = {
    "id": "prov_0199aa54e7f27c3d9d2b6f1f0a4c8e11",
    "providerType": "openai",
    "name": None,
    "apiKeyHint": "4f2a",
    "baseUrl": "https://api.openai.com/v1",
    "organization": None,
    "limits": {"requestsPerMinute": 500, "tokensPerMinute": None, "maxConcurrency": None},
    "state": "active",
    "created_at": "2026-11-23T12:00:00.000000Z",
    "updated_at": "2026-11-23T12:00:00.000000Z",
}


@blueprint.post("/v1/providers")
@idempotent.idempotent()
@blueprint.takes(
    NewProvider, example={"providerType": "openai", "apiKey": "sk-...", "limits": {"requestsPerMinute": 500}}
)
@blueprint.response(201, ProviderSchema, example=_PROVIDER)
@blueprint.alt_response(
    200, schema=ProviderSchema, description="The same type (and name, of openai_compatible) was there: replaced"
)
def put_provider() -> Response:
    """Store a provider's key, encrypted; the same type again replaces it."""
    row, created = connections.put(auth.principal(), body.json_object())
    changes.routes_changed(auth.principal())
    return answer(connections.as_object(row), 201 if created else 200)


@blueprint.get("/v1/providers")
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(ProviderSchema, "ProviderPage"))
def list_providers(query: dict[str, Any]) -> Response:
    """The project's providers, newest first; never their keys."""
    principal = auth.principal()
    return page_by_id("prov", query, lambda **page: connections.page(principal, **page), connections.as_object)


@blueprint.get("/v1/providers/<provider_id>")
@blueprint.response(200, ProviderSchema, example=_PROVIDER)
def get_provider(provider_id: str) -> Response:
    """One provider."""
    return answer(connections.as_object(connections.get(auth.principal(), ids.parse("prov", provider_id))))


@blueprint.patch("/v1/providers/<provider_id>")
@blueprint.takes(ProviderChange, example={"limits": {"requestsPerMinute": 1000}})
@blueprint.response(200, ProviderSchema, example=_PROVIDER)
def change_provider(provider_id: str) -> Response:
    """Change what is given; a changed `baseUrl` needs the key with it."""
    row = connections.patch(auth.principal(), ids.parse("prov", provider_id), body.json_object())
    changes.routes_changed(auth.principal())
    return answer(connections.as_object(row))


@blueprint.delete("/v1/providers/<provider_id>")
@blueprint.response(204)
def delete_provider(provider_id: str) -> Response:
    """Remove a provider and its key."""
    connections.delete(auth.principal(), ids.parse("prov", provider_id))
    changes.routes_changed(auth.principal())
    return nothing()


@blueprint.post("/v1/providers/test")
@blueprint.arguments(ProviderTest, example={"providerType": "openai"})
@blueprint.response(
    200,
    ProviderTestAnswer,
    example={"ok": True, "providerType": "openai", "latencyMs": 182, "models": ["gpt-4o", "gpt-4o-mini"]},
)
def test_provider(given: dict[str, Any]) -> Response:
    """Make a real call with the stored key; 200 whether it works or not."""
    kind = given["providerType"]
    row = connections.find(auth.principal(), kind, given.get("name"))
    if row is None:
        message = f"no provider of type {kind} is configured; store its key with POST /v1/providers first"
        raise InvalidInput([FieldError("/providerType", message)])
    return answer(provider_check.check(row))
