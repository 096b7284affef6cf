"""Native shards that are not done with, for the leading scheduler's gauges (core/metrics_backlog.py).

The query reads shards that have something left to do: as many as provider batches under way, whatever they hold.
"""

from __future__ import annotations

from prometheus_client import Gauge

from core.db import RawConnection
from core.states import ProviderType

#: Where native batches run.
_PROVIDERS = (ProviderType.OPENAI, ProviderType.ANTHROPIC)
_STATES = ("waiting", "sent", "cancelling", "handing_back", "cleaning")


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    # As in core/metrics_backlog.py: whoever led last, of the processes that live.
    return Gauge(f"llm_service_native_{name}", text, labels, multiprocess_mode="livemostrecent")


SHARDS = _gauge(
    "shards",
    "Native shards: waiting to be sent, at the provider, asked back, handing rows back, being cleaned up.",
    "provider",
    "state",
)
ROWS = _gauge("shard_rows", "Rows in native shards that have neither ended nor been handed back.", "provider", "state")
OLDEST = _gauge(
    "oldest_shard_age_seconds",
    "How long the native shard that is longest in a state has been in it; those of paused batches are left out.",
    "state",
)


def read(connection: RawConnection) -> None:
    """Set the gauges."""
    found = {(row["provider"], row["state"]): row for row in connection.execute(_SHARDS)}
    for state in _STATES:
        rows = {provider: found.get((provider, state)) for provider in _PROVIDERS}
        for provider, row in rows.items():
            SHARDS.labels(provider, state).set(row["shards"] if row else 0)
            ROWS.labels(provider, state).set(row["rows"] if row else 0)
        OLDEST.labels(state).set(max((row["oldest"] or 0.0 for row in rows.values() if row), default=0.0))


def clear() -> None:
    """Say nothing more."""
    for state in _STATES:
        OLDEST.labels(state).set(0)
        for provider in _PROVIDERS:
            SHARDS.labels(provider, state).set(0)
            ROWS.labels(provider, state).set(0)


# A shard that goes another round waits since its last results were taken in. greatest() passes over nulls.
_SHARDS = """
SELECT provider, state, count(*) AS shards, sum(remaining)::bigint AS rows,
       extract(epoch FROM now() - min(since) FILTER (WHERE NOT paused))::float8 AS oldest
FROM (
    SELECT shard.provider, shard.remaining, batch.status IS NOT DISTINCT FROM 'paused' AS paused,
           CASE WHEN shard.handing_back THEN 'handing_back' WHEN shard.state = 'taken_in' THEN 'cleaning'
                WHEN shard.state = 'sent' AND shard.cancel_sent_at IS NOT NULL THEN 'cancelling'
                ELSE shard.state END AS state,
           CASE WHEN shard.state = 'waiting' AND NOT shard.handing_back
                THEN greatest(shard.formed_at, shard.taken_in_at)
                ELSE greatest(shard.formed_at, shard.sent_at, shard.cancel_sent_at, shard.taken_in_at) END AS since
    FROM native_shard shard LEFT JOIN batch ON batch.id = shard.batch_id
    WHERE shard.state <> 'cleaned'
) s GROUP BY 1, 2
"""
