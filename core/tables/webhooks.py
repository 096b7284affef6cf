"""Webhooks: endpoints with their secrets, the outbox, and what receivers said."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from sqlalchemy import Column, Index, LargeBinary, SmallInteger, text
from sqlmodel import Field, SQLModel

from core.ids import new_id
from core.tables.columns import count_column, json_column, text_column, time_column


class WebhookEndpoint(SQLModel, table=True):
    """Where a project's events go, beside the webhook_url of its batches."""

    __tablename__: ClassVar[str] = "webhook_endpoint"
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenant.id")
    project_id: UUID = Field(foreign_key="project.id", index=True)
    url: str = text_column()
    description: str | None = text_column(nullable=True)
    #: names; null: all events
    event_types: list[str] | None = json_column(nullable=True)
    enabled: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    disabled_reason: str | None = text_column(nullable=True)
    disabled_at: datetime | None = time_column(nullable=True)
    #: of the first failure since it last took something
    failing_since: datetime | None = time_column(nullable=True)
    created_at: datetime = time_column(default=True)
    updated_at: datetime = time_column(default=True)


class WebhookSecret(SQLModel, table=True):
    """Secrets of endpoints, and those that endpoints and projects had before a rotation while they still sign."""

    __tablename__: ClassVar[str] = "webhook_secret"
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenant.id")
    project_id: UUID = Field(foreign_key="project.id", index=True)
    #: null: an old one of the project, whose present one lies in `project`
    endpoint_id: UUID | None = Field(default=None, index=True)
    ciphertext: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    version: int
    #: null: the present one
    expires_at: datetime | None = time_column(nullable=True)


class WebhookDelivery(SQLModel, table=True):
    """The outbox: one event for one receiver, written in the transaction that made the event."""

    __tablename__: ClassVar[str] = "webhook_delivery"
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field()
    project_id: UUID = Field()
    batch_id: UUID | None = Field(default=None, index=True)
    #: null: the batch's own webhook_url. No foreign key: the log outlives its endpoint
    endpoint_id: UUID | None = Field(default=None, index=True)
    #: what shares one allowance of attempts: an endpoint, or all URLs of a project on one host
    receiver: str = text_column(default="")
    event_type: str = text_column()
    url: str = text_column()
    payload: str = text_column()
    #: `pending`, `delivered` or `failed`
    status: str = text_column(default="pending")
    attempts: int = count_column()
    fence: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    due_at: datetime = time_column(default=True)
    #: set while a worker holds it
    lease_expires_at: datetime | None = time_column(nullable=True)
    last_status: int | None = None
    last_error: str | None = text_column(nullable=True)
    created_at: datetime = time_column(default=True)
    delivered_at: datetime | None = time_column(nullable=True)

    __table_args__ = (
        Index("webhook_delivery_due", "receiver", "due_at", postgresql_where=text("status = 'pending'")),
        Index(
            "webhook_delivery_held",
            "receiver",
            postgresql_where=text("status = 'pending' AND lease_expires_at IS NOT NULL"),
        ),
        Index("webhook_delivery_list", "project_id", "id"),
    )


class WebhookAttempt(SQLModel, table=True):
    """One attempt at a delivery, and what the receiver said."""

    __tablename__: ClassVar[str] = "webhook_attempt"
    delivery_id: UUID = Field(primary_key=True)
    number: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    tenant_id: UUID
    started_at: datetime = time_column()
    duration_ms: int
    #: null: there was no answer
    status: int | None = None
    error: str | None = text_column(nullable=True)
    excerpt: str = text_column(default="")
