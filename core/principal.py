"""Whom a request acts for; what finds that out is core/identity.py."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Principal:
    """The project that a request acts for, and the key it came with."""

    tenant_id: UUID
    project_id: UUID
    key_id: UUID
    #: the project's own limit of requests to the API; None: as many as the service allows
    requests_per_minute: int | None = None
