"""Metrics of the way of a row and of webhooks: counted by slice, by flush, by tick, never by row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

from core.metrics import LONG_SECONDS, SHORT_SECONDS

SLICES = Counter("llm_service_slices_total", "Slices of rows that workers took.")
STARTED = Counter("llm_service_rows_started_total", "Rows that workers started.")
NOT_STARTED = Counter(
    "llm_service_rows_not_started_total", "Rows of slices that were no longer to be started: rung twice, or stopped."
)
START = Histogram(
    "llm_service_start_statement_seconds", "The statement that starts a slice, with its commit.", buckets=SHORT_SECONDS
)
RUNG_TO_STARTED = Histogram(
    "llm_service_rung_to_started_seconds",
    "From the claim of a slice to its start by a worker, by the database's clock.",
    buckets=LONG_SECONDS,
)
DUE_TO_RUNG = Histogram(
    "llm_service_due_to_rung_seconds",
    "How long the oldest row of a claim had been due to be tried again.",
    buckets=LONG_SECONDS,
)
CLAIMED = Counter("llm_service_rows_claimed_total", "Rows that the scheduler claimed.", ["provider"])
RETRIES = Counter("llm_service_row_retries_total", "Rows put back to be tried again.", ["provider", "reason"])
RESCUED = Counter("llm_service_rows_rescued_total", "Rows taken back from workers.", ["cause"])
#: Why rows are rescued. The series are there from the start, so that the first of them is seen to rise.
WORKER_DEAD, CALL_OVERDUE = RESCUED.labels("worker_dead"), RESCUED.labels("call_overdue")
RUNG_AGAIN = Counter("llm_service_rows_rung_again_total", "Rows whose doorbell nobody followed in time.")
GRANTED = Counter("llm_service_limiter_grants_total", "Calls of batches that the limiter let start.", ["provider"])
HELD_BACK = Counter(
    "llm_service_limiter_waits_total",
    "Claims that the limiter let start in part or not at all, by what was short.",
    ["provider", "waiting_for"],
)
FLUSH = Histogram("llm_service_recorder_flush_seconds", "One commit of outcomes.", ["recorder"], buckets=SHORT_SECONDS)
FLUSH_ROWS = Histogram(
    "llm_service_recorder_flush_rows",
    "Outcomes in one commit.",
    ["recorder"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
)
PENDING = Gauge(
    "llm_service_recorder_pending",
    "Outcomes that wait for their commit.",
    ["recorder"],
    multiprocess_mode="livesum",
)
TASK = Histogram(
    "llm_service_scheduler_task_seconds", "One look of a scheduler's task.", ["task"], buckets=SHORT_SECONDS
)
TASK_FAILURES = Counter(
    "llm_service_scheduler_task_failures_total", "Looks of a scheduler's task that failed.", ["task"]
)
LEADING = Gauge("llm_service_scheduler_leading", "1 for the scheduler that leads.", multiprocess_mode="livesum")
WEBHOOK = Histogram(
    "llm_service_webhook_attempt_seconds",
    "Attempts to deliver a webhook.",
    ["outcome"],
    buckets=LONG_SECONDS,
)


def started(seconds: float, claimed: int, lags: list[float]) -> None:
    """Count a slice that a worker took.

    Parameters
    ----------
    seconds : what the start statement took.
    claimed : rows in the slice.
    lags : for each row that was started, the seconds since its claim.
    """
    SLICES.inc()
    START.observe(seconds)
    if lags:
        STARTED.inc(len(lags))
        RUNG_TO_STARTED.observe(max(lags))
    if len(lags) < claimed:
        NOT_STARTED.inc(claimed - len(lags))


def granted(provider: str, rows: int, waiting_for: str | None) -> None:
    """Count what the limiter let start, and what it says is short."""
    if rows:
        GRANTED.labels(provider).inc(rows)
    if waiting_for:
        HELD_BACK.labels(provider, waiting_for).inc()


@contextmanager
def flush(recorder: str, rows: int) -> Iterator[None]:
    """Time one commit of outcomes; one that fails is not counted."""
    began = time.perf_counter()
    yield
    FLUSH.labels(recorder).observe(time.perf_counter() - began)
    FLUSH_ROWS.labels(recorder).observe(rows)


def timed(task: str, look: Callable[[], float]) -> Callable[[], float]:
    """A scheduler's task whose looks are timed and whose failures are counted."""
    seconds, failures = TASK.labels(task), TASK_FAILURES.labels(task)

    def run() -> float:
        began = time.perf_counter()
        try:
            return look()
        except Exception:
            failures.inc()
            raise
        finally:
            seconds.observe(time.perf_counter() - began)

    return run
