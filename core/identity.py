"""Who calls: tenants, their projects, the projects' keys, and the check of credentials before every request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import func
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from core import db, ids, keys, sessions
from core.errors import Conflict, NotFound, Unauthenticated
from core.principal import Principal
from core.secret import Secret
from core.short_cache import ShortCache
from core.tables.tenants import ApiKey, Project, Tenant

#: How long the answer to a set of credentials is trusted, in seconds. With the grace it bounds how long a revoked key
#: still works in another process.
TRUST_SECONDS = 2.0
GRACE_SECONDS = 1.0
CACHE_SIZE = 10_000
#: `last_used_at` is at most this old for a key in use, in seconds: exact times would be a write per request.
LAST_USED_SECONDS = 60


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: the only moment at which its secret is known."""

    key: ApiKey
    pair: keys.KeyPair


# None for credentials that are not valid. Keyed on the hash of everything that was given, so that no two sets of
# credentials can share an entry.
_known: ShortCache[bytes, Principal | None] = ShortCache(
    seconds=TRUST_SECONDS, grace_seconds=GRACE_SECONDS, size=CACHE_SIZE
)


def authenticate(api_key: str, secret_key: str, tenant_id: str, project_id: str) -> Principal:
    """The principal of a request with the four headers.

    Raises
    ------
    Unauthenticated
        Malformed, unknown, revoked or expired, the wrong secret, or not the key's tenant or project: the same in each
        case.
    DatabaseDown
        It cannot be checked now.
    """
    found = _known.get(
        _fingerprint(api_key, secret_key, tenant_id, project_id),
        lambda: _check_headers(api_key, secret_key, tenant_id, project_id),
    )
    if found is None:
        raise Unauthenticated
    return found


def authenticate_token(token: str) -> Principal:
    """The principal of a request with the single token; tenant and project follow from the key. Raises as above."""
    found = _known.get(_fingerprint(token), lambda: _check_token(token))
    if found is None:
        raise Unauthenticated("The token is not valid: it is the one that holds key and secret, shown with a new key.")
    return found


def forget() -> None:
    """Drop what this process trusts, so that the next request is checked against the database."""
    _known.clear()


def _fingerprint(*given: str) -> bytes:
    """SHA-256 of all parts and their lengths."""
    parts = [text.encode("utf-8", "surrogatepass") for text in given]
    return hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).digest()


def _check_headers(api_key: str, secret_key: str, tenant_id: str, project_id: str) -> Principal | None:
    if not (keys.is_api_key(api_key) and keys.is_secret_key(secret_key)):
        return None
    try:
        tenant, project = ids.parse("tenant", tenant_id), ids.parse("proj", project_id)
    except NotFound:
        return None
    pair = keys.KeyPair(Secret(api_key), Secret(secret_key))
    return _look_up(pair, tenant, " AND api_key.tenant_id = %s AND project_id = %s", (tenant, project))


def _check_token(token: str) -> Principal | None:
    pair = keys.parse_token(token)
    # The tenant is what the key will tell, so this one look-up has the platform's view.
    return None if pair is None else _look_up(pair, None, "", ())


def _look_up(pair: keys.KeyPair, tenant_id: UUID | None, scope: str, values: tuple[UUID, ...]) -> Principal | None:
    with db.connection(tenant_id) as connection:
        row = connection.execute(_LIVE_KEY + scope, (LAST_USED_SECONDS, keys.digest(pair.api_key), *values)).fetchone()
        stored = bytes(row["secret_hash"]) if row else bytes(32)
        # Compared even with no row, so that both cases take the same time.
        if not keys.matches(pair.secret_key, stored) or row is None:
            return None
        if row["stale"]:
            connection.execute(
                "UPDATE api_key SET last_used_at = now() WHERE id = %s AND tenant_id = %s",
                (row["id"], row["tenant_id"]),
            )
    return Principal(row["tenant_id"], row["project_id"], row["id"], row["requests_per_minute"])


_LIVE_KEY = """
SELECT api_key.id, api_key.tenant_id, project_id, secret_hash, project.requests_per_minute,
       last_used_at IS NULL OR last_used_at < now() - make_interval(secs => %s) AS stale
FROM api_key JOIN project ON project.id = api_key.project_id AND project.tenant_id = api_key.tenant_id
WHERE key_hash = %s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
"""


def create_tenant(name: str) -> Tenant:
    """A new tenant; an operator's act."""
    tenant = Tenant(name=name)
    with sessions.system_session() as session:
        session.add(tenant)
        session.flush()
        session.refresh(tenant)
    return tenant


