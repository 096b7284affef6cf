"""What a batch would take and cost, before it is submitted: the same reading and checks, and nothing is stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from core import db
from core.batches import ingest, reading
from core.batches.options import BatchOptions
from core.batches.seen import Seen
from core.dispatch import claim
from core.errors import FieldError, InvalidInput, TooLarge
from core.estimates.forecast import Forecast, Sums, answer
from core.estimates.history import recent
from core.limits.types import Configured
from core.native import outlook
from core.principal import Principal


def estimate(
    principal: Principal, rows: Iterable[bytes | dict[str, Any]], options: BatchOptions, *, ndjson: bool = False
) -> dict[str, Any]:
    """The answer of POST /v1/batch/estimate (docs/estimates.md); rows that are wrong are reported in it, not raised.

    Parameters
    ----------
    rows : each row as JSON text, or parsed. Consumed once; what is held grows by some 16 bytes a row.
    ndjson : errors name a line (from 1) instead of an index into `requests`.

    Raises
    ------
    InvalidInput
        There is no row at all.
    TooLarge
        More rows, longer rows or more models than this service takes.
    """
    reader = reading.Reader(reading.Router(principal), ndjson=ndjson)
    sums: dict[tuple[str, str, bool], Sums] = {}
    seen = Seen()
    for chunk in reader.chunks(rows):
        for row in chunk:
            if not seen.add(row.custom_id):
                reader.refuse_repeated(row)
                continue
            lane = (row.route.connection.id, row.route.model, row.names_tier)
            if lane not in sums:
                if len(sums) >= ingest.MAX_LANES:
                    raise TooLarge(f"a batch takes at most {ingest.MAX_LANES} different models; split it")
                sums[lane] = Sums(row.route, names_tier=row.names_tier)
            sums[lane].add(row.body, row.estimated_input, row.estimated_output)
    if not reader.count:
        raise InvalidInput([FieldError("/requests", "must hold at least one request")])
    return {
        "valid": not reader.bad_rows,
        "rows": reader.count,
        "invalid_rows": reader.bad_rows,
        "errors": [error.as_dict() for error in reader.errors],
        **answer(_forecasts(principal, list(sums.values())), options),
    }


def _forecasts(principal: Principal, sums: list[Sums]) -> Forecast:
    """Beside the sums, what is known of the connections, the workers and the models' last days."""
    with db.connection(principal.tenant_id) as connection:
        configured = {
            row["id"]: Configured(row["requests_per_minute"], row["tokens_per_minute"], row["max_concurrency"])
            for row in connection.execute(
                "SELECT id, requests_per_minute, tokens_per_minute, max_concurrency FROM connection"
                " WHERE tenant_id = %s AND project_id = %s",
                (principal.tenant_id, principal.project_id),
            )
        }
        history = recent(connection, principal)
    # Workers are the platform's.
    with db.connection() as connection:
        alive = claim.capacity(connection) > 0
        capacity = outlook.capacity(connection)
    families: dict[UUID, dict[str, Any] | None] = {}
    limits = []
    for each in sums:
        connection_id = UUID(each.route.connection.id)
        if connection_id not in families:
            # One that cannot be asked is enough: Redis is away for all.
            away = None in families.values()
            families[connection_id] = None if away else outlook.learned(connection_id)
        own = configured.get(connection_id, Configured())
        limits.append(outlook.combine(each.route.model, own, families[connection_id]))
    return Forecast(
        sums=sums,
        limits=limits,
        history=history,
        capacity=capacity,
        workers_alive=alive,
        limits_asked=None not in families.values(),
    )
