"""Where model names lead in a project: its connections and mappings, read together and kept for a moment."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from core import db
from core.principal import Principal
from core.routing import ConnectionRef, Route, Target, fallbacks, route
from core.short_cache import ShortCache

#: A change of a provider or a mapping is seen by every process within both together, in seconds.
KEPT_SECONDS = 1.5
GRACE_SECONDS = 0.5
_KEPT_PROJECTS = 5_000


@dataclass(frozen=True, slots=True)
class ProjectRoutes:
    """The connections and mappings of one project."""

    connections: tuple[ConnectionRef, ...]
    mapping: dict[str, Target]

    def route(self, model: str) -> Route:
        """Where a model name leads. Raises InvalidInput with what to do."""
        return route(model, mapping=self.mapping, connections=self.connections)

    def fallbacks(self, model: str) -> list[Route]:
        """Where to go, in order, when the first is down."""
        return fallbacks(model, mapping=self.mapping, connections=self.connections)


_kept: ShortCache[UUID, ProjectRoutes] = ShortCache(
    seconds=KEPT_SECONDS, grace_seconds=GRACE_SECONDS, size=_KEPT_PROJECTS
)


def of(principal: Principal, *, fresh: bool = False) -> ProjectRoutes:
    """The routes of a project, at most KEPT_SECONDS + GRACE_SECONDS old; `fresh` reads them now."""
    if fresh:
        return _kept.renew(principal.project_id, lambda: _read(principal))
    return _kept.get(principal.project_id, lambda: _read(principal))


def forget(project_id: UUID | None) -> None:
    """Read a project's routes anew for its next call; None: every project's."""
    if project_id is None:
        _kept.clear()
    else:
        _kept.forget(project_id)


def _read(principal: Principal) -> ProjectRoutes:
    owner = (principal.tenant_id, principal.project_id)
    with db.connection(principal.tenant_id) as connection:
        connections = connection.execute(
            "SELECT id, provider_type, name, state FROM connection WHERE tenant_id = %s AND project_id = %s"
            " ORDER BY created_at, id",
            owner,
        ).fetchall()
        mappings = connection.execute(
            "SELECT alias, model, provider, fallbacks FROM model_mapping WHERE tenant_id = %s AND project_id = %s",
            owner,
        ).fetchall()
    return ProjectRoutes(
        tuple(
            ConnectionRef(id=str(row["id"]), provider_type=row["provider_type"], name=row["name"], state=row["state"])
            for row in connections
        ),
        {
            row["alias"]: Target(
                model=row["model"],
                provider=row["provider"],
                fallbacks=tuple(
                    Target(model=each["model"], provider=each.get("provider")) for each in row["fallbacks"]
                ),
            )
            for row in mappings
        },
    )
