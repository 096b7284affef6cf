"""Recording: outcomes of many rows in one transaction, each row ended once, with its counters and its cost.

The gate is the lease. Deleting it ends the row; whoever's delete finds it writes the outcome, everybody else's
outcome is dropped. A failure needs the current fence. An answer does not: it was paid for, so the first one that
arrives counts, even from a worker that was taken for dead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import orjson
from psycopg.rows import DictRow

from core import db, failed_calls, partitions
from core.batches import ending
from core.dispatch import lanes
from core.dispatch.lanes import LaneFacts
from core.ids import BLOCK_BITS
from core.logbook import bodies
from core.pg_arrays import Documents, numbers, texts
from core.providers.types import Failure, Usage
from core.rollup import Key, Sums, hour_of
from core.states import FailureReason, RowStatus


@dataclass(slots=True, kw_only=True)
class Ended:
    """A row's end."""

    id: int
    fence: int
    created_at: datetime
    batch_id: UUID
    status: RowStatus
    #: calls made, this one included
    attempts: int
    model: str | None = None
    usage: Usage | None = None
    cost_usd: Decimal | None = None
    list_cost_usd: Decimal | None = None
    price_version: str | None = None
    #: the completion object, as orjson writes it
    response: bytes | None = None
    reason: FailureReason | None = None
    message: str | None = None
    provider_status: int | None = None
    request_id: str | None = None


@dataclass(slots=True, kw_only=True)
class Again:
    """A row that is to be tried again."""

    id: int
    fence: int
    delay_seconds: float
    #: 1 if a call was made, 0 if it was held back before
    attempts: int
    strike: bool
    #: why its call failed, for its log; None: no call was made
    failure: Failure | None = None


def record(ended: Sequence[Ended], again: Sequence[Again] = ()) -> set[int]:
    """Write outcomes; returns the ids that were ended by this call (the others had ended, or were claimed anew).

    One transaction: rows, responses, counters, cost, and for a batch that ends here its end and its webhook. Its
    statements are sent together as far as they do not need each other's results, and without BEGIN and COMMIT: where
    the process has much to do, each wait for a reply is as long as a turn of its event loop.
    """
    with db.one_trip() as connection:
        return record_in(connection, ended, again)


def record_in(
    connection: db.RawConnection,
    ended: Sequence[Ended],
    again: Sequence[Again] = (),
    *,
    end_rows: Callable[[db.RawConnection, Sequence[Ended]], Won] | None = None,
) -> set[int]:
    """`record`, as part of a transaction of the caller's that has locked no batch yet.

    Parameters
    ----------
    end_rows : another gate than the lease, for rows that have none (core/native/record.py).
    """
    if again:
        _put_back(connection, again)
    if not ended:
        return set()
    ended = _one_of_each(ended)
    asked = lanes.ask(connection, [row.id for row in ended])
    won = (end_rows or _end_rows)(connection, ended)
    if won:
        facts = lanes.told(asked)
        _store_answers(connection, ended, won, facts)
        bare = [
            (row.id, row.created_at) for row in ended if row.id in won and not facts[row.id >> BLOCK_BITS].keeps_bodies
        ]
        if bare:
            bodies.remove_requests(connection, bare)
        tallies = _tally(ended, won)
        added = ending.add(connection, tallies)
        _sums(ended, won, facts).write(connection)
        ending.follow(connection, tallies, added)
    return set(won)


def _one_of_each(ended: Sequence[Ended]) -> list[Ended]:
    """One outcome a row: a row that ran twice may answer twice into one commit, and must be counted once.

    An answer goes before a failure, the newer claim before the older.
    """
    best: dict[int, Ended] = {}
    for row in ended:
        other = best.get(row.id)
        if other is None or _rank(row) > _rank(other):
            best[row.id] = row
    return list(best.values())


def _rank(row: Ended) -> tuple[bool, int]:
    return row.status is RowStatus.SUCCEEDED, row.fence


