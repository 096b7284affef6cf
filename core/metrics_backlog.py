"""What waits in the whole service: read from the database and the limiter by the leading scheduler, and nobody else.

Every query reads what does not grow with a batch: open batches and their lanes, leases (as many as rows in flight),
workers, deliveries that are due, native shards.
"""

from __future__ import annotations

import logging
import threading
import time
from uuid import UUID

from prometheus_client import Gauge

from core import db, limits, metrics_native_backlog
from core.errors import Unavailable
from core.metrics_dispatch import LEADING
from core.states import BatchStatus, ProviderType

log = logging.getLogger(__name__)

BACKLOG_SECONDS = 5.0
#: Connections whose limiter is looked at, those of the oldest open batches first.
MAX_CONNECTIONS = 200


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    # Whoever led last, of the processes that live: a leader that was frozen does not count twice.
    return Gauge(f"llm_service_{name}", text, labels, multiprocess_mode="livemostrecent")


BATCHES = _gauge("batches", "Batches that have not ended.", "status")
PENDING_ROWS = _gauge("rows_pending", "Rows of open batches that have not been dispatched.", "status")
OLDEST_BATCH = _gauge("oldest_batch_age_seconds", "Age of the oldest batch that runs.")
LEASES = _gauge(
    "leases", "Rows in flight: waiting for their next try, due for it, rung, in a call.", "provider", "state"
)
OLDEST_LEASE = _gauge(
    "oldest_lease_age_seconds", "How long the row that is longest in a state has been in it.", "state"
)
WORKERS = _gauge("workers", "Worker processes.", "state")
CAPACITY = _gauge("worker_capacity", "Calls that all live workers together can hold.")
DELIVERIES = _gauge("webhooks_pending", "Webhook deliveries that are not delivered: due now, or waiting.", "state")
OLDEST_DELIVERY = _gauge("oldest_webhook_due_age_seconds", "How long the oldest due delivery has been due.")
CREDENTIALS = _gauge(
    "connections", "Providers that projects have set up; stopped: the key was refused.", "provider", "state"
)
BREAKERS = _gauge(
    "limiter_connections",
    "Connections of open batches by the state of their breaker; resting: after a 429, until its Retry-After.",
    "provider",
    "state",
)
UPDATED = _gauge("backlog_updated_timestamp_seconds", "When these gauges were read last.")

_OPEN = (BatchStatus.PENDING, BatchStatus.PROCESSING, BatchStatus.PAUSED)
#: Also open: stopped, with calls that still come home.
_STOPPING = "stopping"
_LEASE_STATES = ("waiting", "due", "rung", "running")
_BREAKER_STATES = ("closed", "open", "half-open", "resting")


class Backlog:
    """Keeps the gauges while this process leads, and clears them when it stops."""

    def __init__(self, leading: threading.Event) -> None:
        self._leading = leading
        self._led = False

    def run(self) -> None:
        """For ever, in a thread."""
        while True:
            try:
                self.look()
            except Unavailable as error:
                log.warning("backlog: %s", error)
            except Exception:
                log.exception("the backlog was not read")
            self._leading.wait(BACKLOG_SECONDS)
            time.sleep(BACKLOG_SECONDS if self._led else 0.2)

    def look(self) -> None:
        """Read everything if this process leads; clear what it said before if it no longer does."""
        if self._leading.is_set():
            self._led = True
            LEADING.set(1)
            self._read()
        elif self._led:
            self._led = False
            self.clear()
        else:
            LEADING.set(0)

    def clear(self) -> None:
        """Say nothing more: whoever leads now does."""
        LEADING.set(0)
        _set_all(BATCHES, PENDING_ROWS, labels=[(status,) for status in (*_OPEN, _STOPPING)])
        _set_all(LEASES, labels=[(provider, state) for provider in ProviderType for state in _LEASE_STATES])
        _set_all(BREAKERS, labels=[(provider, state) for provider in ProviderType for state in _BREAKER_STATES])
        _set_all(
            CREDENTIALS, labels=[(provider, state) for provider in ProviderType for state in ("active", "stopped")]
        )
        _set_all(OLDEST_LEASE, labels=[(state,) for state in _LEASE_STATES[1:]])
        _set_all(WORKERS, labels=[("live",), ("draining",), ("dead",)])
        _set_all(DELIVERIES, labels=[("due",), ("waiting",)])
        metrics_native_backlog.clear()
        for gauge in (OLDEST_BATCH, CAPACITY, OLDEST_DELIVERY, UPDATED):
            gauge.set(0)

    def _read(self) -> None:
        with db.connection() as connection:
            _batches(connection)
            _leases(connection)
            _workers(connection)
            _deliveries(connection)
            _credentials(connection)
            metrics_native_backlog.read(connection)
            used = connection.execute(_CONNECTIONS, {"limit": MAX_CONNECTIONS}).fetchall()
        _breakers({row["connection_id"]: row["provider"] for row in used})
        UPDATED.set(time.time())


