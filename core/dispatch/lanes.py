"""What all rows of a lane have in common: read once for a transaction's rows, not with every row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from core.db import RawConnection
from core.ids import BLOCK_BITS


@dataclass(frozen=True, slots=True)
class LaneFacts:
    tenant_id: UUID
    project_id: UUID
    provider: str
    model: str
    #: False: a row's request is removed when it has ended
    keeps_bodies: bool


def ask(connection: RawConnection, row_ids: Iterable[int]) -> Cursor[DictRow]:
    """Ask for the lanes in which these rows of batches lie; a row's lane is `row_id >> BLOCK_BITS`."""
    return connection.execute(_FACTS, (list({row_id >> BLOCK_BITS for row_id in row_ids}),))


def told(asked: Cursor[DictRow]) -> dict[int, LaneFacts]:
    """Lane id -> facts, of the lanes that were asked for."""
    return {row.pop("id"): LaneFacts(**row) for row in asked}


_FACTS = """
SELECT lane.id, lane.tenant_id, lane.project_id, lane.provider, lane.model,
       project.log_bodies <> 'metadata_only' AS keeps_bodies
FROM lane JOIN project ON project.id = lane.project_id
WHERE lane.id = ANY(%s)
"""
