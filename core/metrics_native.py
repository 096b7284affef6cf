"""Metrics of native batches: counted by shard and by the providers' results that were taken in, never by row."""

from __future__ import annotations

from decimal import Decimal

from prometheus_client import Counter

SHARDS_SENT = Counter("llm_service_native_shards_sent_total", "Shards sent to providers' batch APIs.", ["provider"])
ROWS_SENT = Counter("llm_service_native_rows_sent_total", "Rows in shards that were sent.", ["provider"])
SHARDS_TAKEN_IN = Counter(
    "llm_service_native_shards_taken_in_total", "Shards whose results were read to the end.", ["provider"]
)
STEP_FAILURES = Counter(
    "llm_service_native_step_failures_total", "Steps of shards that failed and are tried again.", ["provider", "state"]
)
TAKEN_BACK = Counter("llm_service_native_taken_back_total", "Shards asked back from their provider.", ["reason"])
RETURNED = Counter(
    "llm_service_native_rows_returned_total", "Rows that left a shard without an answer: to real time, or to their end."
)
WASTED_ROWS = Counter(
    "llm_service_native_wasted_rows_total",
    "Answers of providers' batches that were paid for and found their row ended otherwise.",
    ["provider"],
)
WASTED_USD = Counter("llm_service_native_wasted_usd_total", "What those answers cost, in US dollars.", ["provider"])


def sent(provider: str, rows: int) -> None:
    """Count a shard that its provider has."""
    SHARDS_SENT.labels(provider).inc()
    ROWS_SENT.labels(provider).inc(rows)


def taken_in(provider: str, wasted_rows: int, wasted_usd: Decimal) -> None:
    """Count a shard whose results were read."""
    SHARDS_TAKEN_IN.labels(provider).inc()
    # Zeros too: a series that begins with its first event hides that event from rate() and increase().
    WASTED_ROWS.labels(provider).inc(wasted_rows)
    WASTED_USD.labels(provider).inc(float(wasted_usd))
