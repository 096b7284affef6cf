"""Claiming: the scheduler's statements that turn rows which are due into leases, ready to be rung.

Fresh rows are taken by the lane's cursor, so a claim reads no more in a batch of a million rows than in one of a
hundred. Rows that wait to be tried again are leases already and are claimed by raising their fence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from core import partitions
from core.db import RawConnection
from core.dispatch.doorbell import Slice
from core.ids import BLOCK_BITS
from core.pg_arrays import numbers


@dataclass(slots=True)
class OpenLane:
    """A lane with work to do, as the scheduler's planning sees it."""

    id: int
    batch_id: UUID
    tenant_id: UUID
    weight: int
    priority: int
    created_at: datetime
    connection_id: UUID
    provider: str
    model: str
    #: its rows, or in a native lane those that shards have gathered: the others are not dispatched
    total: int
    next_n: int
    requests_per_minute: int | None
    tokens_per_minute: int | None
    max_concurrency: int | None
    #: what may still be reserved under the batch's max_cost_usd; None: no such limit
    budget_left_usd: Decimal | None
    #: of the leases: due to be tried again now, rung but not started, and in a call
    due: int
    rung: int
    running: int

    @property
    def fresh(self) -> int:
        return self.total - self.next_n


@dataclass(frozen=True, slots=True)
class Held:
    """The leases of one lane: due to be tried again now, rung and not started, in a call."""

    tenant_id: UUID
    connection_id: UUID
    due: int
    rung: int
    running: int


@dataclass(frozen=True, slots=True)
class Flight:
    """All leases there are, paused and stopped batches' included, read in one pass."""

    lanes: dict[int, Held]

    @property
    def rung(self) -> int:
        return sum(held.rung for held in self.lanes.values())

    @property
    def running(self) -> int:
        return sum(held.running for held in self.lanes.values())

    def by_tenant(self) -> dict[UUID, tuple[int, int]]:
        """Rows rung and rows in a call, per tenant: of lanes too that have nothing left to dispatch."""
        found: dict[UUID, tuple[int, int]] = {}
        for held in self.lanes.values():
            rung, running = found.get(held.tenant_id, (0, 0))
            found[held.tenant_id] = (rung + held.rung, running + held.running)
        return found

    def by_connection(self) -> dict[UUID, int]:
        """Rows rung or in a call, per connection."""
        found: dict[UUID, int] = {}
        for held in self.lanes.values():
            found[held.connection_id] = found.get(held.connection_id, 0) + held.rung + held.running
        return found


def flight(connection: RawConnection) -> Flight:
    """The leases, counted: as many rows are read as calls are in flight or wait to be tried again."""
    return _flight_of(connection.execute(_FLIGHT))


def look(connection: RawConnection) -> tuple[Flight, int]:
    """`flight` and `capacity`; in a pipeline they are one question."""
    leases, workers = connection.execute(_FLIGHT), connection.execute(_CAPACITY)
    return _flight_of(leases), _capacity_of(workers)


def _flight_of(asked: Cursor[DictRow]) -> Flight:
    return Flight({row.pop("lane_id"): Held(**row) for row in asked.fetchall()})


def open_lanes(connection: RawConnection, held: Flight) -> list[OpenLane]:
    """Every lane that has rows to dispatch now, by priority and age.

    Among them those whose provider was removed: workers fail their rows, instead of leaving them to their window's end.
    Reads running batches and their lanes: neither grows with the size of a batch.
    """
    due = [lane_id for lane_id, lane in held.lanes.items() if lane.due]
    lanes = []
    for row in connection.execute(_OPEN_LANES, {"due": due}):
        own = held.lanes.get(row["id"], _NOTHING_HELD)
        lanes.append(OpenLane(**row, due=own.due, rung=own.rung, running=own.running))
    return lanes


_NOTHING_HELD = Held(UUID(int=0), UUID(int=0), 0, 0, 0)


def capacity(connection: RawConnection) -> int:
    """Calls that all live workers together can hold."""
    return _capacity_of(connection.execute(_CAPACITY))


def _capacity_of(asked: Cursor[DictRow]) -> int:
    row = asked.fetchone()
    return int(row["capacity"]) if row else 0


def estimates(connection: RawConnection, lane: OpenLane, start_n: int, count: int) -> list[tuple[int, int]]:
    """Estimated (input, output) tokens of the lane's rows start_n, start_n + 1, ..."""
    first = lane.id << BLOCK_BITS
    partition = partitions.holding(connection, "completion", lane.created_at)
    rows = connection.execute(
        f"SELECT estimated_input_tokens AS i, estimated_output_tokens AS o FROM {partition}"  # noqa: S608
        " WHERE id >= %s AND id < %s ORDER BY id",
        (first + start_n, first + min(start_n + count, lane.total)),
    )
    return [(row["i"], row["o"]) for row in rows]


def claim_fresh(
    connection: RawConnection, lane: OpenLane, tokens: list[tuple[int, int]], reserved: list[Decimal]
) -> list[tuple[int, int]]:
    """Claim the next len(tokens) rows of a lane: moves its cursor, writes their leases.

    Parameters
    ----------
    tokens : the rows' estimates, in order.
    reserved : the most each row can cost, in USD; zeros when the batch has no max_cost_usd.

    Returns
    -------
    (completion id, fence) of each row; empty if the batch was paused or stopped, somebody moved the cursor, or native
    shards of the batch have reserved what was left.
    """
    count = len(tokens)
    first = (lane.id << BLOCK_BITS) + lane.next_n
    claimed = connection.execute(
        _CLAIM_FRESH,
        {
            "lane": lane.id,
            "batch": lane.batch_id,
            "next_n": lane.next_n,
            "count": count,
            "first": first,
            "inputs": numbers([pair[0] for pair in tokens]),
            "outputs": numbers([pair[1] for pair in tokens]),
            "reserved": numbers(reserved),
            "total_reserved": sum(reserved, Decimal(0)),
        },
    ).rowcount
    lane.next_n += claimed
    return [(row_id, 1) for row_id in range(first, first + claimed)]


