"""Ends rows of native shards: by the provider's answer, or because nobody will answer them any more.

The gate is the row itself: whoever moves it out of `pending` writes its outcome. A row handed back has a lease: an
answer of the provider's batch takes that lease with it, for it was paid for, and a failure leaves it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from psycopg.rows import DictRow

from core import partitions
from core.db import RawConnection
from core.dispatch.record import Ended, Won, record_in, values_of
from core.native.shards import Shard, Superseded
from core.states import RowStatus

_CENTS = Decimal("0.0000000001")


@dataclass(slots=True)
class Wasted:
    """Answers that were paid for and not used."""

    rows: int = 0
    usd: Decimal = Decimal(0)

    def add(self, cost_usd: Decimal | None) -> None:
        self.rows += 1
        self.usd += cost_usd or Decimal(0)


def end_rows(
    connection: RawConnection, shard: Shard, ended: Sequence[Ended], *, sent_at: datetime | None, fenced: bool = True
) -> Wasted:
    """Write outcomes of a shard's rows, with counters, costs and what follows, as part of the caller's transaction.

    Parameters
    ----------
    sent_at : when the provider's batch was made: the start of its rows; None for rows that were never sent.
    fenced : the caller holds the shard by its fence; the scheduler, which holds none, locks it instead.

    Returns
    -------
    What was paid for in vain and is new: answers to rows that had been answered in real time or ended otherwise. Seen
    again whenever the same results are read again.

    Raises
    ------
    Superseded
        Another worker holds the shard by now; nothing is written.
    """
    held = _lock(connection, shard, fenced=fenced)
    won: Won = {}

    def end(connection: RawConnection, rows: Sequence[Ended]) -> Won:
        nonlocal won
        won = _end(connection, shard, rows, sent_at)
        own = [row for row in won.values() if not row["had_lease"]]
        released = _released(held, len(own))
        if own:
            own[0]["reserved_usd"] += released
        _settle(connection, shard, won, released)
        return won

    record_in(connection, ended, end_rows=end)
    return _wasted(connection, shard, ended, won)


def _lock(connection: RawConnection, shard: Shard, *, fenced: bool) -> DictRow:
    row = connection.execute(
        "SELECT fence, remaining, reserved_usd FROM native_shard WHERE id = %s FOR NO KEY UPDATE", (shard.id,)
    ).fetchone()
    if row is None or (fenced and row["fence"] != shard.fence):
        raise Superseded
    return row


def _end(connection: RawConnection, shard: Shard, ended: Sequence[Ended], sent_at: datetime | None) -> Won:
    partition = partitions.holding(connection, "completion", shard.created_at)
    # In the order of their ids: a worker that ends some of them in real time locks them in the same order.
    values = values_of(sorted(ended, key=lambda row: row.id))
    rows = connection.execute(_END.format(partition=partition), {**values, "sent_at": sent_at}).fetchall()
    return {row["id"]: row for row in rows}


def _released(held: DictRow, ended: int) -> Decimal:
    """The part of the shard's reservation that goes with so many of its rows."""
    left = held["remaining"] - ended
    if left <= 0:
        return Decimal(held["reserved_usd"])
    return (Decimal(held["reserved_usd"]) * ended / held["remaining"]).quantize(_CENTS)


def _settle(connection: RawConnection, shard: Shard, won: Won, released: Decimal) -> None:
    own = [row for row in won.values() if not row["had_lease"]]
    answered = sum(row["status"] == RowStatus.SUCCEEDED for row in won.values())
    in_call = sum(row["in_call"] for row in won.values())
    connection.execute(
        "UPDATE native_shard SET remaining = remaining - %s, answered = answered + %s,"
        " reserved_usd = reserved_usd - %s, wasted_rows = wasted_rows + %s,"
        " deaths = CASE WHEN %s THEN 0 ELSE deaths END WHERE id = %s",
        (len(own), answered, released, in_call, bool(own), shard.id),
    )
    shard.remaining -= len(own)


def _wasted(connection: RawConnection, shard: Shard, ended: Sequence[Ended], won: Won) -> Wasted:
    """Answers whose row had been ended by something else than a native answer."""
    lost = {row.id: row for row in ended if row.status is RowStatus.SUCCEEDED and row.id not in won}
    wasted = Wasted()
    if lost:
        partition = partitions.holding(connection, "completion", shard.created_at)
        for row in connection.execute(
            f"SELECT id FROM {partition} WHERE id = ANY(%s)"  # noqa: S608
            " AND NOT (status = 'succeeded' AND processing = 'native')",
            (list(lost),),
        ):
            wasted.add(lost[row["id"]].cost_usd)
    return wasted


_END = """
WITH outcome AS (
    SELECT * FROM unnest(
        %(ids)s::bigint[], %(statuses)s::text[], %(attempts)s::int[],
        %(models)s::text[], %(inputs)s::int[], %(outputs)s::int[], %(cached)s::int[], %(written)s::int[],
        %(reasoning)s::int[], %(costs)s::numeric[], %(list_costs)s::numeric[], %(versions)s::text[],
        %(reasons)s::text[], %(messages)s::text[], %(provider_statuses)s::int[], %(request_ids)s::text[]
    ) AS o (id, status, attempts, model, input, output, cached, written, reasoning, cost, list_cost,
            version, reason, message, provider_status, request_id)
), gone AS (
    DELETE FROM lease USING outcome o
    WHERE lease.completion_id = o.id AND o.status = 'succeeded'
    RETURNING lease.completion_id AS id, lease.call_started_at, lease.reserved_usd, lease.failures
)
UPDATE {partition} c SET
    status = o.status, processing = 'native', attempts = o.attempts, model = coalesce(o.model, c.model),
    model_called = c.model, input_tokens = o.input, output_tokens = o.output, cached_tokens = o.cached,
    cache_write_tokens = o.written, reasoning_tokens = o.reasoning, cost_usd = o.cost, list_cost_usd = o.list_cost,
    price_version = o.version, error_type = o.reason, error_message = o.message, provider_status = o.provider_status,
    request_id = o.request_id, started_at = %(sent_at)s, ended_at = now(),
    failed_attempts = gone.failures
FROM outcome o LEFT JOIN gone ON gone.id = o.id
WHERE c.id = o.id AND c.status = 'pending'
  AND (o.status = 'succeeded' OR NOT EXISTS (SELECT FROM lease WHERE lease.completion_id = o.id))
RETURNING c.id, c.status, coalesce(gone.reserved_usd, 0) AS reserved_usd, gone.id IS NOT NULL AS had_lease,
    (gone.call_started_at IS NOT NULL)::int AS in_call, c.processing, c.ended_at, NULL::float8 AS duration_ms
"""
