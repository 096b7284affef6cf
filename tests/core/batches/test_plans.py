"""Statements over a batch's rows read as little in its middle as at its start, whatever the planner knows."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from core import db, partitions
from core.batches import control, ingest, read, results
from core.file_batches.parts import Part
from core.file_batches.views import page_of
from core.ids import BLOCK_BITS
from core.native import draft
from tests.core.dispatch.world import World, execute

ROWS, PAGE = 6000, 200
#: Ids that are looked up at once while a batch comes in.
CHUNK = 1000


@pytest.fixture
def world(database_url: str) -> World:
    return World()


def _blocks(statement: str, given: Any) -> int:
    """Pages of tables and indexes that PostgreSQL touches for it."""
    with db.connection() as connection:
        found = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", given).fetchone()
    assert found is not None
    plan = found["QUERY PLAN"][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def _lane(batch_id: UUID) -> tuple[int, datetime]:
    with db.connection() as connection:
        found = connection.execute("SELECT id, created_at FROM lane WHERE batch_id = %s", (batch_id,)).fetchone()
    assert found is not None
    return found["id"] << BLOCK_BITS, found["created_at"]


@pytest.mark.parametrize("analysed", [False, True])
def test_a_page_in_the_middle_reads_no_more_than_the_first(world: World, analysed: bool) -> None:
    # given: a batch with its requests and answers
    first, created_at = _lane(world.submit(ROWS))
    execute(
        "INSERT INTO completion_response (completion_id, created_at, tenant_id, body)"
        " SELECT id, created_at, tenant_id, repeat('x', 500) FROM completion"
    )
    if analysed:
        execute("ANALYZE")
    with db.connection() as connection:
        names = {
            name: partitions.holding(connection, f"completion{ending}", created_at)
            for name, ending in (("completion", ""), ("request", "_request"), ("response", "_response"))
        }

    def sent(at: int) -> int:
        return _blocks(draft._PENDING.format(**names), (at, first + ROWS, PAGE))

    def run_again(at: int) -> int:
        given = {"tenant": world.principal.tenant_id, "first": at, "last": first + ROWS, "wanted": ["pending"]}
        return _blocks(control._AGAIN.format(**names), {**given, "limit": PAGE})

    def given_back(at: int) -> int:
        given = {"tenant": world.principal.tenant_id, "first": at, "end": first + ROWS, "limit": PAGE}
        return _blocks(results._PAGE.replace("<> 'pending'", "= 'pending'").format(**names), given)

    def as_a_file(at: int) -> int:
        given = {"tenant": world.principal.tenant_id, "first": at, "end": first + ROWS, "limit": PAGE}
        with db.connection() as connection:
            statement = page_of(connection, Part.INPUT, created_at)
        return _blocks(statement, given)

    # when and then
    for page in (sent, run_again, given_back, as_a_file):
        page(first)  # what is read once, of the catalogue and of free space
        at_first, in_the_middle = page(first), page(first + ROWS // 2)
        assert in_the_middle < 1.5 * at_first + 20, (page.__name__, at_first, in_the_middle)


def test_new_ids_are_looked_up_one_by_one_however_many_came_before(world: World) -> None:
    # given: statistics of a time when batches were small
    world.submit(10)
    execute("ANALYZE")

    def blocks(batch_id: UUID) -> int:
        given = ([f"new-{number}" for number in range(CHUNK)], batch_id, _lane(batch_id)[1])
        return _blocks(ingest._TAKEN, given)

    # when and then
    few, many = blocks(world.submit(ROWS // 6)), blocks(world.submit(ROWS))
    assert many < 1.5 * few, (few, many)


@pytest.mark.parametrize("status", ["pending", "processing", "paused"])
def test_batches_that_run_are_found_past_all_that_have_ended(world: World, status: str) -> None:
    # given: one that runs, behind those that have ended since
    batch_id = world.submit(1)
    execute("UPDATE batch SET status = %s WHERE id = %s", (status, batch_id))
    given = {"tenant": world.principal.tenant_id, "project": world.principal.project_id, "status": status, "limit": 21}

    def blocks(ended: int) -> int:
        execute(
            "INSERT INTO batch (id, tenant_id, project_id, created_at, status, processing, expires_at, ended_at, total)"
            " SELECT gen_random_uuid(), tenant_id, project_id, now(), 'completed', processing, expires_at, now(), 1"
            " FROM batch, generate_series(1, %s) WHERE batch.id = %s",
            (ended, batch_id),
        )
        execute("ANALYZE batch")
        _blocks(read.page_sql(status, False), given)
        return _blocks(read.page_sql(status, False), given)

    # when and then
    few, many = blocks(100), blocks(ROWS)
    assert many < 1.5 * few + 20, (few, many)
