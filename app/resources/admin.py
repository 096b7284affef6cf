"""/v1/admin: the operator's side of identity: tenants, their projects, the projects' keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from flask import Response

from app import idempotent, people
from app.answers import answer
from app.openapi import OperatorBlueprint
from app.paging import page_by_id
from app.schemas import PageQuery, page_of
from app.setup_schemas import KeyBody, KeySchema, NamedBody, NewKeySchema, PlaceSchema, RotateBody
from core import identity, ids
from core.errors import FieldError, InvalidInput, NotFound

blueprint = OperatorBlueprint("admin", "The operator's side: tenants, projects and keys")

_LAST_ID = (1 << 128) - 1
_PRIVATE = {"Cache-Control": "no-store"}


@blueprint.post("/v1/admin/tenants")
@idempotent.idempotent(operator=True)
@blueprint.arguments(NamedBody, example={"name": "Example Ltd"})
@blueprint.response(201, PlaceSchema)
def create_tenant(given: dict[str, Any]) -> Response:
    """A new tenant."""
    return answer(people.tenant(identity.create_tenant(given["name"])), 201)


@blueprint.get("/v1/admin/tenants")
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(PlaceSchema, "TenantPage"))
def list_tenants(query: dict[str, Any]) -> Response:
    """All tenants, newest first."""
    return page_by_id("tenant", query, identity.tenants, people.tenant)


@blueprint.post("/v1/admin/tenants/<tenant_id>/projects")
@idempotent.idempotent(operator=True)
@blueprint.arguments(NamedBody, example={"name": "website"})
@blueprint.response(201, PlaceSchema)
def create_project(given: dict[str, Any], tenant_id: str) -> Response:
    """A new project of a tenant."""
    return answer(people.project(identity.create_project(ids.parse("tenant", tenant_id), given["name"])), 201)


@blueprint.get("/v1/admin/tenants/<tenant_id>/projects")
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(PlaceSchema, "ProjectPage"))
def list_projects(query: dict[str, Any], tenant_id: str) -> Response:
    """The projects of a tenant, newest first."""
    tenant = ids.parse("tenant", tenant_id)
    return page_by_id("proj", query, lambda **page: identity.projects(tenant, **page), people.project)


@blueprint.post("/v1/admin/tenants/<tenant_id>/projects/<project_id>/keys")
@idempotent.idempotent(operator=True, secret=True)
@blueprint.arguments(KeyBody, example={"name": "backend"})
@blueprint.response(201, NewKeySchema)
def create_key(given: dict[str, Any], tenant_id: str, project_id: str) -> Response:
    """A new key of a project. Its secret is in this answer and never again.

    (But for the same request again with its Idempotency-Key.)
    """
    expires_at = given.get("expires_at")
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise InvalidInput([FieldError("/expires_at", "must lie in the future")])
    made = identity.create_key(*_project(tenant_id, project_id), name=given["name"], expires_at=expires_at)
    return answer(people.new_key(made), 201, _PRIVATE)


@blueprint.get("/v1/admin/tenants/<tenant_id>/projects/<project_id>/keys")
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(KeySchema, "KeyPage"))
def list_keys(query: dict[str, Any], tenant_id: str, project_id: str) -> Response:
    """The keys of a project without their secrets, newest first; revoked ones too."""
    tenant, project = _project(tenant_id, project_id)
    return page_by_id("key", query, lambda **page: identity.list_keys(tenant, project, **page), people.key)


@blueprint.post("/v1/admin/tenants/<tenant_id>/projects/<project_id>/keys/<key_id>/rotate")
@idempotent.idempotent(operator=True, secret=True)
@blueprint.arguments(RotateBody, required=False, example={"old_valid_seconds": 86400})
@blueprint.response(201, NewKeySchema)
@blueprint.alt_response(409, response="CONFLICT")
def rotate_key(given: dict[str, Any], tenant_id: str, project_id: str, key_id: str) -> Response:
    """A second key beside this one, which goes on working until it is revoked or `old_valid_seconds` have passed."""
    tenant, key = _key(tenant_id, project_id, key_id)
    made = identity.rotate_key(tenant, key, old_valid_seconds=given["old_valid_seconds"])
    return answer(people.new_key(made), 201, _PRIVATE)


@blueprint.post("/v1/admin/tenants/<tenant_id>/projects/<project_id>/keys/<key_id>/revoke")
@blueprint.response(200, KeySchema)
def revoke_key(tenant_id: str, project_id: str, key_id: str) -> Response:
    """End a key: it is refused everywhere within seconds. Revoking it again changes nothing."""
    return answer(people.key(identity.revoke_key(*_key(tenant_id, project_id, key_id))))


def _project(tenant_id: str, project_id: str) -> tuple[UUID, UUID]:
    return ids.parse("tenant", tenant_id), ids.parse("proj", project_id)


def _key(tenant_id: str, project_id: str, key_id: str) -> tuple[UUID, UUID]:
    """The tenant and the key; the project in the path must be the key's."""
    tenant, project = _project(tenant_id, project_id)
    key = ids.parse("key", key_id)
    # The page that would show this key first.
    found = identity.list_keys(tenant, project, limit=1, before=UUID(int=min(key.int + 1, _LAST_ID)))
    if not found or found[0].id != key:
        raise NotFound
    return tenant, key