def _put_back(connection: db.RawConnection, again: Sequence[Again]) -> None:
    connection.execute(
        _PUT_BACK,
        {
            "ids": [row.id for row in again],
            "fences": [row.fence for row in again],
            "delays": [row.delay_seconds for row in again],
            "attempts": [row.attempts for row in again],
            "strikes": [int(row.strike) for row in again],
            "failures": [
                None if row.failure is None else orjson.dumps(failed_calls.why(row.failure)).decode() for row in again
            ],
        },
    )


#: Of each row that was ended: id, reserved_usd, processing, ended_at, duration_ms.
Won = dict[int, DictRow]


def _end_rows(connection: db.RawConnection, ended: Sequence[Ended]) -> Won:
    """Delete the leases and update the rows."""
    by_time: dict[datetime, list[Ended]] = {}
    for row in ended:
        by_time.setdefault(row.created_at, []).append(row)
    by_partition: dict[str, list[Ended]] = {}
    for created_at, rows in by_time.items():
        by_partition.setdefault(partitions.holding(connection, "completion", created_at), []).extend(rows)
    won: Won = {}
    for partition in sorted(by_partition):
        won |= _end_rows_of(connection, partition, by_partition[partition])
    return won


def _end_rows_of(connection: db.RawConnection, partition: str, ended: Sequence[Ended]) -> Won:
    rows = connection.execute(
        _END.format(partition=partition), {**values_of(ended), "fences": numbers([row.fence for row in ended])}
    ).fetchall()
    return {row["id"]: row for row in rows}


def values_of(ended: Sequence[Ended]) -> dict[str, str]:
    """Outcomes as columns, for statements that unnest them."""
    usages = [row.usage or _NO_USAGE for row in ended]
    return {
        "ids": numbers([row.id for row in ended]),
        "statuses": texts([row.status for row in ended]),
        "attempts": numbers([row.attempts for row in ended]),
        "models": texts([_storable(row.model) for row in ended]),
        "inputs": numbers([row.usage.input_tokens if row.usage else None for row in ended]),
        "outputs": numbers([row.usage.output_tokens if row.usage else None for row in ended]),
        "cached": numbers([usage.cached_tokens for usage in usages]),
        "written": numbers([usage.cache_write_tokens + usage.cache_write_1h_tokens for usage in usages]),
        "reasoning": numbers([usage.reasoning_tokens for usage in usages]),
        "costs": numbers([row.cost_usd for row in ended]),
        "list_costs": numbers([row.list_cost_usd for row in ended]),
        "versions": texts([row.price_version for row in ended]),
        "reasons": texts([row.reason for row in ended]),
        "messages": texts([_storable(row.message) for row in ended]),
        "provider_statuses": numbers([row.provider_status for row in ended]),
        "request_ids": texts([row.request_id for row in ended]),
    }


def _store_answers(
    connection: db.RawConnection, ended: Sequence[Ended], won: Won, facts: Mapping[int, LaneFacts]
) -> None:
    answers = [(row, row.response) for row in ended if row.response is not None and row.id in won]
    if answers:
        times = {created_at: created_at.isoformat() for created_at in {row.created_at for row, _ in answers}}
        tenants = {lane_id: str(lane.tenant_id) for lane_id, lane in facts.items()}
        connection.execute(
            _ANSWERS,
            {
                "ids": numbers([row.id for row, _ in answers]),
                "times": texts([times[row.created_at] for row, _ in answers]),
                "tenants": texts([tenants[row.id >> BLOCK_BITS] for row, _ in answers]),
                "bodies": Documents([response for _, response in answers]),
            },
        )


def _sums(ended: Sequence[Ended], won: Won, facts: Mapping[int, LaneFacts]) -> Sums:
    """What statistics gain."""
    hour = hour_of(next(iter(won.values()))["ended_at"])
    sums = Sums()
    for row in ended:
        end = won.get(row.id)
        if end is None:
            continue
        lane = facts[row.id >> BLOCK_BITS]
        sums.add(
            Key(lane.project_id, hour, lane.provider, lane.model, end["processing"], row.status, row.reason or ""),
            lane.tenant_id,
            attempts=row.attempts,
            usage=row.usage,
            cost_usd=row.cost_usd,
            list_cost_usd=row.list_cost_usd,
            duration_ms=end["duration_ms"],
        )
    return sums


