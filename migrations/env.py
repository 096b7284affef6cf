"""How Alembic reaches the database: the URL of the settings, one transaction, an advisory lock around it."""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import create_engine, pool, text
from sqlmodel import SQLModel

import core.tables  # noqa: F401  (fills the metadata)
from core.sessions import driver_url
from core.settings import settings

#: Any fixed number: hosts that migrate at once wait for each other.
MIGRATION_LOCK = 0x6C6C6D


def include_object(thing: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    """Partitions are made as days go by, so they are no part of the compared schema."""
    return not (kind == "table" and name is not None and "_p20" in name) and not str(name).endswith("_default")


url = context.config.attributes.get("database_url") or settings().database_url
engine = create_engine(driver_url(url), poolclass=pool.NullPool)
with engine.connect() as connection:
    connection.execute(text("SET lock_timeout = '30s'"))
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
    connection.commit()
    context.configure(connection=connection, target_metadata=SQLModel.metadata, include_object=include_object)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
engine.dispose()
