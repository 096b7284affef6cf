"""A project's connections as calls need them: kept for a while, keys decrypted; and stopped when a key is refused.

Without the SQLModel sessions of core/connections.py, which whoever only makes calls need not load.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from core import changes, crypto, db, webhooks
from core.errors import NotFound
from core.ids import public
from core.limits.types import Configured
from core.secret import Secret
from core.settings import settings
from core.short_cache import ShortCache
from core.states import ProviderType

#: How old what a worker knows of a connection may be, in seconds: after both together a changed key is used everywhere.
LOADED_SECONDS = 3.0
LOADED_GRACE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConnection:
    """A connection ready for calls: its base URL filled in, its secret decrypted."""

    id: UUID
    tenant_id: UUID
    project_id: UUID
    provider_type: str
    name: str
    base_url: str
    secret: Secret
    organization: str | None
    configured: Configured
    #: which credential this is, so that a late refusal of an old key does not stop the new one
    key_ciphertext: bytes = field(repr=False)


_loaded: ShortCache[UUID, LoadedConnection] = ShortCache(
    seconds=LOADED_SECONDS, grace_seconds=LOADED_GRACE_SECONDS, size=10_000
)


def load(connection_id: UUID) -> LoadedConnection:
    """A connection for calls, at most LOADED_SECONDS + LOADED_GRACE_SECONDS old.

    The platform's own read: the id comes from a row of its tenant, never from a caller. Raises NotFound,
    crypto.KeyProblem, DatabaseDown.
    """
    return _loaded.get(connection_id, lambda: _read(connection_id))


def forget(connection_id: UUID) -> None:
    """Read it anew for this process's next call: something about it was changed."""
    _loaded.forget(connection_id)


def forget_project(project_id: UUID | None) -> None:
    """The same for all connections of a project, or with None of every project."""
    if project_id is None:
        _loaded.clear()
    else:
        _loaded.forget_where(lambda connection: connection.project_id == project_id)


def stop(connection: LoadedConnection, reason: str, message: str) -> bool:
    """Stop a connection whose credential the provider refused; True if this call did it.

    A connection that got a new key meanwhile is left alone.
    """
    with db.connection(connection.tenant_id) as held:
        stopped = held.execute(
            "UPDATE connection SET state = 'stopped', stop_reason = %s, stop_message = %s, stopped_at = now()"
            " WHERE id = %s AND tenant_id = %s AND state = 'active' AND key_ciphertext = %s RETURNING *",
            (
                str(reason),
                message[:2000].replace("\0", ""),
                connection.id,
                connection.tenant_id,
                connection.key_ciphertext,
            ),
        ).fetchone()
        if stopped is not None:
            webhooks.announce(
                held,
                tenant_id=connection.tenant_id,
                project_id=connection.project_id,
                event_type="provider.stopped",
                data=as_object(SimpleNamespace(**stopped)),
            )
            held.execute("NOTIFY llm_dispatch")
            changes.announce(held, connection.project_id)
    return stopped is not None


def resolved_base_url(row: Any) -> str:
    """Where calls go, without a slash at the end: the connection's own base URL or the default of its type."""
    return _base_url(row.provider_type, row.base_url)


def as_object(row: Any) -> dict[str, Any]:
    """A connection, by whatever has its columns as attributes, as the API shows it: never its key."""
    return {
        "id": public("prov", row.id),
        "providerType": row.provider_type,
        "name": row.name or None,
        "baseUrl": resolved_base_url(row),
        "organization": row.organization,
        "apiKeyHint": row.key_hint,
        "limits": {
            "requestsPerMinute": row.requests_per_minute,
            "tokensPerMinute": row.tokens_per_minute,
            "maxConcurrency": row.max_concurrency,
        },
        "state": row.state,
        "stop_reason": row.stop_reason,
        "stop_message": row.stop_message,
        "stopped_at": row.stopped_at,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _read(connection_id: UUID) -> LoadedConnection:
    with db.connection() as held:
        row = held.execute("SELECT * FROM connection WHERE id = %s", (connection_id,)).fetchone()
    if row is None:
        raise NotFound
    ciphertext = bytes(row["key_ciphertext"])
    return LoadedConnection(
        id=row["id"],
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        provider_type=row["provider_type"],
        name=row["name"],
        base_url=_base_url(row["provider_type"], row["base_url"]),
        secret=crypto.decrypt(ciphertext, row["key_version"], tenant_id=row["tenant_id"], row_id=row["id"]),
        organization=row["organization"],
        configured=Configured(
            requests_per_minute=row["requests_per_minute"],
            tokens_per_minute=row["tokens_per_minute"],
            max_concurrency=row["max_concurrency"],
        ),
        key_ciphertext=ciphertext,
    )


def _base_url(provider_type: str, own: str | None) -> str:
    default = settings().anthropic_base_url if provider_type == ProviderType.ANTHROPIC else settings().openai_base_url
    return (own or default).rstrip("/")
