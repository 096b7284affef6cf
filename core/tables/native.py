"""Native shards: rows of one lane that go through a provider's batch API together."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, Index, text
from sqlmodel import Field, SQLModel

from core.ids import new_id
from core.tables.columns import count_column, money_column, text_column, time_column


class NativeShard(SQLModel, table=True):
    """Rows first_n .. first_n + rows - 1 of a lane. Those of them that are pending and have no lease belong to it.

    No foreign key to the batch: what lies at the provider is cleaned up even if the batch is deleted before.
    """

    __tablename__: ClassVar[str] = "native_shard"
    #: also the tag by which a provider's batch is found again, with the round's number
    id: UUID = Field(default_factory=new_id, primary_key=True)
    batch_id: UUID = Field(index=True)
    lane_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    tenant_id: UUID
    project_id: UUID
    connection_id: UUID
    provider: str = text_column()
    model: str = text_column()
    #: the batch's: names the partition of the rows
    created_at: datetime = time_column()
    formed_at: datetime = time_column(default=True)
    first_n: int
    rows: int
    #: rows that have neither ended nor been handed back
    remaining: int
    #: rows before this one, counted from first_n, have been handed back
    handed_n: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    #: estimates of all its rows; an OpenAI queue holds so many input tokens of one model
    input_tokens: int = count_column(big=True)
    output_tokens: int = count_column(big=True)
    #: the most the remaining rows can cost; part of the batch's reserved_usd
    reserved_usd: Decimal = money_column()
    #: a ShardState
    state: str = text_column(default="waiting")
    #: how often it was sent to the provider
    rounds: int = count_column()
    #: a CancelReason: what it is taken back from the provider for
    cancel_reason: str | None = text_column(nullable=True)
    cancel_asked_at: datetime | None = time_column(nullable=True)
    cancel_sent_at: datetime | None = time_column(nullable=True)
    #: rows without an answer leave it: for real time, for another round, or to their end
    handing_back: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    #: the provider will not take it, however often it is sent
    refused: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    #: the provider's ids; they never reach a caller
    file_id: str | None = text_column(nullable=True)
    remote_id: str | None = text_column(nullable=True)
    #: of the rows that were sent: where the provider is to send them
    endpoint: str | None = text_column(nullable=True)
    #: rows in this round's request
    sent_rows: int | None = None
    #: committed before the provider is asked to make the batch: from here on it may exist
    create_started_at: datetime | None = time_column(nullable=True)
    #: when it was first looked for because its answer was lost
    create_lost_at: datetime | None = time_column(nullable=True)
    #: `remote_id` was found by its size and its age alone: until its results say so, the batch may be somebody else's,
    #: and is neither cancelled nor deleted
    adopted: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    sent_at: datetime | None = time_column(nullable=True)
    #: as the provider last said; counts are null where it does not tell before the end
    remote_status: str | None = text_column(nullable=True)
    remote_completed: int | None = None
    remote_failed: int | None = None
    taken_in_at: datetime | None = time_column(nullable=True)
    #: when its next step is to be taken, and by whom: a worker that holds the fence while its lease runs
    due_at: datetime = time_column(default=True)
    fence: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    lease_expires_at: datetime | None = time_column(nullable=True)
    #: when that worker began; null while its doorbell is on the way
    begun_at: datetime | None = time_column(nullable=True)
    #: steps that failed in a row, and why the last one did
    failures: int = count_column()
    #: workers that died in a step of it since one of its rows was ended or a step came to its end
    deaths: int = count_column()
    last_error: str | None = text_column(nullable=True)
    #: rows that the provider's batch answered, and rows that were handed back
    answered: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    returned: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    #: answers that were paid for and found their row ended otherwise: the provider's race with the fall-back
    wasted_rows: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    wasted_usd: Decimal = money_column()

    __table_args__ = (Index("native_shard_due", "due_at", postgresql_where=text("state <> 'cleaned'")),)
