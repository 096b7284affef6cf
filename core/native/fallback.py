"""The fall-back: the last moment at which rows at a provider can still make their window in real time.

Shards that share a connection and model family share its limits, so their last moments depend on each other: the latest
schedule is laid from the last deadline backwards, each shard's work before its own deadline and before the work that
has to be done after it. What is not through by its moment is taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from core import db
from core.db import RawConnection
from core.limits.types import Configured, family
from core.native import outlook
from core.native.choice import CANCEL_SECONDS, planned_seconds
from core.native.states import CancelReason, ShardState

#: Rows of a shard whose provider has been asked to stop and has not stopped within CANCEL_SECONDS are run in real time
#: all the same; in a batch that was stopped they end after this long.
STOPPED_PATIENCE_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Work:
    """What would have to run in real time: until when, and for how long."""

    deadline: datetime
    seconds: float


def latest_starts(work: Sequence[Work]) -> list[datetime]:
    """The latest start of each piece of work if one is done after the other, none later than its deadline.

    Returned in the order given. Pieces with the same deadline are laid in reverse order of their place.
    """
    order = sorted(range(len(work)), key=lambda at: work[at].deadline, reverse=True)
    found: dict[int, datetime] = {}
    following: datetime | None = None
    for at in order:
        end = work[at].deadline if following is None else min(work[at].deadline, following)
        following = found[at] = end - timedelta(seconds=work[at].seconds)
    return [found[at] for at in range(len(work))]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows that may have to come back: of a shard, or of a lane that has not been gathered."""

    shard_id: UUID | None
    lane_id: int
    connection_id: UUID
    model: str
    expires_at: datetime
    rows: int
    input_tokens: int
    output_tokens: int
    configured: Configured


def take_back() -> int:
    """Ask back what can wait no longer, and keep lanes that were not gathered by then from going native.

    Returns how many shards and lanes. Batches that asked for `native` stay native to their end, but for rows whose
    provider was removed: they go to workers, which fail them.
    """
    with db.connection() as connection:
        connection.execute(_UNCONNECTED)
        rows = [_rows(row) for row in connection.execute(_AT_STAKE)]
        if not rows:
            return 0
        capacity = outlook.capacity(connection)
        row = connection.execute("SELECT now() AS now").fetchone()
        assert row is not None
        due = due_at(rows, capacity, row["now"])
        for each in due:
            _take_back(connection, each)
    return len(due)


def due_at(rows: Sequence[_Rows], capacity: int, now: datetime) -> list[_Rows]:
    """Those of the rows whose moment has come by `now`."""
    groups: dict[tuple[UUID, str], list[_Rows]] = {}
    for each in rows:
        groups.setdefault((each.connection_id, family(each.model)), []).append(each)
    due = []
    for members in groups.values():
        limits = outlook.limits_of(members[0].connection_id, members[0].model, members[0].configured)
        work = [
            Work(
                each.expires_at - timedelta(seconds=CANCEL_SECONDS),
                planned_seconds(limits.seconds(each.rows, each.input_tokens, each.output_tokens, capacity=capacity)),
            )
            for each in members
        ]
        due += [each for each, start in zip(members, latest_starts(work), strict=True) if start <= now]
    return due


def _rows(row: dict[str, Any]) -> _Rows:
    left = max(0, row["remaining"] - (row["completed"] or 0))
    share = left / max(1, row["rows"])
    return _Rows(
        row["shard_id"],
        row["lane_id"],
        row["connection_id"],
        row["model"],
        row["expires_at"],
        left,
        int(row["input_tokens"] * share),
        int(row["output_tokens"] * share),
        Configured(row["requests_per_minute"], row["tokens_per_minute"], row["max_concurrency"]),
    )


def _take_back(connection: RawConnection, rows: _Rows) -> None:
    if rows.shard_id is None:
        connection.execute(
            "UPDATE lane SET processing = 'realtime',"
            " processing_reason = 'the window leaves no time for a native batch any more'"
            " WHERE id = %s AND processing = 'native'",
            (rows.lane_id,),
        )
        connection.execute("NOTIFY llm_dispatch")
    else:
        connection.execute(
            "UPDATE native_shard SET cancel_reason = %s, cancel_asked_at = now(), due_at = now(), failures = 0"
            " WHERE id = %s AND cancel_reason IS NULL",
            (CancelReason.WINDOW, rows.shard_id),
        )


