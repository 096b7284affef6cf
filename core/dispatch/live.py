"""Recording of live completions: their rows are written whole, many in one transaction, when they end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from core import db
from core.batches.ingest import new_block
from core.dispatch.recorder import Recorder
from core.ids import BLOCK_BITS, BLOCK_SIZE
from core.logbook import bodies
from core.providers.types import Usage
from core.rollup import Key, Sums, hour_of
from core.states import FailureReason, Processing, RowStatus


@dataclass(slots=True, kw_only=True)
class LiveRow:
    """A live completion that has ended."""

    #: given at the first try to write it; a second try after a lost reply finds the row there
    id: int | None = None

    tenant_id: UUID
    project_id: UUID
    status: RowStatus
    model_requested: str
    #: as the provider says who answered, and as it was asked for
    model: str
    model_called: str | None = None
    provider: str
    connection_id: UUID
    request_id: str
    request_sha256: bytes
    request: str
    response: str | None
    usage: Usage | None
    cost_usd: Decimal | None
    list_cost_usd: Decimal | None
    price_version: str | None
    attempts: int
    reason: FailureReason | None
    message: str | None
    provider_status: int | None
    started_at: datetime
    ended_at: datetime
    #: from started_at to the first piece of a streamed answer
    first_token_ms: int | None = None
    #: called in the transaction that writes it, perhaps again after a lost reply; must not raise
    on_commit: Callable[[db.RawConnection], None] | None = None


_lock = threading.Lock()
_recorder: Recorder[LiveRow] | None = None
_block = 0
_next = BLOCK_SIZE


def recorder() -> Recorder[LiveRow]:
    """The recorder of this process, begun at first use (after the fork)."""
    global _recorder
    if _recorder is None:
        with _lock:
            if _recorder is None:
                _recorder = Recorder(_write, name="live-recorder")
    return _recorder


def _write(rows: list[LiveRow]) -> None:
    with db.connection() as connection:
        for row in rows:
            if row.id is None:
                row.id = _new_id(connection)
        bare = bodies.not_kept(connection, {row.project_id for row in rows})
        kept = [row for row in rows if row.project_id not in bare]
        with connection.cursor() as cursor:
            cursor.executemany(_COMPLETION, [_values(row) for row in rows], returning=True)
            new = {found["id"] for result in cursor.results() for found in result}
            cursor.executemany(
                _BODY.format("completion_request"),
                [(row.id, row.started_at, row.tenant_id, row.request) for row in kept],
            )
            cursor.executemany(
                _BODY.format("completion_response"),
                [(row.id, row.started_at, row.tenant_id, row.response) for row in kept if row.response is not None],
            )
        for row in rows:
            if row.on_commit is not None:
                row.on_commit(connection)
        _sums(row for row in rows if row.id in new).write(connection)


def _sums(rows: Iterable[LiveRow]) -> Sums:
    """What statistics gain by rows that were written now, and not by an earlier try whose reply was lost."""
    sums = Sums()
    for row in rows:
        sums.add(
            Key(
                row.project_id,
                hour_of(row.ended_at),
                row.provider,
                row.model_called or row.model,
                Processing.REALTIME,
                row.status,
                row.reason or "",
            ),
            row.tenant_id,
            attempts=row.attempts,
            usage=row.usage,
            cost_usd=row.cost_usd,
            list_cost_usd=row.list_cost_usd,
            duration_ms=(row.ended_at - row.started_at).total_seconds() * 1000,
            first_token_ms=row.first_token_ms,
        )
    return sums


def _new_id(connection: db.RawConnection) -> int:
    """The next id of this process's block. Only the recorder's thread asks, so there is no lock."""
    global _block, _next
    if _next >= BLOCK_SIZE:
        _block, _next = new_block(connection), 0
    _next += 1
    return (_block << BLOCK_BITS) + _next - 1


def _values(row: LiveRow) -> tuple[object, ...]:
    usage = row.usage or Usage()
    counted = row.usage is not None
    return (
        row.id,
        row.started_at,
        row.tenant_id,
        row.project_id,
        row.status,
        row.model_requested,
        row.model,
        row.provider,
        row.connection_id,
        row.request_id,
        row.request_sha256,
        usage.input_tokens if counted else None,
        usage.output_tokens if counted else None,
        usage.cached_tokens,
        usage.cache_write_tokens + usage.cache_write_1h_tokens,
        usage.reasoning_tokens,
        row.cost_usd,
        row.list_cost_usd,
        row.price_version,
        row.attempts,
        row.reason,
        row.message[:2000].replace("\0", "") if row.message else None,
        row.provider_status,
        row.started_at,
        row.ended_at,
        row.first_token_ms,
        row.model_called or row.model,
    )


_COMPLETION = """
INSERT INTO completion (id, created_at, tenant_id, project_id, status, model_requested, model, provider, connection_id,
    request_id, request_sha256, input_tokens, output_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
    cost_usd, list_cost_usd, price_version, attempts, error_type, error_message, provider_status, started_at, ended_at,
    first_token_ms, model_called)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
RETURNING id
"""

_BODY = "INSERT INTO {} (completion_id, created_at, tenant_id, body) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"