def due_rows(connection: RawConnection, lane_id: int, count: int) -> list[tuple[int, int, int, float]]:
    """Rows of the lane whose time to be tried again has come, oldest first.

    Returns (id, estimated input, estimated output, seconds it has been due) of each.
    """
    rows = connection.execute(
        "SELECT completion_id, estimated_input_tokens AS i, estimated_output_tokens AS o,"
        " extract(epoch FROM now() - due_at)::float8 AS late FROM lease"
        " WHERE lane_id = %s AND due_at <= now() ORDER BY due_at LIMIT %s",
        (lane_id, count),
    )
    return [(row["completion_id"], row["i"], row["o"], row["late"]) for row in rows]


def claim_due(connection: RawConnection, lane: OpenLane, ids: list[int]) -> list[tuple[int, int]]:
    """Claim rows that waited to be tried again. Returns (completion id, new fence) of those that were still waiting."""
    rows = connection.execute(_CLAIM_DUE, {"ids": ids, "batch": lane.batch_id})
    return [(row["completion_id"], row["fence"]) for row in rows]


def slices(lane: OpenLane, rows: list[tuple[int, int]], size: int) -> list[Slice]:
    """Claimed rows cut into messages."""
    return [Slice(lane.created_at, rows[at : at + size]) for at in range(0, len(rows), size)]


_CAPACITY = """
SELECT coalesce(sum(capacity), 0) AS capacity FROM worker WHERE lease_expires_at > now() AND NOT draining
"""

_OPEN_LANES = """
SELECT lane.id, lane.batch_id, lane.tenant_id, tenant.weight, batch.priority, lane.created_at, lane.connection_id,
       lane.provider, lane.model, lane.next_n,
       CASE WHEN lane.processing = 'realtime' THEN lane.total ELSE lane.next_n END AS total,
       c.requests_per_minute, c.tokens_per_minute, c.max_concurrency,
       batch.max_cost_usd - batch.cost_usd - batch.reserved_usd AS budget_left_usd
FROM batch
JOIN lane ON lane.batch_id = batch.id
JOIN tenant ON tenant.id = batch.tenant_id
LEFT JOIN connection c ON c.id = lane.connection_id
WHERE batch.ended_at IS NULL AND batch.status IN ('pending', 'processing') AND coalesce(c.state, 'active') = 'active'
  AND ((lane.next_n < lane.total AND lane.processing = 'realtime') OR lane.id = ANY(%(due)s))
ORDER BY batch.priority DESC, batch.created_at, lane.id
"""

_FLIGHT = """
SELECT lane_id, tenant_id, connection_id,
       count(*) FILTER (WHERE due_at <= now()) AS due,
       count(*) FILTER (WHERE rung_at IS NOT NULL AND call_started_at IS NULL) AS rung,
       count(*) FILTER (WHERE call_started_at IS NOT NULL) AS running
FROM lease GROUP BY lane_id, tenant_id, connection_id
"""

# The batch is locked before the lane is looked at: two schedulers may try the same rows while the lead passes on.
_CLAIM_FRESH = """
WITH running AS MATERIALIZED (
    SELECT id, tenant_id FROM batch WHERE id = %(batch)s AND status IN ('pending', 'processing')
      AND (%(total_reserved)s = 0 OR max_cost_usd IS NULL
           OR max_cost_usd - cost_usd - reserved_usd >= %(total_reserved)s)
    FOR NO KEY UPDATE
), moved AS (
    UPDATE lane SET next_n = next_n + %(count)s
    FROM running WHERE lane.id = %(lane)s AND lane.next_n = %(next_n)s AND lane.processing = 'realtime'
    RETURNING lane.id, lane.created_at, lane.connection_id, running.id AS batch_id, running.tenant_id
), counted AS (
    UPDATE batch SET dispatched = dispatched + %(count)s, status = 'processing',
                     started_at = coalesce(started_at, now()), reserved_usd = reserved_usd + %(total_reserved)s
    FROM moved WHERE batch.id = moved.batch_id
)
INSERT INTO lease (completion_id, created_at, batch_id, tenant_id, lane_id, connection_id, fence, rung_at,
                   estimated_input_tokens, estimated_output_tokens, reserved_usd)
SELECT %(first)s + r.n - 1, moved.created_at, moved.batch_id, moved.tenant_id, moved.id, moved.connection_id, 1, now(),
       r.input, r.output, r.reserved
FROM moved, unnest(%(inputs)s::int[], %(outputs)s::int[], %(reserved)s::numeric[])
     WITH ORDINALITY AS r (input, output, reserved, n)
"""

_CLAIM_DUE = """
UPDATE lease SET due_at = NULL, rung_at = now(), fence = fence + 1, worker_id = NULL, call_started_at = NULL
WHERE completion_id IN (
    SELECT completion_id FROM lease WHERE completion_id = ANY(%(ids)s) AND due_at <= now() FOR UPDATE SKIP LOCKED
) AND EXISTS (SELECT FROM batch WHERE id = %(batch)s AND status IN ('pending', 'processing'))
RETURNING completion_id, fence
"""
