"""Model mappings: what a project means by a model's name, and where to go when that is down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from core import sessions
from core.errors import InvalidInput, NotFound
from core.ids import public
from core.principal import Principal
from core.states import ProviderType
from core.tables.connections import Connection, ModelMapping
from core.tables.tenants import Project
from core.text_input import Problems, is_storable

MAX_NAME = 200
MAX_FALLBACKS = 10


def put(principal: Principal, alias: str, given: Mapping[str, Any]) -> tuple[ModelMapping, bool]:
    """Set what an alias means, as a whole: (mapping, True if it is new).

    Parameters
    ----------
    alias
        Any name of 1 to 200 characters, a real model's included.
    given
        {"model": ..., "provider": ..., "fallbacks": [{"model": ..., "provider": ...}]} (API.md section 6); `provider`
        is a provider type, configured or not, or the name of an openai_compatible one of the project's.

    Raises
    ------
    InvalidInput
        With all that is wrong.
    """
    problems = Problems()
    name = problems.text(alias, "/alias", longest=MAX_NAME)
    target = _target(given, "", problems, {"model", "provider", "fallbacks"})
    fallbacks = _fallbacks(given.get("fallbacks"), problems)
    if problems or name is None:
        raise InvalidInput(list(problems))
    with sessions.tenant_session(principal.tenant_id) as session:
        # One change of a project's mappings at a time: two puts of one alias make one mapping.
        project = select(Project.id).where(Project.id == principal.project_id, Project.tenant_id == principal.tenant_id)
        if session.exec(project.with_for_update()).first() is None:
            raise NotFound
        _check_providers(session, principal, [target, *fallbacks])
        row = session.exec(_own(principal).where(ModelMapping.alias == name)).first()
        created = row is None
        if row is None:
            row = ModelMapping(tenant_id=principal.tenant_id, project_id=principal.project_id, alias=name, model="")
        row.model, row.provider, row.fallbacks = target["model"], target.get("provider"), fallbacks
        row.updated_at = func.now()  # type: ignore[assignment]
        session.add(row)
        session.flush()
        session.refresh(row)
    return row, created


def get(principal: Principal, alias: str) -> ModelMapping:
    """The mapping of an alias. Raises NotFound."""
    with sessions.tenant_session(principal.tenant_id) as session:
        return _one(session, principal, alias)


def page(principal: Principal, *, limit: int = 20, before: UUID | None = None) -> list[ModelMapping]:
    """Mappings of the project, newest first; `before` is the id where the last page ended."""
    query = _own(principal).order_by(col(ModelMapping.id).desc()).limit(limit)
    if before is not None:
        query = query.where(col(ModelMapping.id) < before)
    with sessions.tenant_session(principal.tenant_id) as session:
        return list(session.exec(query))


def delete(principal: Principal, alias: str) -> None:
    """Take a mapping away. Raises NotFound."""
    with sessions.tenant_session(principal.tenant_id) as session:
        session.delete(_one(session, principal, alias))


def as_object(row: ModelMapping) -> dict[str, Any]:
    """A mapping as the API shows it."""
    return {
        "id": public("map", row.id),
        "alias": row.alias,
        "model": row.model,
        "provider": row.provider,
        "fallbacks": row.fallbacks,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _own(principal: Principal) -> SelectOfScalar[ModelMapping]:
    return select(ModelMapping).where(
        ModelMapping.tenant_id == principal.tenant_id, ModelMapping.project_id == principal.project_id
    )


def _one(session: Session, principal: Principal, alias: str) -> ModelMapping:
    if not is_storable(alias):
        raise NotFound
    row = session.exec(_own(principal).where(ModelMapping.alias == alias.strip())).first()
    if row is None:
        raise NotFound
    return row


def _check_providers(session: Session, principal: Principal, targets: list[dict[str, Any]]) -> None:
    """Raise InvalidInput for a provider that can only be misspelt: neither a type nor a name that the project gave."""
    known = [each.value for each in ProviderType]
    if all(each.get("provider") in (None, *known) for each in targets):
        return
    known += session.exec(
        select(Connection.name)
        .where(Connection.tenant_id == principal.tenant_id, Connection.project_id == principal.project_id)
        .where(Connection.provider_type == ProviderType.OPENAI_COMPATIBLE, Connection.name != "")
        .order_by(Connection.name)
    )
    problems = Problems()
    for index, each in enumerate(targets):
        if each.get("provider") not in (None, *known):
            message = (
                f"There is no such provider; there are {', '.join(known)}. Others by POST /v1/providers, with a name."
            )
            problems.add("/provider" if not index else f"/fallbacks/{index - 1}/provider", message)
    if problems:
        raise InvalidInput(list(problems))


def _target(given: Mapping[str, Any], pointer: str, problems: Problems, known: set[str]) -> dict[str, str]:
    """{"model", "provider" if given} of a mapping or a fallback."""
    problems.unknown(given, known, pointer)
    found = {}
    if given.get("model") is None:
        problems.add(f"{pointer}/model", "Required: the model to call.")
    elif (model := problems.text(given["model"], f"{pointer}/model", longest=MAX_NAME)) is not None:
        found["model"] = model
    if given.get("provider") is not None:
        provider = problems.text(given["provider"], f"{pointer}/provider", longest=100)
        if provider is not None:
            found["provider"] = provider
    return found


def _fallbacks(given: Any, problems: Problems) -> list[dict[str, Any]]:
    if given is None:
        return []
    if not isinstance(given, list):
        problems.add("/fallbacks", "Must be an array.")
        return []
    if len(given) > MAX_FALLBACKS:
        problems.add("/fallbacks", f"At most {MAX_FALLBACKS} fallbacks.")
        return []
    found: list[dict[str, Any]] = []
    for index, each in enumerate(given):
        if isinstance(each, Mapping):
            found.append(dict(_target(each, f"/fallbacks/{index}", problems, {"model", "provider"})))
        else:
            problems.add(f"/fallbacks/{index}", "Must be an object.")
    return found
