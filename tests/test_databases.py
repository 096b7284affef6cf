"""A database that was another test's is like a new one, or it is not lent again."""

from __future__ import annotations

import psycopg
import pytest

from tests.databases import Databases


def _do(url: str, statement: str) -> list[tuple]:
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def _tenants(url: str) -> int:
    return _do(url, "SELECT count(*) FROM tenant")[0][0]


def test_one_that_was_written_to_is_empty_and_numbers_begin_anew(databases: Databases) -> None:
    # given rows, one of which points at another, and a number taken from a sequence
    first = databases.new()
    _do(first, "INSERT INTO tenant (id, name) VALUES (gen_random_uuid(), 'a')")
    _do(first, "INSERT INTO project (id, tenant_id, name) SELECT gen_random_uuid(), id, 'p' FROM tenant")
    assert _do(first, "SELECT nextval('lane_id_seq')") == [(1,)]
    held = psycopg.connect(first)
    held.execute("INSERT INTO tenant (id, name) VALUES (gen_random_uuid(), 'never committed')")
    # when
    databases.take_back(first)
    again = databases.lend()
    # then
    assert again == first
    assert _tenants(again) == 0
    assert _do(again, "SELECT nextval('lane_id_seq')") == [(1,)]
    databases.take_back(again)
    with pytest.raises(psycopg.OperationalError):
        held.execute("SELECT 1")


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE tenant ADD COLUMN other int",
        "ALTER TABLE tenant ALTER COLUMN name SET DEFAULT 'x'",
        "CREATE INDEX ON tenant (name)",
        "DROP TABLE completion_default",
        "DROP POLICY own_rows ON batch",
        "ALTER TABLE tenant DISABLE TRIGGER ALL",
        "ANALYZE rollup",
        "INSERT INTO tenant (id, name) SELECT gen_random_uuid(), repeat('x', 90) FROM generate_series(1, 1000)",
    ],
)
def test_one_whose_tables_changed_or_grew_is_not_lent_again(databases: Databases, change: str) -> None:
    url = databases.new()
    _do(url, change)
    databases.take_back(url)
    other = databases.lend()
    assert other != url
    databases.take_back(other)
