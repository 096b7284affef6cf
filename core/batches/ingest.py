"""Takes a batch in: every row checked as it streams by, written with COPY in one transaction, or nothing kept."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from types import TracebackType
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from core import catalogue, db, tracing
from core.batches.options import BatchOptions
from core.batches.reading import Reader, Router, Row
from core.beside import Beside
from core.errors import FieldError, InvalidInput, TooLarge
from core.ids import BLOCK_BITS, new_id
from core.limits.types import Configured
from core.native import outlook
from core.native.choice import Choice, choose, obstacle_to
from core.principal import Principal
from core.routing import Route
from core.settings import settings
from core.states import Processing

log = logging.getLogger(__name__)

#: Different models in one batch.
MAX_LANES = 256


@dataclass(slots=True)
class _Lane:
    id: int
    route: Route
    names_tier: bool
    #: what COPY gets between a row's custom_id, the model as the row names it, and its digest
    columns: str
    rows: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


def submit(
    principal: Principal, rows: Iterable[bytes | dict[str, Any]], options: BatchOptions, *, ndjson: bool = False
) -> UUID:
    """Store a batch and return its id; it is dispatched from the moment this commits.

    Parameters
    ----------
    rows : each row as JSON text, or parsed. Consumed once, in chunks.
    ndjson : errors name a line (from 1) instead of an index into `requests`.

    Raises
    ------
    InvalidInput
        With the first 100 bad rows; nothing is kept.
    TooLarge
        More rows or longer rows than this service takes.
    """
    reader = Reader(Router(principal), ndjson=ndjson)
    batch_id = new_id()
    # COPY and row-level security exclude each other, so this is the platform's transaction; the tenant is in each row.
    with db.connection() as connection:
        # A slow upload leaves the transaction idle between two chunks.
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = '15min'")
        created_at = _insert_batch(connection, principal, batch_id, options)
        writer = _Writer(connection, principal, batch_id, created_at, options)
        with _Ahead(reader, writer) as ahead:
            for chunk in reader.chunks(rows):
                ahead.write(chunk)
        if reader.errors:
            raise InvalidInput(
                reader.errors, f"{reader.bad_rows} of {reader.count} rows are not valid; nothing was kept."
            )
        if not reader.count:
            raise InvalidInput([FieldError("/requests", "must hold at least one request")])
        writer.finish()
        if options.on_commit is not None:
            options.on_commit(connection, batch_id)
        connection.execute("NOTIFY llm_dispatch")
    # From here on it goes by its own id: this says which request brought it.
    name = tracing.of_batch(batch_id)
    log.info("%s was accepted with %d rows", name, reader.count)
    span = tracing.current()
    span.belongs_to(name)
    span.set({"llm_service.batch_id": name, "llm_service.rows": reader.count})
    return batch_id


class _Ahead:
    """Has one chunk written while the next is read: the database and this process work at the same time."""

    def __init__(self, reader: Reader, writer: _Writer) -> None:
        self._reader = reader
        self._writer = writer
        self._under_way: Beside[list[Row]] | None = None

    def write(self, chunk: list[Row]) -> None:
        """Begin with this chunk once the last one is written. Raises what went wrong with the last one."""
        self._finish()
        self._under_way = Beside(lambda: self._write(chunk))

    def __enter__(self) -> _Ahead:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._finish()
        elif self._under_way is not None:
            # Nobody else may use the connection before, not even to roll back.
            self._under_way.wait()

    def _write(self, chunk: list[Row]) -> list[Row]:
        """Write a chunk unless something is wrong with the batch; the rows whose custom_id was used before."""
        repeated = self._writer.taken(chunk)
        if not repeated and not self._reader.errors:
            self._writer.write(chunk)
        return repeated

    def _finish(self) -> None:
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            for row in under_way.result():
                self._reader.refuse_repeated(row)


class _Writer:
    """Writes checked rows with COPY, each to the lane of its connection and model."""

    def __init__(
        self,
        connection: db.RawConnection,
        principal: Principal,
        batch_id: UUID,
        created_at: datetime,
        options: BatchOptions,
    ) -> None:
        self.options = options
        self.connection = connection
        self.principal = principal
        self.batch_id = batch_id
        self.created_at = created_at
        self.total = 0
        self.lanes: dict[tuple[str, str, bool], _Lane] = {}
        self._owner = f"{created_at.isoformat()}\t{principal.tenant_id}\t"

    def taken(self, chunk: list[Row]) -> list[Row]:
        """The rows of a chunk whose custom_id an earlier row has, in this chunk or before."""
        seen: set[str] = set()
        if self.total:
            given = list({row.custom_id for row in chunk})
            earlier = self.connection.execute(_TAKEN, (given, self.batch_id, self.created_at))
            seen = {row["custom_id"] for row in earlier}
        return [row for row in chunk if row.custom_id in seen or seen.add(row.custom_id)]  # type: ignore[func-returns-value]

    def write(self, chunk: list[Row]) -> None:
        completions: list[str] = []
        requests: list[bytes] = []
        middle = f"\t{self._owner}{self.principal.project_id}\t{self.batch_id}\t"
        request_middle = f"\t{self._owner}".encode()
        for row in chunk:
            lane = self._lane(row)
            row_id = lane.id << BLOCK_BITS | lane.rows
            lane.rows += 1
            lane.input_tokens += row.estimated_input
            lane.output_tokens += row.estimated_output
            digest = hashlib.sha256(row.body).hexdigest()
            completions.append(
                f"{row_id}{middle}{_escape(row.custom_id)}\t{_escape(row.model)}{lane.columns}{digest}"
                f"\t{row.estimated_input}\t{row.estimated_output}\n"
            )
            # JSON as orjson writes it has no raw control characters; only backslashes mean something to COPY.
            requests.append(b"%d%s%s\n" % (row_id, request_middle, row.body.replace(b"\\", b"\\\\")))
        with self.connection.cursor() as cursor:
            with cursor.copy(_COPY_COMPLETION) as copy:
                copy.write("".join(completions).encode())
            with cursor.copy(_COPY_REQUEST) as copy:
                for part in _joined(requests):
                    copy.write(part)
        self.total += len(chunk)

    def finish(self) -> None:
        with self.connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO lane (id, batch_id, tenant_id, project_id, created_at, connection_id, provider, model,"
                " total, processing, processing_reason)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    (
                        lane.id,
                        self.batch_id,
                        self.principal.tenant_id,
                        self.principal.project_id,
                        self.created_at,
                        lane.route.connection.id,
                        lane.route.provider,
                        lane.route.model,
                        lane.rows,
                        choice.processing,
                        choice.reason,
                    )
                    for lane in self.lanes.values()
                    for choice in (self._choice(lane),)
                ],
            )
            cursor.execute("UPDATE batch SET total = %s WHERE id = %s", (self.total, self.batch_id))

    def _choice(self, lane: _Lane) -> Choice:
        """How the rows of a lane are run; their time in real time is worked out only where it decides."""
        asked, least = self.options.processing, settings().native_min_rows
        model = catalogue.find(lane.route.model, lane.route.provider)
        obstacle = obstacle_to(asked, model, tier_of_its_own=lane.names_tier)
        seconds = 0.0
        if asked is Processing.AUTO and obstacle is None and lane.rows >= least:
            connection_id = UUID(lane.route.connection.id)
            row = self.connection.execute(
                "SELECT requests_per_minute, tokens_per_minute, max_concurrency FROM connection WHERE id = %s",
                (connection_id,),
            ).fetchone()
            limits = outlook.limits_of(connection_id, lane.route.model, Configured(**row) if row else Configured())
            capacity = outlook.capacity(self.connection)
            seconds = limits.seconds(lane.rows, lane.input_tokens, lane.output_tokens, capacity=capacity)
        return choose(
            asked,
            lane.route.model,
            rows=lane.rows,
            min_rows=least,
            window_seconds=self.options.window_seconds,
            realtime_seconds=seconds,
            obstacle=obstacle,
        )

    def _lane(self, row: Row) -> _Lane:
        found = row.route
        key = (found.connection.id, found.model, row.names_tier)
        lane = self.lanes.get(key)
        if lane is None:
            if len(self.lanes) >= MAX_LANES:
                raise TooLarge(f"a batch takes at most {MAX_LANES} different models; split it")
            columns = f"\t{_escape(found.model)}\t{found.provider}\t{found.connection.id}\t\\\\x"
            lane = self.lanes[key] = _Lane(new_block(self.connection), found, row.names_tier, columns)
        return lane


def new_block(connection: db.RawConnection) -> int:
    """A block of completion ids that nobody else has."""
    row = connection.execute("SELECT nextval('lane_id_seq') AS block").fetchone()
    assert row is not None
    return int(row["block"])


# One look into the unique index for each. As `custom_id = ANY(...)` it was a filter over all rows of the batch so far
# wherever the planner, which cannot know of rows that are not committed, took them for few.
_TAKEN = """
SELECT given.custom_id FROM unnest(%s::text[]) AS given (custom_id), LATERAL (
    SELECT FROM completion c WHERE c.batch_id = %s AND c.custom_id = given.custom_id AND c.created_at = %s LIMIT 1
) AS earlier
"""

_COPY_COMPLETION = (
    "COPY completion (id, created_at, tenant_id, project_id, batch_id, custom_id, model_requested, model, provider,"
    " connection_id, request_sha256, estimated_input_tokens, estimated_output_tokens) FROM STDIN"
)
_COPY_REQUEST = "COPY completion_request (completion_id, created_at, tenant_id, body) FROM STDIN"

_TO_ESCAPE = re.compile(r"[\\\t\n\r]").search
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _escape(text: str) -> str:
    """A value in COPY's text format."""
    return text.translate(_ESCAPES) if _TO_ESCAPE(text) else text


def _joined(parts: list[bytes], size: int = 256) -> Iterator[bytes]:
    left = iter(parts)
    while group := list(islice(left, size)):
        yield b"".join(group)


def _insert_batch(
    connection: db.RawConnection, principal: Principal, batch_id: UUID, options: BatchOptions
) -> datetime:
    row = connection.execute("SELECT now() AS now").fetchone()
    assert row is not None
    created_at: datetime = row["now"]
    connection.execute(
        "INSERT INTO batch (id, tenant_id, project_id, created_at, name, labels, processing, priority, max_cost_usd,"
        " max_error_rate, webhook_url, retry_of, prompt_caching, expires_at, total)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0)",
        (
            batch_id,
            principal.tenant_id,
            principal.project_id,
            created_at,
            options.name,
            Jsonb(options.metadata),
            options.processing,
            options.priority,
            options.max_cost_usd,
            options.max_error_rate,
            options.webhook_url,
            options.retry_of,
            options.prompt_caching,
            created_at + timedelta(seconds=options.window_seconds),
        ),
    )
    return created_at
