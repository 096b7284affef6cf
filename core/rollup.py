"""Sums of what ended, per hour and kind: added up in memory over one transaction's rows, then written in few upserts.

The rows of table `rollup` are the last that a transaction locks, in the order of their keys, so that writers wait for
each other only while they commit and never in a circle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import orjson

from core import budgets, db, metrics_rows
from core.db import RawConnection
from core.histogram import Histogram
from core.providers.types import Usage
from core.states import RowStatus


class Key(NamedTuple):
    """What is added up together."""

    project_id: UUID
    #: when the rows ended, cut to the hour (`hour_of`)
    hour: datetime
    provider: str
    #: as the provider was asked for it: an answer names a version of it
    model: str
    processing: str
    status: str
    #: a FailureReason; empty for rows that succeeded
    error_type: str


@dataclass(slots=True)
class Sum:
    """What rows of one key add up to. Money in US dollars, times in histograms of milliseconds."""

    tenant_id: UUID
    requests: int = 0
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    savings_usd: Decimal = Decimal(0)
    unpriced: int = 0
    latency: Histogram = field(default_factory=Histogram)
    first_token: Histogram = field(default_factory=Histogram)


class Sums:
    """What one transaction adds."""

    def __init__(self) -> None:
        self._sums: dict[Key, Sum] = {}

    def count(self, key: Key, tenant_id: UUID, requests: int = 1, attempts: int = 0) -> Sum:
        """Count rows that used nothing: swept, or failed without an answer."""
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = Sum(tenant_id)
        found.requests += requests
        found.attempts += attempts
        return found

    def add(
        self,
        key: Key,
        tenant_id: UUID,
        *,
        attempts: int,
        usage: Usage | None,
        cost_usd: Decimal | None,
        list_cost_usd: Decimal | None,
        duration_ms: float | None,
        first_token_ms: float | None = None,
    ) -> None:
        """Count one row that has ended, with what it used.

        Parameters
        ----------
        list_cost_usd : what it would have cost at the provider's full price; None: as much as it did.
        """
        found = self.count(key, tenant_id, attempts=attempts)
        if usage is not None:
            found.input_tokens += usage.input_tokens
            found.output_tokens += usage.output_tokens
            found.cached_tokens += usage.cached_tokens
            found.cache_write_tokens += usage.cache_write_tokens + usage.cache_write_1h_tokens
            found.reasoning_tokens += usage.reasoning_tokens
        if cost_usd is not None:
            found.cost_usd += cost_usd
            if list_cost_usd is not None:
                found.savings_usd += list_cost_usd - cost_usd
        elif key.status == RowStatus.SUCCEEDED:
            found.unpriced += 1
        if duration_ms is not None:
            found.latency.add(duration_ms)
        if first_token_ms is not None:
            found.first_token.add(first_token_ms)

    def write(self, connection: RawConnection) -> None:
        """Charge the projects' budgets and add to the stored sums: the last that a transaction locks."""
        if not self._sums:
            return
        charged = budgets.charge(connection, self._costs())
        connection.execute(ADD, {"sums": self.as_json()})
        budgets.warn_of(connection, charged)
        db.after_commit(connection, self.count_committed)

    def as_json(self) -> str:
        """What `ADD` takes, in the order in which its rows are locked."""
        return orjson.dumps([_as_json(*item) for item in sorted(self._sums.items(), key=_key_of)]).decode()

    def count_committed(self) -> None:
        """Count for the metrics what a transaction that has committed ended."""
        metrics_rows.count(self._sums)

    def projects(self) -> set[UUID]:
        """Whose rows these are."""
        return {key.project_id for key in self._sums}

    def _costs(self) -> dict[UUID, Decimal]:
        """What each project spent."""
        costs: dict[UUID, Decimal] = {}
        for key, found in self._sums.items():
            costs[key.project_id] = costs.get(key.project_id, Decimal(0)) + found.cost_usd
        return costs


def _key_of(item: tuple[Key, Sum]) -> Key:
    return item[0]


def _as_json(key: Key, added: Sum) -> dict[str, object]:
    values = {name: getattr(added, name) for name in _COLUMNS}
    amounts = {name: str(values[name]) for name in ("cost_usd", "savings_usd")}
    histograms = {name: getattr(added, name).stored() for name in _HISTOGRAMS}
    return {**key._asdict(), **values, **amounts, **histograms}


def hour_of(time: datetime) -> datetime:
    """The hour in which a time lies, in UTC."""
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


_HISTOGRAMS = ("latency", "first_token")
_COLUMNS = {
    "tenant_id": "uuid",
    "requests": "bigint",
    "attempts": "bigint",
    "input_tokens": "bigint",
    "output_tokens": "bigint",
    "cached_tokens": "bigint",
    "cache_write_tokens": "bigint",
    "reasoning_tokens": "bigint",
    "cost_usd": "numeric",
    "savings_usd": "numeric",
    "unpriced": "bigint",
}
_TYPES = {
    "project_id": "uuid",
    "hour": "timestamptz",
    **dict.fromkeys(Key._fields[2:], "text"),
    **_COLUMNS,
    **dict.fromkeys(_HISTOGRAMS, "numeric"),
}
_ADDED = [name for name in _TYPES if name not in Key._fields and name != "tenant_id"]

#: Adds sums to the stored ones. One JSON text, because eighteen arrays cost more to write and to read than the rows.
ADD = f"""
INSERT INTO rollup ({", ".join(_TYPES)})
SELECT * FROM json_to_recordset(%(sums)s::json)
    AS added ({", ".join(f"{name} {kind}" for name, kind in _TYPES.items())})
ON CONFLICT ({", ".join(Key._fields)}) DO UPDATE SET
    {", ".join(f"{name} = rollup.{name} + excluded.{name}" for name in _ADDED)}
"""  # noqa: S608 (names of ours)
