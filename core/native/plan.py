"""Gathering: the next rows of native lanes become shards, as large as the provider and the batch's money allow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from core import budgets, db, partitions, pricing
from core.aside import Aside
from core.db import RawConnection
from core.dispatch import pauses
from core.ids import BLOCK_BITS, new_id
from core.native.remote import size_limits
from core.native.states import ShardState
from core.settings import settings
from core.states import Processing

#: Shards of one lane that may wait to be sent: what a cancel has to take back, and what a full queue holds here.
MAX_WAITING = 2
#: Rows are gathered up to this share of the provider's bytes, counted in the requests as they are stored; what a
#: request gains when it is translated is seen when it is sent (core/native/sending.py), and the shard is split then.
BYTES_SHARE = 0.9
#: What one request needs around its body: its id, its method and its address.
FRAME_BYTES = 160
#: Rows whose estimates are read at once.
PAGE_ROWS = 10_000


@dataclass(slots=True)
class NativeLane:
    """A native lane with rows that no shard holds yet."""

    id: int
    batch_id: UUID
    tenant_id: UUID
    project_id: UUID
    created_at: datetime
    connection_id: UUID
    provider: str
    model: str
    total: int
    next_n: int
    #: what may still be reserved under the batch's max_cost_usd; None: no such limit
    budget_left_usd: Decimal | None
    #: shards of the batch that are not finished: what they cost is still to be seen
    unfinished: int


@dataclass(slots=True)
class _Gathered:
    rows: int = 0
    bytes: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    reserved: Decimal = Decimal(0)
    #: the row that found no money, and what it may cost
    short_of: Decimal | None = None


#: Lanes of which no shard could be formed.
_aside: Aside[int] = Aside("native batches", "lane")


def form_shards() -> int:
    """Form one more shard for each lane that has room for it; returns how many."""
    with db.connection() as connection:
        lanes = [NativeLane(**row) for row in connection.execute(_LANES, {"max_waiting": MAX_WAITING})]
        rooms = budgets.rooms(connection) if lanes else {}
    formed = 0
    for lane in lanes:
        if not _aside.waits(lane.id):
            with _aside.turn(lane.id):
                formed += _form_one(lane, rooms.get(lane.batch_id))
    return formed


def _form_one(lane: NativeLane, room: budgets.Room | None) -> bool:
    if room is not None and room.closed_to(Decimal(0)):
        budgets.pause(lane.batch_id, room, Decimal(0))
        return False
    with db.connection() as connection:
        gathered = _form(connection, lane, room)
    if gathered.rows:
        if room is not None:
            room.left -= gathered.reserved
    elif gathered.short_of is not None:
        _out_of_money(lane, room, gathered.short_of)
    return bool(gathered.rows)


def _out_of_money(lane: NativeLane, room: budgets.Room | None, cost_usd: Decimal) -> None:
    """Pause a batch whose next row can find no room; one that has to see first what its shards cost waits."""
    if room is not None and room.closed_to(cost_usd):
        budgets.pause(lane.batch_id, room, cost_usd)
    elif lane.budget_left_usd is not None and cost_usd > lane.budget_left_usd and not lane.unfinished:
        pauses.pause_over_budget([lane.batch_id])


def _form(connection: RawConnection, lane: NativeLane, room: budgets.Room | None) -> _Gathered:
    """Gather the lane's next rows and make them a shard, in the caller's transaction."""
    running = connection.execute(
        "SELECT max_cost_usd - cost_usd - reserved_usd AS left_usd FROM batch"
        " WHERE id = %s AND status IN ('pending', 'processing') FOR NO KEY UPDATE",
        (lane.batch_id,),
    ).fetchone()
    if running is None:
        return _Gathered()
    # Other lanes of the batch have reserved since the lanes were read.
    lane.budget_left_usd = running["left_usd"]
    money = [room.left] if room is not None else []
    if lane.budget_left_usd is not None:
        money.append(lane.budget_left_usd)
    gathered = _gather(lane, _sizes(connection, lane), min(money, default=None))
    if not gathered.rows:
        return gathered
    if gathered.short_of is not None and lane.unfinished and gathered.rows < settings().native_min_rows:
        # What comes back of the money under way makes one batch of what would be ever smaller ones.
        return _Gathered()
    moved = connection.execute(
        "UPDATE lane SET next_n = next_n + %s WHERE id = %s AND next_n = %s AND processing = %s RETURNING id",
        (gathered.rows, lane.id, lane.next_n, Processing.NATIVE),
    ).fetchone()
    if moved is None:
        return _Gathered()
    connection.execute(
        "UPDATE batch SET dispatched = dispatched + %s, status = 'processing', reserved_usd = reserved_usd + %s,"
        " started_at = coalesce(started_at, now()) WHERE id = %s",
        (gathered.rows, gathered.reserved, lane.batch_id),
    )
    if money and not budgets.fits(connection, lane.batch_id):
        # Live calls took the room in this moment.
        connection.rollback()
        return _Gathered()
    connection.execute(
        _INSERT,
        {
            "id": new_id(),
            "lane": lane.id,
            "batch": lane.batch_id,
            "tenant": lane.tenant_id,
            "project": lane.project_id,
            "connection": lane.connection_id,
            "provider": lane.provider,
            "model": lane.model,
            "created_at": lane.created_at,
            "first": lane.next_n,
            "rows": gathered.rows,
            "inputs": gathered.input_tokens,
            "outputs": gathered.output_tokens,
            "reserved": gathered.reserved,
            "state": ShardState.WAITING,
        },
    )
    return gathered


def _gather(lane: NativeLane, sizes: Iterable[tuple[int, int, int]], money: Decimal | None) -> _Gathered:
    """As many of the leading rows, given as (bytes, input tokens, output tokens), as fit one shard."""
    max_rows, max_bytes = size_limits(lane.provider)
    found = _Gathered()
    for size, inputs, outputs in sizes:
        if found.rows >= max_rows or (found.rows and found.bytes + size + FRAME_BYTES > max_bytes * BYTES_SHARE):
            break
        if money is not None:
            cost = pricing.ceiling(lane.provider, lane.model, inputs, outputs, batch=True)
            if found.reserved + cost > money:
                found.short_of = cost
                break
            found.reserved += cost
        found.rows += 1
        found.bytes += size + FRAME_BYTES
        found.input_tokens += inputs
        found.output_tokens += outputs
    return found


def _sizes(connection: RawConnection, lane: NativeLane) -> Iterable[tuple[int, int, int]]:
    """(bytes of the stored request, estimated input, estimated output tokens) of the lane's next rows, in pages."""
    completion = partitions.holding(connection, "completion", lane.created_at)
    request = partitions.holding(connection, "completion_request", lane.created_at)
    at = (lane.id << BLOCK_BITS) + lane.next_n
    end = (lane.id << BLOCK_BITS) + lane.total
    while at < end:
        page = connection.execute(
            # The length of a long text is in its head: it is not read for this.
            f"SELECT octet_length(r.body) AS size, c.estimated_input_tokens AS i, c.estimated_output_tokens AS o"  # noqa: S608
            f" FROM {completion} c JOIN {request} r ON r.completion_id = c.id"
            " WHERE c.id >= %s AND c.id < %s ORDER BY c.id",
            (at, min(at + PAGE_ROWS, end)),
        ).fetchall()
        if not page:
            return
        for row in page:
            yield row["size"], row["i"], row["o"]
        at += len(page)


