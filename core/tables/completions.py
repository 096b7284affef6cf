"""The rows: each completion, what was asked and what was answered, in daily partitions."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, Index, LargeBinary, SmallInteger
from sqlmodel import Field, SQLModel

from core.tables.columns import count_column, json_column, money_column, text_column, time_column


class Completion(SQLModel, table=True):
    """One LLM request, live or of a batch, from its acceptance until retention removes it."""

    id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    created_at: datetime = time_column(key=True)
    tenant_id: UUID = Field()
    project_id: UUID = Field()
    batch_id: UUID | None = None
    custom_id: str | None = text_column(nullable=True)
    status: str = text_column(default="pending")
    processing: str = text_column(default="realtime")
    #: as the caller named it, and what was called
    model_requested: str = text_column()
    model: str = text_column()
    provider: str = text_column()
    connection_id: UUID | None = None
    request_id: str | None = text_column(nullable=True)
    request_sha256: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    #: what is held against the limits until the real usage is known
    estimated_input_tokens: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    estimated_output_tokens: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: Decimal | None = money_column(nullable=True)
    list_cost_usd: Decimal | None = money_column(nullable=True)
    price_version: str | None = text_column(nullable=True)
    attempts: int = count_column()
    error_type: str | None = text_column(nullable=True)
    error_message: str | None = text_column(nullable=True)
    provider_status: int | None = Field(default=None, sa_column=Column(SmallInteger))
    started_at: datetime | None = time_column(nullable=True)
    ended_at: datetime | None = time_column(nullable=True)
    first_token_ms: int | None = None
    #: once it has ended: what the provider was asked for, while `model` is what it says has answered
    model_called: str | None = text_column(nullable=True)
    #: calls that failed before the one that decided, the last 20 (core/failed_calls.py)
    failed_attempts: Any | None = json_column(nullable=True)

    __table_args__ = (
        Index("completion_custom_id", "batch_id", "custom_id", "created_at", unique=True),
        Index("completion_log", "project_id", "created_at", "id"),
        {"postgresql_partition_by": "RANGE (created_at)"},
    )


class CompletionRequest(SQLModel, table=True):
    """What the caller sent, as JSON text in OpenAI's form."""

    __tablename__: ClassVar[str] = "completion_request"
    completion_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    created_at: datetime = time_column(key=True)
    tenant_id: UUID = Field()
    body: str = text_column()

    __table_args__ = ({"postgresql_partition_by": "RANGE (created_at)"},)


class CompletionResponse(SQLModel, table=True):
    """What the caller got, as JSON text: an OpenAI chat completion object."""

    __tablename__: ClassVar[str] = "completion_response"
    completion_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    created_at: datetime = time_column(key=True)
    tenant_id: UUID = Field()
    body: str = text_column()

    __table_args__ = ({"postgresql_partition_by": "RANGE (created_at)"},)
