"""A project's connections to providers: a credential, the address it belongs to, and the limits it is used within."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import func, text
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from core import crypto, limits, sessions
from core.connection_input import ConnectionInput, as_change, as_new
from core.errors import FieldError, InvalidInput, NotFound, Unavailable
from core.loaded_connections import LoadedConnection, as_object, forget, load, resolved_base_url, stop
from core.principal import Principal
from core.secret import Secret
from core.states import ProviderType
from core.tables.connections import Connection
from core.tables.tenants import Project

# What calls need of a connection belongs to the same subject.
__all__ = [
    "LoadedConnection",
    "as_object",
    "credential",
    "delete",
    "find",
    "get",
    "load",
    "page",
    "patch",
    "put",
    "resolved_base_url",
    "resume",
    "stop",
]

log = logging.getLogger(__name__)


def put(principal: Principal, given: Mapping[str, Any]) -> tuple[Connection, bool]:
    """Configure a provider: (connection, True if it is new).

    The same provider type again (openai_compatible: the same name) replaces the key and whatever else is given, keeps
    the rest, and sets the connection active.

    Parameters
    ----------
    given
        The JSON object of POST /v1/providers (API.md section 5).

    Raises
    ------
    InvalidInput
        With all that is wrong, as JSON pointers.
    """
    new = as_new(given)
    with sessions.tenant_session(principal.tenant_id) as session:
        _lock_project(session, principal)
        query = _own(principal).where(Connection.provider_type == new.provider_type)
        if new.provider_type == ProviderType.OPENAI_COMPATIBLE:
            query = query.where(Connection.name == new.name)
        row = session.exec(query.with_for_update()).first()
        created = row is None
        if row is None:
            row = Connection(
                tenant_id=principal.tenant_id,
                project_id=principal.project_id,
                provider_type=new.provider_type,
                key_ciphertext=b"",
                key_version=0,
            )
        _apply(row, new)
        _save(session, row)
    _forget(row.id, new)
    return row, created


def get(principal: Principal, connection_id: UUID) -> Connection:
    """One connection of the project. Raises NotFound."""
    with sessions.tenant_session(principal.tenant_id) as session:
        return _one(session, principal, connection_id)


def page(principal: Principal, *, limit: int = 20, before: UUID | None = None) -> list[Connection]:
    """Connections of the project, newest first; `before` is the id where the last page ended."""
    query = _own(principal).order_by(col(Connection.id).desc()).limit(limit)
    if before is not None:
        query = query.where(col(Connection.id) < before)
    with sessions.tenant_session(principal.tenant_id) as session:
        return list(session.exec(query))


def find(principal: Principal, provider_type: str, name: str | None = None) -> Connection | None:
    """The project's connection of a type (with a name: that one of the type), the oldest if there are several."""
    query = _own(principal).where(Connection.provider_type == provider_type)
    if name is not None:
        query = query.where(Connection.name == name)
    with sessions.tenant_session(principal.tenant_id) as session:
        return session.exec(query.order_by(col(Connection.id)).limit(1)).first()


def patch(principal: Principal, connection_id: UUID, given: Mapping[str, Any]) -> Connection:
    """Change what is given of a connection; null takes a value away. A new key sets it active.

    Raises
    ------
    NotFound
    InvalidInput
        Also when baseUrl changes without the key: a stored key is never sent to an address it was not given for, else
        whoever may change the address could read it.
    """
    current = get(principal, connection_id)
    change = as_change(given, current.provider_type)
    with sessions.tenant_session(principal.tenant_id) as session:
        _lock_project(session, principal)
        row = _one(session, principal, connection_id, lock=True)
        if change.api_key is None and change.has("base_url") and change.base_url != row.base_url:
            raise InvalidInput([FieldError("/apiKey", "Give the key together with a changed baseUrl.")])
        if change.has("name") and row.provider_type == ProviderType.OPENAI_COMPATIBLE:
            same = _own(principal).where(Connection.provider_type == row.provider_type, Connection.name == change.name)
            if session.exec(same.where(col(Connection.id) != row.id)).first() is not None:
                raise InvalidInput([FieldError("/name", "Another openai_compatible provider has this name.")])
        _apply(row, change)
        _save(session, row)
    _forget(row.id, change)
    return row


def resume(principal: Principal, connection_id: UUID) -> Connection:
    """Set a stopped connection active again with the key it has: after credit was bought, say. Raises NotFound."""
    with sessions.tenant_session(principal.tenant_id) as session:
        row = _one(session, principal, connection_id, lock=True)
        _activate(row)
        _save(session, row)
    forget(row.id)
    return row


def delete(principal: Principal, connection_id: UUID) -> None:
    """Remove a connection and its key. Raises NotFound."""
    with sessions.tenant_session(principal.tenant_id) as session:
        session.delete(_one(session, principal, connection_id, lock=True))
        session.connection().execute(text("NOTIFY llm_dispatch"))
    forget(connection_id)


def credential(row: Connection) -> Secret:
    """The key of a connection. Raises crypto.KeyProblem."""
    return crypto.decrypt(row.key_ciphertext, row.key_version, tenant_id=row.tenant_id, row_id=row.id)


def _own(principal: Principal) -> SelectOfScalar[Connection]:
    return select(Connection).where(
        Connection.tenant_id == principal.tenant_id, Connection.project_id == principal.project_id
    )


def _one(session: Session, principal: Principal, connection_id: UUID, *, lock: bool = False) -> Connection:
    query = _own(principal).where(Connection.id == connection_id)
    row = session.exec(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFound
    return row


def _lock_project(session: Session, principal: Principal) -> None:
    """One change of a project's connections at a time: two posts of the same type make one connection."""
    query = select(Project.id).where(Project.id == principal.project_id, Project.tenant_id == principal.tenant_id)
    if session.exec(query.with_for_update()).first() is None:
        raise NotFound


def _apply(row: Connection, change: ConnectionInput) -> None:
    for name in ("name", "base_url", "organization", "requests_per_minute", "tokens_per_minute", "max_concurrency"):
        if change.has(name):
            setattr(row, name, getattr(change, name))
    if change.api_key is not None:
        row.key_ciphertext, row.key_version = crypto.encrypt(change.api_key, tenant_id=row.tenant_id, row_id=row.id)
        row.key_hint = change.api_key.hint()
        _activate(row)


def _forget(connection_id: UUID, change: ConnectionInput) -> None:
    """Forget what is kept of a connection; with a new key also what the old one's provider asked for, up to an hour."""
    forget(connection_id)
    if change.api_key is not None:
        try:
            limits.forget(connection_id)
        except Unavailable:
            log.warning("Redis is away: the limits of a replaced key hold until they are learned anew")


def _activate(row: Connection) -> None:
    row.state = "active"
    row.stop_reason = row.stop_message = row.stopped_at = None


def _save(session: Session, row: Connection) -> None:
    row.updated_at = func.now()  # type: ignore[assignment]
    session.add(row)
    session.flush()
    session.refresh(row)
    # What waits for this connection may go on.
    session.connection().execute(text("NOTIFY llm_dispatch"))