def stop_shards() -> int:
    """Ask back the shards of batches that were stopped; returns how many."""
    with db.connection() as connection:
        return connection.execute(_STOP, {"reason": CancelReason.STOPPED}).rowcount


def give_up_waiting() -> int:
    """Let the rows go of shards that are wanted back and were never sent, or whose provider does not stop in time."""
    with db.connection() as connection:
        unsent = connection.execute(_UNSENT, {"taken_in": ShardState.TAKEN_IN}).rowcount
        stuck = connection.execute(_STUCK, {"window": CANCEL_SECONDS, "stopped": STOPPED_PATIENCE_SECONDS}).rowcount
    return unsent + stuck


_UNCONNECTED = """
UPDATE lane SET processing = 'realtime', processing_reason = 'the provider was removed'
FROM batch
WHERE batch.id = lane.batch_id AND batch.ended_at IS NULL AND lane.processing = 'native' AND lane.next_n < lane.total
  AND NOT EXISTS (SELECT FROM connection c WHERE c.id = lane.connection_id)
"""

# The tokens of a lane that was not gathered are those of its rows so far: only its shards' have been added up.
_AT_STAKE = """
SELECT shard.id AS shard_id, shard.lane_id, shard.connection_id, shard.model, batch.expires_at, shard.rows,
       shard.remaining, shard.remote_completed AS completed, shard.input_tokens, shard.output_tokens,
       c.requests_per_minute, c.tokens_per_minute, c.max_concurrency
FROM native_shard shard
JOIN batch ON batch.id = shard.batch_id
JOIN connection c ON c.id = shard.connection_id
WHERE shard.state IN ('waiting', 'sent') AND shard.remaining > 0 AND shard.cancel_reason IS NULL
  AND NOT shard.handing_back AND batch.processing = 'auto' AND batch.status IN ('pending', 'processing')
UNION ALL
SELECT NULL, lane.id, lane.connection_id, lane.model, batch.expires_at, lane.total - lane.next_n,
       lane.total - lane.next_n, 0, tokens.input, tokens.output,
       c.requests_per_minute, c.tokens_per_minute, c.max_concurrency
FROM batch
JOIN lane ON lane.batch_id = batch.id AND lane.processing = 'native' AND lane.next_n < lane.total
JOIN connection c ON c.id = lane.connection_id
CROSS JOIN LATERAL (
    SELECT coalesce(sum(input_tokens) * (lane.total - lane.next_n) / nullif(sum(rows), 0), 0)::bigint AS input,
           coalesce(sum(output_tokens) * (lane.total - lane.next_n) / nullif(sum(rows), 0), 0)::bigint AS output
    FROM native_shard WHERE native_shard.batch_id = batch.id AND native_shard.lane_id = lane.id
) tokens
WHERE batch.ended_at IS NULL AND batch.processing = 'auto' AND batch.status IN ('pending', 'processing')
"""

_STOP = """
UPDATE native_shard shard SET cancel_reason = %(reason)s, cancel_asked_at = now(), due_at = now(), failures = 0
FROM batch
WHERE batch.id = shard.batch_id AND batch.ended_at IS NULL AND batch.status IN ('cancelled', 'expired', 'failed')
  AND shard.state IN ('waiting', 'sent') AND shard.cancel_reason IS DISTINCT FROM %(reason)s
"""

# So are shards whose rows have all ended before they were sent.
# A worker that holds one of these sees for itself that it is not wanted, before it asks the provider for anything.
_UNSENT = """
UPDATE native_shard SET state = %(taken_in)s, handing_back = true, due_at = now(), fence = fence + 1
WHERE state = 'waiting' AND (cancel_reason IS NOT NULL OR remaining = 0) AND create_started_at IS NULL
  AND (lease_expires_at IS NULL OR lease_expires_at < now())
"""

_STUCK = """
UPDATE native_shard SET handing_back = true
WHERE state IN ('waiting', 'sent') AND NOT handing_back AND remaining > 0 AND cancel_asked_at < now() - make_interval(
    secs => CASE WHEN cancel_reason = 'window' THEN %(window)s ELSE %(stopped)s END)
"""
