"""Long reads hold a few bodies at a time, however many rows there are and however long they are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from core import db, page_rows
from core.batches import control, ingest
from core.batches.options import BatchOptions
from core.file_batches.parts import Part
from core.file_batches.views import content
from tests.core.dispatch.world import World

ROWS, BODY_BYTES = 80, 100_000


@pytest.fixture
def world(database_url: str) -> World:
    return World()


@pytest.fixture
def batch_id(world: World) -> UUID:
    rows = ({"model": "gpt-4o-mini", "messages": [_message()]} for _ in range(ROWS))
    return ingest.submit(world.principal, rows, BatchOptions())


def _message() -> dict[str, str]:
    return {"role": "user", "content": "x" * BODY_BYTES}


def _run_again(world: World, batch_id: UUID) -> Iterator[Any]:
    with db.connection() as connection:
        found = connection.execute("SELECT created_at FROM batch WHERE id = %s", (batch_id,)).fetchone()
    assert found is not None
    return control._again(world.principal, batch_id, found["created_at"], ["pending"])


def _as_a_file(world: World, batch_id: UUID) -> Iterator[Any]:
    pieces = content(world.principal, batch_id, Part.INPUT)
    return (line for piece in pieces for line in piece.splitlines())


@pytest.mark.parametrize("read", [_run_again, _as_a_file])
def test_a_page_holds_as_many_rows_as_their_bodies_allow(
    world: World, batch_id: UUID, read: Callable[[World, UUID], Iterator[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_rows, "FIRST_ROWS", 4)
    monkeypatch.setattr(page_rows, "PAGE_BYTES", 4 * BODY_BYTES)
    tracemalloc.start()
    try:
        # when
        count = sum(1 for _ in read(world, batch_id))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # then: every row came, and a few copies of a page were all that was held
    assert count == ROWS
    assert most < ROWS * BODY_BYTES / 3
