"""Pauses that the service makes itself: for a credential that stopped working, for max_cost_usd; and their end.

Every statement here is safe to run at any time, from several places at once: it names the state it expects.
"""

from __future__ import annotations

from uuid import UUID

from core import db, webhooks
from core.states import Action, FailureReason


def pause_stopped_connections() -> int:
    """Pause the batches that wait for a connection whose credential stopped working; returns how many."""
    with db.connection() as connection:
        rows = connection.execute(_PAUSE_STOPPED).fetchall()
        for row in rows:
            webhooks.emit(connection, row["id"], "batch.paused")
    return len(rows)


def resume_mended_connections() -> int:
    """Go on with batches that waited for connections which all work again: a new key, or resumed; returns how many."""
    with db.connection() as connection:
        rows = connection.execute(
            _RESUME_MENDED, {"reasons": [reason for reason in FailureReason if reason.action is Action.STOP_CONNECTION]}
        ).fetchall()
        for row in rows:
            connection.execute("SELECT pg_notify('llm_go', %s)", (row["id"].hex,))
    return len(rows)


def pause_over_budget(batch_ids: list[UUID]) -> int:
    """Pause batches whose max_cost_usd has no room for another row; returns how many were still running.

    Left alone are those of which rows in flight, or shards at the provider, hold money of which some may come back.
    """
    with db.connection() as connection:
        rows = connection.execute(
            _PAUSE_OVER_BUDGET, {"batches": batch_ids, "reason": FailureReason.COST_LIMIT}
        ).fetchall()
        for row in rows:
            webhooks.emit(connection, row["id"], "batch.paused")
    return len(rows)


# Batches are locked in the order of their ids: their rows may be ending in this moment, of several in one transaction.
_PAUSE_STOPPED = """
WITH stopped AS (
    SELECT batch.id, c.provider_type, c.stop_reason, c.stop_message FROM batch, connection c
    WHERE batch.ended_at IS NULL AND batch.status IN ('pending', 'processing') AND c.state = 'stopped'
      AND EXISTS (
          SELECT FROM lane WHERE lane.batch_id = batch.id AND lane.connection_id = c.id
          AND (lane.next_n < lane.total OR EXISTS (
              SELECT FROM lease WHERE lease.lane_id = lane.id AND lease.call_started_at IS NULL
          ) OR EXISTS (
              SELECT FROM native_shard shard WHERE shard.lane_id = lane.id AND shard.batch_id = batch.id
              AND (shard.state = 'waiting' OR shard.handing_back)
          ))
      )
    ORDER BY batch.id FOR NO KEY UPDATE OF batch
)
UPDATE batch SET status = 'paused', status_reason = stopped.stop_reason,
                 status_message = format('the %s key stopped working: %s Replace it with POST /v1/providers, or resume'
                                         ' the batch once it works again.', stopped.provider_type, stopped.stop_message)
FROM stopped WHERE batch.id = stopped.id
RETURNING batch.id
"""

_RESUME_MENDED = """
WITH mended AS (
    SELECT id FROM batch
    WHERE ended_at IS NULL AND status = 'paused' AND status_reason = ANY(%(reasons)s)
      AND NOT EXISTS (
          SELECT FROM lane JOIN connection c ON c.id = lane.connection_id
          WHERE lane.batch_id = batch.id AND c.state = 'stopped'
      )
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE batch SET status = CASE WHEN dispatched > 0 THEN 'processing' ELSE 'pending' END,
                 status_reason = NULL, status_message = NULL
FROM mended WHERE batch.id = mended.id
RETURNING batch.id
"""

_PAUSE_OVER_BUDGET = """
UPDATE batch SET status = 'paused', status_reason = %(reason)s,
                 status_message = format('max_cost_usd %%s: %%s are spent and the next row may cost more than what is'
                                         ' left. Resume with a higher limit.',
                                         trim_scale(max_cost_usd), trim_scale(cost_usd))
WHERE id = ANY(%(batches)s) AND ended_at IS NULL AND status IN ('pending', 'processing') AND max_cost_usd IS NOT NULL
  AND NOT EXISTS (SELECT FROM lease WHERE lease.batch_id = batch.id)
  AND NOT EXISTS (
      SELECT FROM native_shard shard WHERE shard.batch_id = batch.id
      AND state IN ('waiting', 'sent') AND NOT handing_back AND remaining > 0
  )
RETURNING id
"""
