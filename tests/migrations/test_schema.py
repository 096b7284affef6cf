"""The migrations make exactly the tables that the code describes, and each tenant's table is guarded."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlmodel import SQLModel

import core.tables  # noqa: F401  (fills the metadata)
from core import db, migrate
from core.sessions import driver_url

#: Tables of the platform: no tenant has rows of its own in them.
PLATFORM = {"alembic_version", "worker"}


def _is_partition(name: str) -> bool:
    return name.endswith("_default") or "_p20" in name


def test_migrations_and_tables_agree(database_url: str) -> None:
    engine = create_engine(driver_url(database_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_object": lambda thing, name, kind, reflected, compare: (
                    not (_is_partition(str(name)) or (kind == "index" and _is_partition(str(thing.table.name))))
                )
            },
        )
        found = compare_metadata(context, SQLModel.metadata)
    engine.dispose()
    assert found == []


def test_there_is_one_head() -> None:
    assert len(ScriptDirectory(str(migrate._MIGRATIONS)).get_heads()) == 1


def test_tenants_only_read_what_the_platform_keeps_for_them(database_url: str) -> None:
    with db.connection() as connection:
        for table in ("native_shard", "rollup"):
            found = connection.execute(
                "SELECT name FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS name"
                " WHERE has_table_privilege('llm_service_tenant', %s, name)",
                (table,),
            ).fetchall()
            assert [row["name"] for row in found] == ["SELECT"], table


def test_every_table_of_tenants_has_row_level_security(database_url: str) -> None:
    with db.connection() as connection:
        rows = connection.execute(
            "SELECT relname, relrowsecurity FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p')"
        ).fetchall()
    bare = {row["relname"] for row in rows if not row["relrowsecurity"]}
    assert bare <= PLATFORM
    # partitions included: hot statements name them
    assert any(_is_partition(row["relname"]) and row["relrowsecurity"] for row in rows)