_LANES = """
SELECT lane.id, lane.batch_id, lane.tenant_id, lane.project_id, lane.created_at, lane.connection_id, lane.provider,
       lane.model, lane.total, lane.next_n,
       batch.max_cost_usd - batch.cost_usd - batch.reserved_usd AS budget_left_usd,
       coalesce(shards.unfinished, 0) AS unfinished
FROM batch
JOIN lane ON lane.batch_id = batch.id
JOIN connection c ON c.id = lane.connection_id
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'waiting' AND lane_id = lane.id) AS waiting,
           count(*) FILTER (WHERE remaining > 0) AS unfinished
    FROM native_shard WHERE native_shard.batch_id = batch.id
) shards ON true
WHERE batch.ended_at IS NULL AND batch.status IN ('pending', 'processing') AND c.state = 'active'
  AND lane.processing = 'native' AND lane.next_n < lane.total AND coalesce(shards.waiting, 0) < %(max_waiting)s
ORDER BY batch.priority DESC, batch.created_at, lane.id
"""

_INSERT = """
INSERT INTO native_shard (id, batch_id, lane_id, tenant_id, project_id, connection_id, provider, model, created_at,
    first_n, rows, remaining, input_tokens, output_tokens, reserved_usd, state)
VALUES (%(id)s, %(batch)s, %(lane)s, %(tenant)s, %(project)s, %(connection)s, %(provider)s, %(model)s, %(created_at)s,
    %(first)s, %(rows)s, %(rows)s, %(inputs)s, %(outputs)s, %(reserved)s, %(state)s)
"""
