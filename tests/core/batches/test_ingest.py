"""A batch on its way in: one chunk is written while the next is read, and what is wrong in either is named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from core import db
from core.batches import ingest, reading
from core.batches.options import BatchOptions
from core.errors import InvalidInput
from tests.core.dispatch.world import PROMPT, World

pytestmark = pytest.mark.usefixtures("database_url")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CHUNK_ROWS", 2)


def row(custom_id: str, **changes: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "model": "gpt-4o-mini", "messages": PROMPT, **changes}


def kept() -> list[str]:
    with db.connection() as connection:
        return [found["custom_id"] for found in connection.execute("SELECT custom_id FROM completion ORDER BY id")]


def test_rows_of_many_chunks_are_written_in_order() -> None:
    names = ["a", "b\\", "c\t", "d\n", "e"]
    ingest.submit(World().principal, [row(name) for name in names], BatchOptions())
    assert kept() == names


@pytest.mark.parametrize(("again", "at"), [("a", 4), ("d", 4), ("e", 5)])
def test_a_custom_id_of_an_earlier_chunk_is_refused_where_it_stands(again: str, at: int) -> None:
    rows = [row(name) for name in "abcde"]
    rows.insert(at, row(again))
    with pytest.raises(InvalidInput) as refused:
        ingest.submit(World().principal, rows, BatchOptions())
    assert [error.pointer for error in refused.value.errors] == [f"/requests/{at}/custom_id"]
    assert kept() == []


def test_a_bad_row_behind_one_that_is_being_written_keeps_nothing() -> None:
    with pytest.raises(InvalidInput) as refused:
        ingest.submit(World().principal, [*map(row, "abc"), row("d", temperature=9)], BatchOptions())
    assert [error.pointer for error in refused.value.errors] == ["/requests/3/temperature"]
    assert kept() == []


def test_a_body_that_breaks_off_while_a_chunk_is_written_leaves_the_connection_whole() -> None:
    class Cut(Exception):
        pass

    def rows() -> Iterator[dict[str, Any]]:
        yield from map(row, "abc")
        raise Cut

    world = World()
    for _ in range(3):
        with pytest.raises(Cut):
            ingest.submit(world.principal, rows(), BatchOptions())
    assert kept() == []
    world.submit(5)
    assert len(kept()) == 5


def test_repeated_ids_are_told_by_the_id_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # given: rows that cannot be held against each other, which once took seconds for a chunk of two thousand
    def compared(row: reading.Row, other: object) -> bool:
        raise AssertionError

    monkeypatch.setattr(reading.Row, "__eq__", compared)
    monkeypatch.setattr(reading, "CHUNK_ROWS", 5)
    # when: a chunk that repeats an id of an earlier one, and one of its own
    with pytest.raises(InvalidInput) as refused:
        ingest.submit(World().principal, [row(name) for name in "abcdeafggh"], BatchOptions())
    # then
    assert [error.pointer for error in refused.value.errors] == ["/requests/5/custom_id", "/requests/8/custom_id"]
