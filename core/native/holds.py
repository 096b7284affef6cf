"""Holds on native shards: claimed for their next step, begun and extended under a fence, let go.

A worker's hold on a shard is a lease of its own, extended while a step runs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import UUID

from core import db
from core.dispatch.rescue import STALE_SECONDS
from core.native.shards import Shard, in_words
from core.native.states import CancelReason, ShardState
from core.settings import settings


def lease_seconds() -> float:
    """A step whose worker died is taken by another after this long; workers extend it four times in that time."""
    return 2 * settings().worker_lease_seconds


def claim_due(limit: int = 100, *, judging: bool = True) -> list[tuple[UUID, int]]:
    """Claim shards whose next step is due, for their doorbells: (id, new fence) of each.

    A shard that waits to be sent is left alone while its batch is paused or its connection stopped.

    Parameters
    ----------
    judging : also those whose worker let its lease run out; not after the database did not answer for a while, for
        then no lease could be extended.
    """
    with db.connection() as connection:
        asked = time.monotonic()
        # (from here on it is as late as it is now: now() is the transaction's)
        connection.execute("SELECT")
        judging = judging and time.monotonic() - asked < STALE_SECONDS
        values = {"lease": lease_seconds(), "limit": limit, "judging": judging}
        rows = connection.execute(_CLAIM, values).fetchall()
    return [(row["id"], row["fence"]) for row in rows]


def unclaim(claimed: Sequence[tuple[UUID, int]], *, after_seconds: float) -> None:
    """Take back claims whose doorbells could not be rung: their steps are due again after this long."""
    with db.connection() as connection:
        connection.execute(
            "UPDATE native_shard SET lease_expires_at = NULL, due_at = now() + make_interval(secs => %(after)s)"
            " FROM unnest(%(ids)s::uuid[], %(fences)s::int[]) AS claimed (id, fence)"
            " WHERE native_shard.id = claimed.id AND native_shard.fence = claimed.fence",
            {"after": after_seconds, "ids": [each[0] for each in claimed], "fences": [each[1] for each in claimed]},
        )


def begin(shard_id: UUID, fence: int) -> Shard | None:
    """The shard, if the fence is still the current one; its lease runs from now.

    Takes the next fence: the same doorbell heard twice begins one step.
    """
    with db.connection() as connection:
        row = connection.execute(_BEGIN, {"id": shard_id, "fence": fence, "lease": lease_seconds()}).fetchone()
    if row is None:
        return None
    row["state"] = ShardState(row["state"])
    row["cancel_reason"] = CancelReason(row["cancel_reason"]) if row["cancel_reason"] else None
    return Shard(**row)


def beat(shard: Shard) -> bool:
    """Keep the hold on a shard; False if it has passed on."""
    with db.connection() as connection:
        found = connection.execute(
            "UPDATE native_shard SET lease_expires_at = now() + make_interval(secs => %s)"
            " WHERE id = %s AND fence = %s RETURNING id",
            (lease_seconds(), shard.id, shard.fence),
        ).fetchone()
    return found is not None


def release(shard: Shard, *, after_seconds: float, error: str | None = None) -> None:
    """End the hold: the next step is due after this long. With an error the step failed, and counts as such."""
    with db.connection() as connection:
        connection.execute(
            _RELEASE,
            {
                "id": shard.id,
                "fence": shard.fence,
                "after": after_seconds,
                "error": in_words(error) if error else None,
                "failed": error is not None,
            },
        )


# A holder that began and never let go has died: that counts as a failure of the step, so that a shard which takes its
# workers down does not go round for ever. A doorbell that was lost, or that nobody had time for, does not count.
# Time in which the database itself was down or stood still counts for nobody.
# What waits to be sent needs a running batch and a connection that works; one that was removed lets it go. What is at
# the provider is looked after whatever became of its batch.
_CLAIM = """
UPDATE native_shard SET fence = fence + 1, lease_expires_at = now() + make_interval(secs => %(lease)s),
    failures = failures + (begun_at IS NOT NULL)::int, deaths = deaths + (begun_at IS NOT NULL)::int, begun_at = NULL
WHERE id IN (
    SELECT shard.id FROM native_shard shard
    WHERE shard.state <> 'cleaned' AND shard.due_at <= now()
      AND (shard.state <> 'taken_in' OR shard.remote_id IS NOT NULL OR shard.file_id IS NOT NULL)
      AND (shard.lease_expires_at IS NULL OR %(judging)s AND greatest(
          shard.lease_expires_at, pg_postmaster_start_time() + make_interval(secs => %(lease)s)) < now())
      AND (shard.state <> 'waiting' OR shard.create_started_at IS NOT NULL OR (
          EXISTS (SELECT FROM batch WHERE batch.id = shard.batch_id AND batch.status IN ('pending', 'processing'))
          AND NOT EXISTS (SELECT FROM connection c WHERE c.id = shard.connection_id AND c.state <> 'active')
      ))
    ORDER BY shard.due_at LIMIT %(limit)s FOR UPDATE OF shard SKIP LOCKED
)
RETURNING id, fence
"""

_BEGIN = """
UPDATE native_shard shard SET lease_expires_at = now() + make_interval(secs => %(lease)s), fence = fence + 1,
    begun_at = now()
WHERE shard.id = %(id)s AND shard.fence = %(fence)s AND shard.state <> 'cleaned'
RETURNING shard.id, fence, batch_id, lane_id, tenant_id, project_id, connection_id, provider, model, created_at,
    first_n, rows, remaining, input_tokens, output_tokens, state, rounds, cancel_reason, cancel_sent_at, file_id,
    remote_id, endpoint, sent_rows, create_started_at, create_lost_at, adopted, sent_at, remote_completed, failures,
    deaths, now() AS now,
    coalesce((SELECT processing FROM batch WHERE batch.id = shard.batch_id), 'auto') AS processing,
    coalesce((SELECT prompt_caching FROM batch WHERE batch.id = shard.batch_id), false) AS prompt_caching
"""

_RELEASE = """
UPDATE native_shard SET lease_expires_at = NULL, begun_at = NULL, deaths = 0,
    due_at = now() + make_interval(secs => %(after)s),
    failures = CASE WHEN %(failed)s THEN failures + 1 ELSE 0 END, last_error = coalesce(%(error)s, last_error)
WHERE id = %(id)s AND fence = %(fence)s
"""
