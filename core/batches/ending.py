"""How a batch moves towards its end: counters, limits that stop it, and the one statement that ends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from core import webhooks
from core.db import RawConnection
from core.providers.types import Usage
from core.states import FailureReason, RowStatus

#: A batch is not judged by its error rate before so many rows have ended.
ERROR_RATE_MIN_ROWS = 20


@dataclass(slots=True)
class Tally:
    """What one transaction adds to the counters of a batch."""

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    #: rows that were ended without ever having been dispatched
    dispatched: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    savings_usd: Decimal = Decimal(0)
    released_usd: Decimal = Decimal(0)
    retries: int = 0
    #: reason -> how often, and a first message
    causes: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(
        self,
        status: RowStatus,
        usage: Usage | None,
        cost_usd: Decimal | None,
        list_cost_usd: Decimal | None,
        released_usd: Decimal,
        attempts: int,
    ) -> None:
        setattr(self, status, getattr(self, status) + 1)
        if usage is not None:
            self.input_tokens += usage.input_tokens
            self.output_tokens += usage.output_tokens
            self.cached_tokens += usage.cached_tokens
            self.reasoning_tokens += usage.reasoning_tokens
        if cost_usd is not None:
            self.cost_usd += cost_usd
            self.savings_usd += (list_cost_usd or cost_usd) - cost_usd
        self.released_usd += released_usd
        self.retries += max(0, attempts - 1)

    def blame(self, reason: FailureReason, message: str) -> None:
        count, first = self.causes.get(reason, (0, message))
        self.causes[reason] = (count + 1, first)


def count(connection: RawConnection, tallies: Mapping[UUID, Tally]) -> None:
    """Add to the counters of batches, stop those over their error limit, end those whose rows have all ended."""
    follow(connection, tallies, add(connection, tallies))


def add(connection: RawConnection, tallies: Mapping[UUID, Tally]) -> dict[UUID, Cursor[DictRow]]:
    """Add to the counters of batches; give what this returns to `follow`, in the same transaction.

    Batches are locked in the order of their ids, after their rows, in every transaction that locks several.
    """
    return {
        batch_id: connection.execute(_COUNT, {"batch": batch_id, **_numbers(tallies[batch_id])})
        for batch_id in sorted(tallies)
    }


def follow(connection: RawConnection, tallies: Mapping[UUID, Tally], added: Mapping[UUID, Cursor[DictRow]]) -> None:
    """Stop batches over their error limit, end those whose rows have all ended."""
    for batch_id, cursor_of_batch in added.items():
        tally, row = tallies[batch_id], cursor_of_batch.fetchone()
        if tally.causes and row is not None:
            with connection.cursor() as cursor:
                cursor.executemany(
                    _BLAME,
                    [
                        (batch_id, reason, row["tenant_id"], times, message[:500].replace("\0", ""))
                        for reason, (times, message) in sorted(tally.causes.items())
                    ],
                )
        if row is not None and row["left"] == 0:
            end(connection, batch_id)
        elif row is not None and row["over_error_rate"]:
            stop_over_error_rate(connection, batch_id)


def _numbers(tally: Tally) -> dict[str, object]:
    return {
        name: getattr(tally, name)
        for name in (
            "succeeded",
            "failed",
            "cancelled",
            "expired",
            "dispatched",
            "input_tokens",
            "output_tokens",
            "cached_tokens",
            "reasoning_tokens",
            "cost_usd",
            "savings_usd",
            "released_usd",
            "retries",
        )
    }


def end(connection: RawConnection, batch_id: UUID) -> bool:
    """End a batch whose rows have all ended, with its webhook. False if it has ended before or rows are left."""
    row = connection.execute(_END, {"batch": batch_id}).fetchone()
    if row is None:
        return False
    webhooks.emit(connection, batch_id, f"batch.{row['status']}")
    return True


def stop_over_error_rate(connection: RawConnection, batch_id: UUID) -> None:
    """Stop a batch of which too many rows failed; what has not started is swept by the scheduler."""
    connection.execute(
        "UPDATE batch SET status = 'failed', status_reason = %s, status_message ="
        " format('%%s of %%s rows failed, over max_error_rate %%s', failed, succeeded + failed, max_error_rate)"
        " WHERE id = %s AND status IN ('pending', 'processing', 'paused')",
        (FailureReason.ERROR_LIMIT, batch_id),
    )
    connection.execute("SELECT pg_notify('llm_stop', %s)", (batch_id.hex,))
    connection.execute("NOTIFY llm_dispatch")


_COUNT = f"""
UPDATE batch SET
    succeeded = succeeded + %(succeeded)s, failed = failed + %(failed)s, cancelled = cancelled + %(cancelled)s,
    expired = expired + %(expired)s, dispatched = dispatched + %(dispatched)s,
    input_tokens = input_tokens + %(input_tokens)s, output_tokens = output_tokens + %(output_tokens)s,
    cached_tokens = cached_tokens + %(cached_tokens)s, reasoning_tokens = reasoning_tokens + %(reasoning_tokens)s,
    cost_usd = cost_usd + %(cost_usd)s, savings_usd = savings_usd + %(savings_usd)s,
    reserved_usd = reserved_usd - %(released_usd)s, retries = retries + %(retries)s
WHERE id = %(batch)s
RETURNING tenant_id, total - succeeded - failed - cancelled - expired AS left,
    status IN ('pending', 'processing', 'paused') AND max_error_rate IS NOT NULL
        AND succeeded + failed >= least({ERROR_RATE_MIN_ROWS}, total)
        AND failed > max_error_rate * (succeeded + failed) AS over_error_rate
"""  # noqa: S608  (a constant of ours)

_BLAME = """
INSERT INTO batch_error (batch_id, reason, tenant_id, count, message) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (batch_id, reason) DO UPDATE SET count = batch_error.count + excluded.count
"""

# A batch that was stopped keeps the status it was stopped with; one that ran to its end gets its result.
_END = """
UPDATE batch SET
    ended_at = now(),
    status = CASE
        WHEN status IN ('cancelled', 'expired', 'failed') THEN status
        WHEN succeeded = 0 THEN 'failed'
        ELSE 'completed'
    END,
    status_reason = CASE WHEN status IN ('pending', 'processing', 'paused') THEN NULL ELSE status_reason END,
    status_message = CASE
        WHEN status IN ('pending', 'processing', 'paused') AND succeeded = 0 THEN 'no row succeeded'
        WHEN status IN ('pending', 'processing', 'paused') THEN NULL
        ELSE status_message
    END
WHERE id = %(batch)s AND ended_at IS NULL AND total = succeeded + failed + cancelled + expired
RETURNING status
"""
