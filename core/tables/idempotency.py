"""Answers kept under the key that a caller gave its request."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from sqlalchemy import Column, Index, LargeBinary
from sqlmodel import Field, SQLModel

from core.ids import new_id
from core.tables.columns import text_column, time_column


class IdempotencyKey(SQLModel, table=True):
    """The first answer to a POST with an Idempotency-Key, kept for 24 hours."""

    __tablename__: ClassVar[str] = "idempotency_key"
    id: UUID = Field(default_factory=new_id, primary_key=True)
    #: null where the operator asked
    tenant_id: UUID | None = Field(default=None, foreign_key="tenant.id", index=True)
    project_id: UUID | None = Field(default=None, foreign_key="project.id")
    key: str = text_column()
    #: SHA-256 over method, path and body
    fingerprint: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    #: null while the first request is still being answered
    status_code: int | None = None
    response: str | None = text_column(nullable=True)
    #: the answer instead, where it holds a secret, and the version of its KEK (core/crypto.py)
    ciphertext: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    key_version: int | None = None
    #: a request that died in flight gives its key back after this
    locked_until: datetime = time_column()
    created_at: datetime = time_column(default=True)

    __table_args__ = (
        Index("idempotency_key_key", "project_id", "key", unique=True, postgresql_nulls_not_distinct=True),
    )
