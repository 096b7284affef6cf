"""Retention: days that nobody keeps are dropped whole, the rest goes in chunks, and what runs stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from core import db
from core.dispatch import live
from core.dispatch.record import record
from core.ids import new_id
from core.logbook import retention
from core.native import shards
from scheduler.retention import LOOK_SECONDS, remove_old
from tests.core.dispatch.world import World, execute, succeeded

pytestmark = pytest.mark.usefixtures("database_url")

_TODAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


@pytest.fixture
def world() -> World:
    with db.connection() as connection:
        connection.execute("SELECT ensure_partitions(current_date - 20, current_date)")
    return World()


def _keeps(world: World, days: int | None) -> None:
    execute("UPDATE project SET retention_days = %s WHERE id = %s", (days, world.principal.project_id))


def _add(world: World, days_ago: int, count: int = 1, batch_id: UUID | None = None) -> None:
    """Completions of some days ago."""
    with db.connection() as connection:
        for _ in range(count):
            row_id = live._new_id()
            time = _TODAY - timedelta(days=days_ago)
            connection.execute(
                "INSERT INTO completion (id, created_at, tenant_id, project_id, batch_id, custom_id, status,"
                " model_requested, model, provider) VALUES (%s, %s, %s, %s, %s, %s, 'succeeded', 'm', 'm', 'openai')",
                (row_id, time, world.principal.tenant_id, world.principal.project_id, batch_id, str(row_id)),
            )
            for table in ("completion_request", "completion_response"):
                connection.execute(
                    f"INSERT INTO {table} (completion_id, created_at, tenant_id, body) VALUES (%s, %s, %s, '{{}}')",
                    (row_id, time, world.principal.tenant_id),
                )


def _left(table: str = "completion") -> list[int]:
    """Days ago, of every row that is left."""
    return sorted((_TODAY.date() - row["created_at"].date()).days for row in _rows(f"SELECT created_at FROM {table}"))


def _partitions() -> set[str]:
    found = _rows("SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'completion'::regclass")
    return {row["name"] for row in found}


def _rows(statement: str) -> list[dict[str, Any]]:
    with db.connection() as connection:
        return connection.execute(statement).fetchall()


def _partition(days_ago: int) -> str:
    return f"completion_p{_TODAY - timedelta(days=days_ago):%Y%m%d}"


def _remove_all() -> None:
    while remove_old() < LOOK_SECONDS:
        pass


def test_days_that_nobody_keeps_are_dropped(world: World) -> None:
    for days in (15, 10, 5, 1):
        _add(world, days)
    _keeps(world, 7)
    assert retention.drop_partitions() > 0
    assert not {_partition(15), _partition(10)} & _partitions()
    assert {_partition(5), _partition(1)} <= _partitions()
    for table in ("completion", "completion_request", "completion_response"):
        assert _left(table) == [1, 5]
    assert retention.delete_chunk() == 0


def test_what_another_project_keeps_stays_and_the_rest_goes_in_chunks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: somebody who keeps everything
    monkeypatch.setattr(retention, "CHUNK_ROWS", 3)
    other = World()
    _add(other, 15)
    _add(world, 15, 7)
    _add(world, 2)
    _keeps(world, 7)
    # then
    assert retention.delete_chunk() == 3
    _remove_all()
    for table in ("completion", "completion_request", "completion_response"):
        assert _left(table) == [2, 15]
    assert _partition(15) in _partitions()


def test_without_a_retention_nothing_goes(world: World) -> None:
    _add(world, 19)
    _remove_all()
    assert _left() == [19]


def test_a_batch_goes_with_its_rows_and_one_that_runs_stays(world: World) -> None:
    # given: two batches of ten days ago, one of which has ended
    ended, running = world.submit(1), world.submit(1)
    rows = world.run()
    record([succeeded(row) for row in rows if row.batch_id == ended])
    for batch_id in (ended, running):
        execute("UPDATE batch SET created_at = %s WHERE id = %s", (_TODAY - timedelta(days=10), batch_id))
        _add(world, 10, 4, batch_id)
    _keeps(world, 7)
    # then: the day that the running one lies in is not dropped
    _remove_all()
    assert _partition(10) in _partitions()
    assert [row["id"] for row in _rows("SELECT id FROM batch")] == [running]
    assert _left().count(10) == 4
    # and when that has ended too, it goes
    record([succeeded(row) for row in rows if row.batch_id == running])
    _remove_all()
    assert _partition(10) not in _partitions()
    assert _rows("SELECT id FROM batch") == _rows("SELECT id FROM lane") == []


def test_a_day_in_use_is_dropped_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LOCK_TIMEOUT", "50ms")
    _add(world, 15)
    _keeps(world, 7)
    with db.connection() as reader:
        reader.execute("SELECT count(*) FROM completion").fetchone()
        assert retention.drop_partitions() == 0
    assert retention.drop_partitions() > 0


def _shard(world: World, batch_id: UUID, days_ago: int, state: str) -> None:
    """A shard of a native batch of some days ago."""
    principal = world.principal
    execute(
        "INSERT INTO native_shard (id, batch_id, lane_id, tenant_id, project_id, connection_id, provider, model,"
        " created_at, first_n, rows, remaining, state) VALUES"
        " (gen_random_uuid(), %s, 1, %s, %s, gen_random_uuid(), 'openai', 'gpt-4o-mini', %s, 0, 3, 0, %s)",
        (batch_id, principal.tenant_id, principal.project_id, _TODAY - timedelta(days=days_ago), state),
    )


def test_shards_go_when_their_batch_is_gone_and_nothing_is_left_at_the_provider(world: World) -> None:
    # given: shards of a batch that is there, and of one that is gone
    here, gone = world.submit(1), new_id()
    for batch_id in (here, gone, gone):
        _shard(world, batch_id, 10, "cleaned")
    _shard(world, gone, 10, "sent")
    # when: housekeeping runs, one at a time
    rounds = 1
    while _forget_one():
        rounds += 1
    # then: only those of the batch that is gone are gone, and what is at the provider is kept in mind
    found = _rows("SELECT batch_id, state FROM native_shard ORDER BY state")
    assert [(row["batch_id"], row["state"]) for row in found] == [(here, "cleaned"), (gone, "sent")]
    assert rounds == 3


def _forget_one() -> bool:
    with db.connection() as connection:
        return shards.forget_old(connection, 1)


def test_a_day_is_not_dropped_before_its_shards_are_cleaned_up(world: World) -> None:
    _add(world, 15)
    _keeps(world, 7)
    _shard(world, new_id(), 15, "sent")
    retention.drop_partitions()
    assert _partition(15) in _partitions()
    # the rows themselves go all the same
    _remove_all()
    assert _left("completion_request") == []
    execute("UPDATE native_shard SET state = 'cleaned'")
    retention.drop_partitions()
    assert _partition(15) not in _partitions()
