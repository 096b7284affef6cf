"""Budgets, and what live calls in flight hold against them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import ClassVar
from uuid import UUID

from sqlalchemy import Column, Numeric, Text
from sqlmodel import Field, SQLModel

from core.ids import new_id
from core.tables.columns import json_column, money_column, text_column, time_column


class Budget(SQLModel, table=True):
    """What a project may spend in a month or a day, and what it has spent in the present one."""

    project_id: UUID = Field(foreign_key="project.id", primary_key=True)
    #: `month` or `day`, in UTC
    period: str = Field(sa_column=Column(Text, primary_key=True))
    tenant_id: UUID = Field(foreign_key="tenant.id")
    limit_usd: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    #: shares of the limit at which to warn
    thresholds: list[float] = json_column()
    #: `stop` or `warn`
    on_limit: str = text_column()
    #: of the period that the counters are of; they are nought if another one has begun
    period_start: datetime = time_column()
    spent_usd: Decimal = money_column()
    #: the highest share of the limit that was warned of in this period
    warned: Decimal = money_column()
    created_at: datetime = time_column(default=True)
    updated_at: datetime = time_column(default=True)

    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)


class BudgetHold(SQLModel, table=True):
    """What a live call in flight can cost, held against its project's budgets."""

    __tablename__: ClassVar[str] = "budget_hold"
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID
    project_id: UUID = Field(index=True)
    usd: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    #: the process that made the call has died
    expires_at: datetime = time_column()
