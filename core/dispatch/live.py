"""Recording of live completions: their rows are written whole, many in one transaction, when they end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from core import budgets, db
from core.batches.ingest import new_block
from core.dispatch.recorder import Recorder
from core.ids import BLOCK_BITS, BLOCK_SIZE
from core.providers.types import Usage
from core.rollup import ADD, Key, Sums, hour_of
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
    #: calls that failed before (core/failed_calls.py)
    failed_attempts: list[dict[str, Any]] | None = None
    started_at: datetime
    ended_at: datetime
    #: from started_at to the first piece of a streamed answer
    first_token_ms: int | None = None
    #: called in the transaction that writes it, perhaps again after a lost reply; must not raise
    on_commit: Callable[[db.RawConnection], None] | None = None


_NO_REQUEST = "{}"
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
                _recorder = new_recorder()
    return _recorder


def drain(timeout_seconds: float) -> bool:
    """Wait until every row that was handed over is written, in a process that stops; False if some is left."""
    return _recorder is None or _recorder.drain(timeout_seconds)


def new_recorder() -> Recorder[LiveRow]:
    """A recorder of live completions; a process needs one, so that their flushes are as large as they can be."""
    return Recorder(_write, name="live-recorder", size=_body_bytes, instead=_bare)


def _bare(row: LiveRow) -> LiveRow | None:
    """What is recorded of a completion that the database refuses as it is: it is paid for, so its cost counts."""
    if row.request == _NO_REQUEST:
        return None
    return replace(
        row,
        model=row.model_called or row.model,
        request=_NO_REQUEST,
        response=None,
        message="what was asked or answered could not be stored",
        failed_attempts=None,
    )


def _body_bytes(row: LiveRow) -> int:
    return len(row.request) + len(row.response or "")


def _write(rows: list[LiveRow]) -> None:
    # An id that was given before may have been written: the reply was lost.
    again = any(row.id is not None for row in rows)
    for row in rows:
        if row.id is None:
            row.id = _new_id()
    sums = _sums(rows)
    values = orjson.dumps([_values(row) for row in rows]).decode()
    if again or any(row.on_commit is not None for row in rows) or not budgets.none_of(sums.projects()):
        _write_in_steps(rows, values, again=again)
        return
    # Nothing depends on what the server finds: one statement, which is its own transaction.
    with db.single_statement() as connection:
        connection.execute(_INSERT_AND_ADD, {"rows": values, "sums": sums.as_json()})
    sums.count_committed()


def _write_in_steps(rows: list[LiveRow], values: str, *, again: bool) -> None:
    # Waited for twice, for the budgets and for the commit: every caller waits that long.
    with db.one_trip() as connection:
        written = connection.execute(_INSERT, {"rows": values})
        new = {found["id"] for found in written} if again else {row.id for row in rows}
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


def _new_id() -> int:
    """The next id of this process's block. Only the recorder's thread asks, so there is no lock."""
    global _block, _next
    if _next >= BLOCK_SIZE:
        with db.connection() as connection:
            _block, _next = new_block(connection), 0
    _next += 1
    return (_block << BLOCK_BITS) + _next - 1


def _values(row: LiveRow) -> dict[str, object]:
    """The row as JSON for `_INSERT`."""
    usage = row.usage or Usage()
    counted = row.usage is not None
    return {
        "id": row.id,
        "created_at": row.started_at,
        "tenant_id": row.tenant_id,
        "project_id": row.project_id,
        "status": row.status,
        "model_requested": row.model_requested,
        "model": _storable(row.model),
        "provider": row.provider,
        "connection_id": row.connection_id,
        "request_id": row.request_id,
        "request_sha256": f"\\x{row.request_sha256.hex()}",
        "input_tokens": usage.input_tokens if counted else None,
        "output_tokens": usage.output_tokens if counted else None,
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens + usage.cache_write_1h_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost_usd": None if row.cost_usd is None else str(row.cost_usd),
        "list_cost_usd": None if row.list_cost_usd is None else str(row.list_cost_usd),
        "price_version": row.price_version,
        "attempts": row.attempts,
        "error_type": row.reason,
        "error_message": _storable(row.message[:2000]) if row.message else None,
        "provider_status": row.provider_status,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "first_token_ms": row.first_token_ms,
        "failed_attempts": row.failed_attempts,
        "model_called": row.model_called or row.model,
        "request": row.request,
        "response": row.response,
    }


def _storable(text: str) -> str:
    """A provider's text without what no text of the database can hold."""
    return text.replace("\0", "")


_COLUMNS = {
    "id": "bigint",
    "created_at": "timestamptz",
    "tenant_id": "uuid",
    "project_id": "uuid",
    "status": "text",
    "model_requested": "text",
    "model": "text",
    "provider": "text",
    "connection_id": "uuid",
    "request_id": "text",
    "request_sha256": "bytea",
    "input_tokens": "int",
    "output_tokens": "int",
    "cached_tokens": "int",
    "cache_write_tokens": "int",
    "reasoning_tokens": "int",
    "cost_usd": "numeric",
    "list_cost_usd": "numeric",
    "price_version": "text",
    "attempts": "int",
    "error_type": "text",
    "error_message": "text",
    "provider_status": "smallint",
    "started_at": "timestamptz",
    "ended_at": "timestamptz",
    "first_token_ms": "int",
    "model_called": "text",
    "failed_attempts": "jsonb",
}
_NAMES = ", ".join(_COLUMNS)

# One statement for all rows and their bodies, which cost a fraction of a statement a row: what it takes is one JSON
# text, written by orjson and read by the server. Projects that keep no bodies get none.
_PARTS = f"""
WITH given AS MATERIALIZED (
    SELECT given.*, project.log_bodies <> 'metadata_only' AS kept
    FROM json_to_recordset(%(rows)s::json) AS given (
        {", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())}, request text, response text
    ) LEFT JOIN project ON project.id = given.project_id
), written AS (
    INSERT INTO completion ({_NAMES}) SELECT {_NAMES} FROM given ON CONFLICT DO NOTHING RETURNING id
), requests AS (
    INSERT INTO completion_request (completion_id, created_at, tenant_id, body)
    SELECT id, created_at, tenant_id, request FROM given JOIN written USING (id) WHERE kept IS NOT FALSE
), responses AS (
    INSERT INTO completion_response (completion_id, created_at, tenant_id, body)
    SELECT id, created_at, tenant_id, response FROM given JOIN written USING (id)
    WHERE kept IS NOT FALSE AND response IS NOT NULL
)
"""  # noqa: S608 (names of ours)
_INSERT = _PARTS + "SELECT id FROM written"  # noqa: S608
_INSERT_AND_ADD = _PARTS + ADD
