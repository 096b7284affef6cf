"""Rows under way: the lives of workers, and the leases that they hold."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, text
from sqlmodel import Field, SQLModel

from core.ids import new_id
from core.tables.columns import count_column, json_column, money_column, text_column, time_column


class Worker(SQLModel, table=True):
    """One life of one worker process; its leases live as long as this one does."""

    id: UUID = Field(default_factory=new_id, primary_key=True)
    host: str = text_column()
    pid: int
    started_at: datetime = time_column(default=True)
    lease_expires_at: datetime = time_column()
    capacity: int
    in_flight: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    #: it takes no new rows: it is stopping
    draining: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})


class Lease(SQLModel, table=True):
    """A row of a batch that has been dispatched and has not ended: rung, running, or waiting to be tried again.

    Deleting it under its fence is what ends the row: whoever deletes it writes the outcome.
    """

    completion_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    created_at: datetime = time_column()
    batch_id: UUID = Field()
    tenant_id: UUID = Field()
    lane_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    connection_id: UUID = Field()
    #: raised by every claim: an older holder can no longer start or fail the row
    fence: int
    #: provider calls made so far that gave no answer, and those of them that count towards giving up
    attempts: int = count_column()
    strikes: int = count_column()
    #: workers that died with the row in hand
    crashes: int = count_column()
    #: set while it waits to be tried again
    due_at: datetime | None = time_column(nullable=True)
    #: its calls that failed, the last 20 (core/failed_calls.py)
    failures: Any | None = json_column(nullable=True)
    #: set when its doorbell was rung
    rung_at: datetime | None = time_column(nullable=True)
    call_started_at: datetime | None = time_column(nullable=True)
    worker_id: UUID | None = None
    estimated_input_tokens: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    estimated_output_tokens: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    #: the most this row can cost; part of the batch's reserved_usd
    reserved_usd: Decimal = money_column()

    # Few rows, changed often: everything but the key stays out of indexes so that updates stay in their page.
    __table_args__ = (
        CheckConstraint("num_nonnulls(due_at, rung_at) = 1", name="waiting_or_rung"),
        {"postgresql_with": {"fillfactor": "50"}},
    )
