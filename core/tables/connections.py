"""Where a project's model names lead: credentials at providers, and aliases."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, Index, LargeBinary, text
from sqlmodel import Field, SQLModel

from core.ids import new_id
from core.tables.columns import json_column, text_column, time_column


class Connection(SQLModel, table=True):
    """A project's credential at a provider, with the address it belongs to."""

    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenant.id", index=True)
    project_id: UUID = Field(foreign_key="project.id")
    provider_type: str = text_column()
    name: str = text_column(default="")
    base_url: str | None = text_column(nullable=True)
    organization: str | None = text_column(nullable=True)
    key_ciphertext: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    key_version: int
    key_hint: str = text_column(default="")
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = Field(default=None, sa_column=Column(BigInteger))
    max_concurrency: int | None = None
    #: `active`, or `stopped` when the provider refused the credential for good
    state: str = text_column(default="active")
    stop_reason: str | None = text_column(nullable=True)
    stop_message: str | None = text_column(nullable=True)
    stopped_at: datetime | None = time_column(nullable=True)
    created_at: datetime = time_column(default=True)
    updated_at: datetime = time_column(default=True)

    __table_args__ = (
        Index(
            "connection_one_of_a_type",
            "project_id",
            "provider_type",
            unique=True,
            postgresql_where=text("provider_type <> 'openai_compatible'"),
        ),
        Index(
            "connection_compatible_by_name",
            "project_id",
            "name",
            unique=True,
            postgresql_where=text("provider_type = 'openai_compatible'"),
        ),
    )


class ModelMapping(SQLModel, table=True):
    __tablename__: ClassVar[str] = "model_mapping"
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenant.id", index=True)
    project_id: UUID = Field(foreign_key="project.id")
    alias: str = text_column()
    model: str = text_column()
    provider: str | None = text_column(nullable=True)
    #: [{"model": ..., "provider": ...}], tried in order
    fallbacks: list[dict[str, Any]] = json_column(default="[]")
    created_at: datetime = time_column(default=True)
    updated_at: datetime = time_column(default=True)

    __table_args__ = (Index("model_mapping_alias", "project_id", "alias", unique=True),)
