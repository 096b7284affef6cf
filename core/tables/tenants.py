"""Tenants, their projects, and the keys that callers of a project show."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from sqlalchemy import Column, LargeBinary
from sqlmodel import Field, SQLModel

from core.ids import new_id
from core.tables.columns import text_column, time_column


class Tenant(SQLModel, table=True):
    id: UUID = Field(default_factory=new_id, primary_key=True)
    name: str = text_column()
    #: share of the workers relative to other tenants
    weight: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    created_at: datetime = time_column(default=True)


class Project(SQLModel, table=True):
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenant.id", index=True)
    name: str = text_column()
    #: `retry` or `fail`: what becomes of a call whose outcome a crash left unknown
    on_unknown_outcome: str = text_column(default="retry")
    #: `full`, or `metadata_only`: prompts and answers are not kept
    log_bodies: str = text_column(default="full")
    #: completions older than this are removed; null: none are
    retention_days: int | None = None
    #: requests that its callers may make of the API in a minute; null: as many as the service allows
    requests_per_minute: int | None = None
    #: signs what webhook receivers get; encrypted like a provider key
    webhook_secret_ciphertext: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    webhook_secret_version: int | None = None
    created_at: datetime = time_column(default=True)


class ApiKey(SQLModel, table=True):
    __tablename__: ClassVar[str] = "api_key"
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenant.id", index=True)
    project_id: UUID = Field(foreign_key="project.id", index=True)
    name: str = text_column(default="")
    #: SHA-256 of the api key (unique) and of its secret
    key_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    secret_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    #: the first characters of the api key, to tell keys apart in a list
    hint: str = text_column()
    created_at: datetime = time_column(default=True)
    expires_at: datetime | None = time_column(nullable=True)
    revoked_at: datetime | None = time_column(nullable=True)
    last_used_at: datetime | None = time_column(nullable=True)
