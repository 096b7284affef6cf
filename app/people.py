"""How tenants, projects and keys are shown, over HTTP and on the operator's command line alike."""

from __future__ import annotations

from typing import Any

from core.identity import NewKey
from core.ids import public
from core.tables.tenants import ApiKey, Project, Tenant
from core.time_and_money import time_text


def tenant(row: Tenant) -> dict[str, Any]:
    return {"id": public("tenant", row.id), "name": row.name, "created_at": time_text(row.created_at)}


def project(row: Project) -> dict[str, Any]:
    return {
        "id": public("proj", row.id),
        "tenant_id": public("tenant", row.tenant_id),
        "name": row.name,
        "created_at": time_text(row.created_at),
    }


def key(row: ApiKey) -> dict[str, Any]:
    """A key as it is listed: without its secret."""
    return {
        "id": public("key", row.id),
        "tenant_id": public("tenant", row.tenant_id),
        "project_id": public("proj", row.project_id),
        "name": row.name,
        "hint": row.hint,
        "created_at": time_text(row.created_at),
        "expires_at": time_text(row.expires_at),
        "revoked_at": time_text(row.revoked_at),
        "last_used_at": time_text(row.last_used_at),
    }


def new_key(made: NewKey) -> dict[str, Any]:
    """A key that was just made, with its secret: shown once."""
    return {
        **key(made.key),
        "api_key": made.pair.api_key.reveal(),
        "secret_key": made.pair.secret_key.reveal(),
        "token": made.pair.token.reveal(),
    }