def _set_all(*gauges: Gauge, labels: list[tuple[str, ...]]) -> None:
    for gauge in gauges:
        for each in labels:
            gauge.labels(*each).set(0)


def _batches(connection: db.RawConnection) -> None:
    rows = {row["kind"]: row for row in connection.execute(_BATCHES)}
    for status in (*_OPEN, _STOPPING):
        row = rows.get(status)
        BATCHES.labels(status).set(row["batches"] if row else 0)
        PENDING_ROWS.labels(status).set(row["pending"] if row else 0)
    running = [rows[status]["oldest"] for status in _OPEN[:2] if status in rows]
    OLDEST_BATCH.set(max(running, default=0.0))


def _leases(connection: db.RawConnection) -> None:
    found = {(row["provider"], row["state"]): row for row in connection.execute(_LEASES)}
    for state in _LEASE_STATES:
        ages = [0.0]
        for provider in ProviderType:
            row = found.get((provider, state))
            LEASES.labels(provider, state).set(row["leases"] if row else 0)
            ages.append(row["oldest"] if row else 0.0)
        if state != "waiting":
            OLDEST_LEASE.labels(state).set(max(ages))


def _workers(connection: db.RawConnection) -> None:
    row = connection.execute(_WORKERS).fetchone()
    assert row is not None
    for state in ("live", "draining", "dead"):
        WORKERS.labels(state).set(row[state])
    CAPACITY.set(row["capacity"])


def _deliveries(connection: db.RawConnection) -> None:
    row = connection.execute(_DELIVERIES).fetchone()
    assert row is not None
    DELIVERIES.labels("due").set(row["due"])
    DELIVERIES.labels("waiting").set(row["waiting"])
    OLDEST_DELIVERY.set(row["oldest"])


def _credentials(connection: db.RawConnection) -> None:
    found = {
        (row["provider_type"], row["state"]): row["count"]
        for row in connection.execute("SELECT provider_type, state, count(*) FROM connection GROUP BY 1, 2")
    }
    for provider in ProviderType:
        for state in ("active", "stopped"):
            CREDENTIALS.labels(provider, state).set(found.get((provider, state), 0))


def _breakers(providers: dict[UUID, str]) -> None:
    counts = {(provider, state): 0 for provider in ProviderType for state in _BREAKER_STATES}
    for connection_id, provider in providers.items():
        found = limits.state(connection_id)
        state = "resting" if found["breaker"] == "closed" and found["blocked_seconds"] > 0 else found["breaker"]
        counts[ProviderType(provider), state] += 1
    for (provider, state), count in counts.items():
        BREAKERS.labels(provider, state).set(count)


_BATCHES = """
SELECT CASE WHEN status IN ('pending', 'processing', 'paused') THEN status ELSE 'stopping' END AS kind,
       count(*) AS batches, sum(total - dispatched)::bigint AS pending,
       extract(epoch FROM now() - min(created_at))::float8 AS oldest
FROM batch WHERE ended_at IS NULL GROUP BY 1
"""

_LEASES = """
SELECT c.provider_type AS provider, l.state, count(*) AS leases,
       extract(epoch FROM now() - min(l.since))::float8 AS oldest
FROM (
    SELECT connection_id, coalesce(due_at, call_started_at, rung_at) AS since,
           CASE WHEN due_at > now() THEN 'waiting' WHEN due_at IS NOT NULL THEN 'due'
                WHEN call_started_at IS NULL THEN 'rung' ELSE 'running' END AS state
    FROM lease
) l JOIN connection c ON c.id = l.connection_id
GROUP BY 1, 2
"""

_WORKERS = """
SELECT count(*) FILTER (WHERE live AND NOT draining) AS live, count(*) FILTER (WHERE live AND draining) AS draining,
       count(*) FILTER (WHERE NOT live) AS dead,
       coalesce(sum(capacity) FILTER (WHERE live AND NOT draining), 0)::bigint AS capacity
FROM (SELECT draining, capacity, lease_expires_at > now() AS live FROM worker) w
"""

_DELIVERIES = """
SELECT count(*) FILTER (WHERE due_at <= now()) AS due, count(*) FILTER (WHERE due_at > now()) AS waiting,
       coalesce(extract(epoch FROM now() - min(due_at) FILTER (WHERE due_at <= now())), 0)::float8 AS oldest
FROM webhook_delivery WHERE status = 'pending'
"""

_CONNECTIONS = """
SELECT lane.connection_id, min(lane.provider) AS provider
FROM lane JOIN batch ON batch.id = lane.batch_id
WHERE batch.ended_at IS NULL GROUP BY 1 ORDER BY min(batch.created_at) LIMIT %(limit)s
"""
