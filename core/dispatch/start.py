"""Starting: the one statement by which a worker makes claimed rows its own, committed before any call is made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from psycopg.rows import args_row

from core import db, pg_arrays


@dataclass(slots=True)
class Started:
    """A row that this worker must now call and end."""

    created_at: datetime
    id: int
    fence: int
    batch_id: UUID
    connection_id: UUID
    provider: str
    model: str
    #: the request as JSON text, in OpenAI's form
    body: str
    #: calls made before, and those of them that count towards giving up
    attempts: int
    strikes: int
    estimated_input: int
    estimated_output: int
    #: since its claim, by the database's clock
    rung_seconds: float = 0.0


def start(worker_id: UUID, created_at: datetime, rows: list[tuple[int, int]]) -> list[Started]:
    """Mark the rows of a slice as being called by this worker.

    Left out are rows that are no longer its to start: claimed again (an older fence), started by an earlier copy of
    the same doorbell, ended, or of a batch that was paused or stopped; and all of them if the worker itself is
    taken for dead. `call_started_at` is committed when this returns, so that a crash from here on is known to leave
    an unknown outcome.
    """
    row = args_row(partial(Started, created_at))
    with db.single_statement() as connection, connection.cursor(row_factory=row) as cursor:
        return cursor.execute(
            _START,
            {
                "worker": worker_id,
                "created_at": created_at,
                "ids": pg_arrays.numbers([row[0] for row in rows]),
                "fences": pg_arrays.numbers([row[1] for row in rows]),
            },
        ).fetchall()


# The columns stand in the order of Started's fields, after the time that all rows of a slice have in common.
_START = """
WITH mine AS (
    UPDATE lease SET call_started_at = now(), worker_id = %(worker)s
    FROM unnest(%(ids)s::bigint[], %(fences)s::int[]) AS slice (id, fence), batch
    WHERE lease.completion_id = slice.id AND lease.fence = slice.fence
      AND lease.rung_at IS NOT NULL AND lease.call_started_at IS NULL
      AND batch.id = lease.batch_id AND batch.status = 'processing'
      AND EXISTS (SELECT FROM worker WHERE id = %(worker)s AND lease_expires_at > now())
    RETURNING lease.completion_id AS id, lease.fence, lease.batch_id, lease.connection_id,
              lease.attempts, lease.strikes, lease.estimated_input_tokens AS estimated_input,
              lease.estimated_output_tokens AS estimated_output, lease.lane_id,
              extract(epoch FROM now() - lease.rung_at)::float8 AS rung_seconds
)
SELECT mine.id, mine.fence, mine.batch_id, mine.connection_id, lane.provider, lane.model, request.body,
       mine.attempts, mine.strikes, mine.estimated_input, mine.estimated_output, mine.rung_seconds
FROM mine
JOIN lane ON lane.id = mine.lane_id
JOIN completion_request request ON request.completion_id = mine.id AND request.created_at = %(created_at)s
"""
