"""What all tables share: how constraints are named, and columns of times, texts, money, JSON and counts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Numeric, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

# Each module of tables imports this one, so names are settled before the first table is made.
SQLModel.metadata.naming_convention = {
    "pk": "%(table_name)s_pkey",
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ck": "%(table_name)s_%(constraint_name)s_check",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
}

_NOW = text("now()")


def time_column(*, nullable: bool = False, default: bool = False, key: bool = False) -> Any:
    """A moment, with its zone; `default`: when the row was made; `key`: part of the primary key."""
    return Field(
        default=None,
        sa_column=Column(
            DateTime(timezone=True), nullable=nullable, server_default=_NOW if default else None, primary_key=key
        ),
    )


def text_column(*, nullable: bool = False, default: str | None = None) -> Any:
    """Text, not null unless it says so; `default` is the database's too."""
    return Field(
        default=default,
        sa_column=Column(Text, nullable=nullable, server_default=None if default is None else text(f"'{default}'")),
    )


def money_column(*, nullable: bool = False) -> Any:
    """US dollars, exactly; 0, or null where it may be."""
    return Field(
        default=None if nullable else Decimal(0),
        sa_column=Column(Numeric, nullable=nullable, server_default=None if nullable else text("0")),
    )


def json_column(*, nullable: bool = False, default: str | None = None) -> Any:
    """JSON, its default written as JSON."""
    return Field(
        default=None,
        sa_column=Column(JSONB, nullable=nullable, server_default=None if default is None else text(f"'{default}'")),
    )


def count_column(*, big: bool = False) -> Any:
    """A number that begins at 0: of 16 bits, or `big`, of 64."""
    return Field(default=0, sa_column=Column(BigInteger if big else SmallInteger, nullable=False, server_default="0"))
