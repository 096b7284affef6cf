"""What ended in each hour, added up."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, Column, Numeric, Text
from sqlmodel import Field, SQLModel

from core.tables.columns import time_column


class Rollup(SQLModel, table=True):
    """What ended in one hour, added up: written in the transaction that ends the rows."""

    project_id: UUID = Field(primary_key=True)
    #: when the rows ended, cut to the hour in UTC
    hour: datetime = time_column(key=True)
    provider: str = Field(sa_column=Column(Text, primary_key=True))
    #: as the provider was asked for it
    model: str = Field(sa_column=Column(Text, primary_key=True))
    processing: str = Field(sa_column=Column(Text, primary_key=True))
    status: str = Field(sa_column=Column(Text, primary_key=True))
    #: empty for rows that succeeded
    error_type: str = Field(sa_column=Column(Text, primary_key=True))
    tenant_id: UUID
    requests: int = Field(sa_column=Column(BigInteger, nullable=False))
    attempts: int = Field(sa_column=Column(BigInteger, nullable=False))
    input_tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
    output_tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
    cached_tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
    cache_write_tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
    reasoning_tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
    cost_usd: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    savings_usd: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    #: answers of models without a known price
    unpriced: int = Field(sa_column=Column(BigInteger, nullable=False))
    #: histograms (core/histogram.py) of milliseconds
    latency: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    first_token: Decimal = Field(sa_column=Column(Numeric, nullable=False))

    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)