def _tally(ended: Sequence[Ended], won: Won) -> dict[UUID, ending.Tally]:
    """What each batch's counters gain."""
    tallies: dict[UUID, ending.Tally] = {}
    for row in ended:
        if row.id not in won:
            continue
        tally = tallies.setdefault(row.batch_id, ending.Tally())
        tally.add(row.status, row.usage, row.cost_usd, row.list_cost_usd, won[row.id]["reserved_usd"], row.attempts)
        if row.reason is not None and row.status is not RowStatus.CANCELLED:
            tally.blame(row.reason, row.message or "")
    return tallies


def _storable(text: str | None) -> str | None:
    """A provider's text as a text of the database can hold it."""
    return text[:2000].replace("\0", "") if text else text


_NO_USAGE = Usage()

_ANSWERS = """
INSERT INTO completion_response (completion_id, created_at, tenant_id, body)
SELECT * FROM unnest(%(ids)s::bigint[], %(times)s::timestamptz[], %(tenants)s::uuid[], %(bodies)s::text[])
"""

_PUT_BACK = f"""
UPDATE lease SET due_at = now() + make_interval(secs => back.delay), rung_at = NULL, call_started_at = NULL,
                 worker_id = NULL, attempts = lease.attempts + back.attempts, strikes = lease.strikes + back.strike,
                 failures = CASE WHEN back.failure IS NULL THEN lease.failures
                                 ELSE {failed_calls.appended("back.failure::jsonb")} END
FROM unnest(%(ids)s::bigint[], %(fences)s::int[], %(delays)s::float8[], %(attempts)s::int[], %(strikes)s::int[],
            %(failures)s::text[]) AS back (id, fence, delay, attempts, strike, failure)
WHERE lease.completion_id = back.id AND lease.fence = back.fence AND lease.rung_at IS NOT NULL
"""  # noqa: S608 (an expression of ours)

_END = """
WITH outcome AS (
    SELECT * FROM unnest(
        %(ids)s::bigint[], %(fences)s::int[], %(statuses)s::text[], %(attempts)s::int[],
        %(models)s::text[], %(inputs)s::int[], %(outputs)s::int[], %(cached)s::int[], %(written)s::int[],
        %(reasoning)s::int[], %(costs)s::numeric[], %(list_costs)s::numeric[], %(versions)s::text[],
        %(reasons)s::text[], %(messages)s::text[], %(provider_statuses)s::int[], %(request_ids)s::text[]
    ) AS o (id, fence, status, attempts, model, input, output, cached, written, reasoning, cost, list_cost,
            version, reason, message, provider_status, request_id)
), gone AS (
    DELETE FROM lease USING outcome o
    WHERE lease.completion_id = o.id AND (lease.fence = o.fence OR o.status = 'succeeded')
    RETURNING lease.completion_id AS id, lease.call_started_at, lease.reserved_usd, lease.failures
)
UPDATE {partition} c SET
    status = o.status, attempts = o.attempts, model = coalesce(o.model, c.model), model_called = c.model,
    input_tokens = o.input,
    output_tokens = o.output, cached_tokens = o.cached, cache_write_tokens = o.written, reasoning_tokens = o.reasoning,
    cost_usd = o.cost, list_cost_usd = o.list_cost, price_version = o.version, error_type = o.reason,
    error_message = o.message, provider_status = o.provider_status, request_id = o.request_id,
    started_at = gone.call_started_at, ended_at = now(), failed_attempts = gone.failures
FROM outcome o JOIN gone ON gone.id = o.id
WHERE c.id = gone.id AND c.status = 'pending'
RETURNING c.id, gone.reserved_usd, c.processing, c.ended_at,
    extract(epoch FROM c.ended_at - c.started_at)::float8 * 1000 AS duration_ms
"""
