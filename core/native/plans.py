"""How the rows of batches are run, for the batch object: by model, with the reason, and what native shards did."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from core.db import RawConnection


def of(connection: RawConnection, batch_ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
    """For each batch `processing_plan` (an entry a model) and `native` (None if nothing went native).

    Reads lanes and shards: neither grows with the rows of a batch in any way that is felt.
    """
    found: dict[UUID, dict[str, Any]] = {batch_id: {"processing_plan": [], "native": None} for batch_id in batch_ids}
    for row in connection.execute(_LANES, (batch_ids,)):
        found[row.pop("batch_id")]["processing_plan"].append(row)
    for row in connection.execute(_SHARDS, (batch_ids,)):
        batch_id, wasted = row.pop("batch_id"), row.pop("wasted_usd")
        found[batch_id]["native"] = {**row, "wasted_usd": _money(wasted)}
    return found


def _money(amount: Decimal) -> str:
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") or "0" if "." in text else text


_LANES = """
SELECT batch_id, provider, model, total AS rows, processing, processing_reason AS reason
FROM lane WHERE batch_id = ANY(%s) ORDER BY id
"""

_SHARDS = """
SELECT batch_id, count(*) AS shards, count(*) FILTER (WHERE state = 'waiting') AS shards_waiting,
       count(*) FILTER (WHERE state = 'sent') AS shards_at_provider,
       sum(answered)::bigint AS rows_answered, sum(returned)::bigint AS rows_returned,
       sum(wasted_rows)::bigint AS wasted_rows, sum(wasted_usd) AS wasted_usd
FROM native_shard WHERE batch_id = ANY(%s) GROUP BY batch_id
"""
