"""Batches, their lanes, and how often a cause ended rows of one."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, Identity, Index, SmallInteger, Text, text
from sqlmodel import Field, SQLModel

from core.ids import new_id
from core.tables.columns import count_column, json_column, money_column, text_column, time_column


class Batch(SQLModel, table=True):
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenant.id")
    project_id: UUID = Field(foreign_key="project.id")
    created_at: datetime = time_column()
    name: str | None = text_column(nullable=True)
    # `metadata` is taken by SQLAlchemy
    labels: dict[str, str] = json_column(default="{}")
    processing: str = text_column()
    priority: int = Field(default=0, sa_column=Column(SmallInteger, nullable=False, server_default="0"))
    max_cost_usd: Decimal | None = money_column(nullable=True)
    max_error_rate: float | None = None
    webhook_url: str | None = text_column(nullable=True)
    #: the batch whose failed rows this one runs again
    retry_of: UUID | None = None
    #: as callers see it. `cancelled`, `expired` or `failed` with no ended_at: rows in flight still come home
    status: str = text_column(default="pending")
    #: why it is paused or failed: a FailureReason, and a sentence for its owner
    status_reason: str | None = text_column(nullable=True)
    status_message: str | None = text_column(nullable=True)
    expires_at: datetime = time_column()
    started_at: datetime | None = time_column(nullable=True)
    cancelled_at: datetime | None = time_column(nullable=True)
    ended_at: datetime | None = time_column(nullable=True)
    total: int
    #: rows that a lane has handed to `lease`; pending = total - dispatched, processing = dispatched - ended
    dispatched: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    succeeded: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    failed: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    cancelled: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    expired: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    input_tokens: int = count_column(big=True)
    output_tokens: int = count_column(big=True)
    cached_tokens: int = count_column(big=True)
    reasoning_tokens: int = count_column(big=True)
    cost_usd: Decimal = money_column()
    savings_usd: Decimal = money_column()
    #: the most that rows in flight can still cost; held against max_cost_usd
    reserved_usd: Decimal = money_column()
    #: provider calls beyond the first of a row
    retries: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    #: False: native shards are sent as they are, without marks for the provider's prompt cache
    prompt_caching: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    #: while it waits for its project's budget: what its next row may cost
    needs_usd: Decimal | None = money_column(nullable=True)

    __table_args__ = (
        Index("batch_list", "project_id", "created_at", "id"),
        Index("batch_running", "id", postgresql_where=text("ended_at IS NULL")),
    )


class BatchError(SQLModel, table=True):
    """How often a cause ended rows of a batch: the `errors` of the batch object."""

    __tablename__: ClassVar[str] = "batch_error"
    batch_id: UUID = Field(primary_key=True)
    reason: str = Field(sa_column=Column(Text, primary_key=True))
    tenant_id: UUID = Field()
    count: int
    #: the first message seen
    message: str = text_column(default="")


class Lane(SQLModel, table=True):
    """The rows of one batch for one connection and model: one block of ids, dispatched by a cursor."""

    #: the block: its rows are id << 24 + 0, 1, 2 ...
    id: int = Field(sa_column=Column(BigInteger, Identity(always=False), primary_key=True))
    batch_id: UUID = Field(foreign_key="batch.id", ondelete="CASCADE", index=True)
    tenant_id: UUID = Field()
    project_id: UUID = Field()
    created_at: datetime = time_column()
    connection_id: UUID = Field(index=True)
    provider: str = text_column()
    model: str = text_column()
    total: int
    #: rows 0 .. next_n - 1 have been dispatched, gathered into a native shard, or swept
    next_n: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    #: how rows that are still to be dispatched are run, and why: `native` becomes `realtime` where time runs out
    processing: str = text_column(default="realtime")
    processing_reason: str = text_column(default="")