def tenants(*, limit: int = 100, before: UUID | None = None) -> list[Tenant]:
    """Tenants, newest first; `before` is the id where the last page ended."""
    query = select(Tenant).order_by(col(Tenant.id).desc()).limit(limit)
    if before is not None:
        query = query.where(col(Tenant.id) < before)
    with sessions.system_session() as session:
        return list(session.exec(query))


def create_project(tenant_id: UUID, name: str) -> Project:
    """A new project of a tenant. Raises NotFound if there is no such tenant."""
    project = Project(tenant_id=tenant_id, name=name)
    with sessions.tenant_session(tenant_id) as session:
        if session.get(Tenant, tenant_id) is None:
            raise NotFound
        session.add(project)
        session.flush()
        session.refresh(project)
    return project


def projects(tenant_id: UUID, *, limit: int = 100, before: UUID | None = None) -> list[Project]:
    """Projects of a tenant, newest first. Raises NotFound if there is no such tenant."""
    query = select(Project).where(Project.tenant_id == tenant_id).order_by(col(Project.id).desc()).limit(limit)
    if before is not None:
        query = query.where(col(Project.id) < before)
    with sessions.tenant_session(tenant_id) as session:
        if session.get(Tenant, tenant_id) is None:
            raise NotFound
        return list(session.exec(query))


def create_key(tenant_id: UUID, project_id: UUID, *, name: str = "", expires_at: datetime | None = None) -> NewKey:
    """A new key of a project, its secret shown here and never again. Raises NotFound if there is no such project."""
    with sessions.tenant_session(tenant_id) as session:
        project = select(Project.id).where(Project.id == project_id, Project.tenant_id == tenant_id)
        if session.exec(project).first() is None:
            raise NotFound
        return _add_key(session, tenant_id, project_id, name, expires_at)


def _add_key(session: Session, tenant_id: UUID, project_id: UUID, name: str, expires_at: datetime | None) -> NewKey:
    pair = keys.new_pair()
    key = ApiKey(
        tenant_id=tenant_id,
        project_id=project_id,
        name=name,
        key_hash=keys.digest(pair.api_key),
        secret_hash=keys.digest(pair.secret_key),
        hint=pair.hint,
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    session.refresh(key)
    return NewKey(key, pair)


def list_keys(tenant_id: UUID, project_id: UUID, *, limit: int = 100, before: UUID | None = None) -> list[ApiKey]:
    """Keys of a project, newest first, the revoked ones too. Raises NotFound if there is no such project."""
    query = (
        select(ApiKey)
        .where(ApiKey.tenant_id == tenant_id, ApiKey.project_id == project_id)
        .order_by(col(ApiKey.id).desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(col(ApiKey.id) < before)
    with sessions.tenant_session(tenant_id) as session:
        project = select(Project.id).where(Project.id == project_id, Project.tenant_id == tenant_id)
        if session.exec(project).first() is None:
            raise NotFound
        return list(session.exec(query))


def rotate_key(tenant_id: UUID, key_id: UUID, *, old_valid_seconds: float | None = None) -> NewKey:
    """A new key of the same project and name; the old one goes on working beside it.

    Parameters
    ----------
    old_valid_seconds
        How long the old key works from now; None: until it is revoked, or its own expiry. The new key does not
        expire.

    Raises
    ------
    NotFound
        There is no such key.
    Conflict
        The old key is revoked or expired already: make a new one instead.
    """
    with sessions.tenant_session(tenant_id) as session:
        old = session.exec(_one_key(tenant_id, key_id).with_for_update()).first()
        if old is None:
            raise NotFound
        now = datetime.now(UTC)
        if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
            raise Conflict("The key is revoked or expired; create a new one.")
        if old_valid_seconds is not None:
            ends_at = now + timedelta(seconds=old_valid_seconds)
            old.expires_at = min(old.expires_at, ends_at) if old.expires_at else ends_at
            session.add(old)
        return _add_key(session, tenant_id, old.project_id, old.name, None)


def revoke_key(tenant_id: UUID, key_id: UUID) -> ApiKey:
    """End a key: refused here at once, and in every other process within TRUST_SECONDS + GRACE_SECONDS.

    Revoking it again changes nothing. Raises NotFound if there is no such key.
    """
    with sessions.tenant_session(tenant_id) as session:
        key = session.exec(_one_key(tenant_id, key_id).with_for_update()).first()
        if key is None:
            raise NotFound
        if key.revoked_at is None:
            key.revoked_at = func.now()  # type: ignore[assignment]
            session.add(key)
            session.flush()
            session.refresh(key)
    forget()
    return key


def _one_key(tenant_id: UUID, key_id: UUID) -> SelectOfScalar[ApiKey]:
    return select(ApiKey).where(ApiKey.id == key_id, ApiKey.tenant_id == tenant_id)
