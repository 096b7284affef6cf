"""A past for a project: completions of a month, and the hourly sums of as many as one likes, written straight in.

Half of the completions are one batch, all with one time, ten days ago; the others are live ones, even over the month.
Their bodies are short. What a search looks for:

- one in fifty failed, one in a hundred took 20 s, two in five are Claude's;
- `common` is in every hundredth prompt, `needle` in one alone, in the oldest tenth of the live ones;
- `expired` is the status of that row alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from core import db, histogram, ids
from core.db import RawConnection
from core.rollup import Key, Sums, hour_of

DAYS = 30
BATCH_DAYS_AGO = 10
MODELS = (
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-4o"),
    ("openai", "gpt-4.1"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-haiku-4-5"),
)
#: How the rows of an hour and model end: status, reason, share.
_ENDS = (("succeeded", "", 0.97), ("failed", "timeout", 0.02), ("failed", "rate_limited", 0.01))
_CHUNK = 250_000
#: Ids of a block that no lane and no live recorder of a fresh database has.
_FIRST_ID = 1 << 48


def write_sums(tenant_id: UUID, project_id: UUID, rows: int) -> int:
    """Write the hourly sums that `rows` completions of the last DAYS days leave; returns how many sums that are."""
    chance = random.Random(1)
    now = hour_of(datetime.now(UTC))
    each = rows / (DAYS * 24 * len(MODELS))
    written = 0
    for day in range(DAYS):
        sums = Sums()
        for hour in range(24):
            for provider, model in MODELS:
                for status, error_type, share in _ENDS:
                    at = now - timedelta(hours=24 * day + hour)
                    key = Key(project_id, at, provider, model, "realtime", status, error_type)
                    _add(sums, key, tenant_id, max(1, round(each * share)), chance)
                    written += 1
        with db.connection() as connection:
            sums.write(connection)
    with db.connection() as connection:
        connection.execute("ANALYZE rollup")
    return written


def end_one(tenant_id: UUID, project_id: UUID) -> None:
    """Count one more completion, in this hour."""
    sums = Sums()
    provider, model = MODELS[0]
    key = Key(project_id, hour_of(datetime.now(UTC)), provider, model, "realtime", "succeeded", "")
    _add(sums, key, tenant_id, 1, random.Random(2))
    with db.connection() as connection:
        sums.write(connection)


def _add(sums: Sums, key: Key, tenant_id: UUID, count: int, chance: random.Random) -> None:
    found = sums.count(key, tenant_id, count, count + count // 50)
    if key.status != "succeeded":
        return
    found.input_tokens, found.output_tokens = 300 * count, 90 * count
    found.cached_tokens, found.cost_usd = 20 * count, Decimal(chance.randint(1, 10**12)).scaleb(-9)
    # Latencies around a second, spread over some fifty buckets; every tenth was streamed.
    found.latency.counts = _spread(count, 80, chance)
    found.first_token.counts = _spread(count // 10, 65, chance)


def _spread(count: int, middle: float, chance: random.Random) -> Counter[int]:
    # A few hundred draws give the shape, the middle takes the rest.
    drawn = Counter(min(histogram.LAST, max(0, round(chance.gauss(middle, 9)))) for _ in range(min(count, 400)))
    drawn[round(middle)] += max(0, count - 400)
    return drawn


def write_completions(tenant_id: UUID, project_id: UUID, connection_id: UUID, rows: int) -> tuple[UUID, Iterator[int]]:
    """Prepare `rows` completions with their bodies; the id of their batch, and how far it is, chunk by chunk."""
    batch_id = ids.new_id()
    with db.connection() as connection:
        connection.execute("SELECT ensure_partitions(current_date - %s, current_date + 3)", (DAYS + 1,))
        connection.execute(
            "INSERT INTO batch (id, tenant_id, project_id, created_at, name, processing, expires_at, total, dispatched,"
            " succeeded, status, ended_at) VALUES (%(id)s, %(tenant)s, %(project)s, now() - make_interval(days =>"
            " %(days)s), 'history', 'realtime', now(), %(rows)s, %(rows)s, %(rows)s, 'completed', now())",
            {"id": batch_id, "tenant": tenant_id, "project": project_id, "days": BATCH_DAYS_AGO, "rows": rows // 2},
        )

    def write() -> Iterator[int]:
        for first in range(0, rows, _CHUNK):
            end = min(first + _CHUNK, rows)
            values = {
                "tenant": tenant_id,
                "project": project_id,
                "connection": connection_id,
                "batch": batch_id,
                "rows": rows,
                "first": first,
                "end": end,
                "block": _FIRST_ID,
                "days": DAYS,
            }
            with db.connection() as connection:
                _write_chunk(connection, values)
            yield end
        with db.connection() as connection:
            for table in ("completion", "completion_request", "completion_response"):
                connection.execute(f"ANALYZE {table}")

    return batch_id, write()


def _write_chunk(connection: RawConnection, values: dict[str, object]) -> None:
    connection.execute(_MADE, values)
    connection.execute(_COMPLETIONS, values)
    connection.execute(_REQUESTS, values)
    connection.execute(_RESPONSES, values)
    connection.execute("DROP TABLE made")


# n counts the live completions from the oldest to the newest, then the batch's rows.
_MADE = """
CREATE TEMPORARY TABLE made AS
SELECT n, %(block)s + n AS id, n >= %(rows)s - %(rows)s / 2 AS in_batch, n = %(rows)s / 20 AS needle,
       CASE WHEN n >= %(rows)s - %(rows)s / 2 THEN (SELECT created_at FROM batch WHERE id = %(batch)s)
            ELSE now() - make_interval(days => %(days)s) * (1 - n::float8 / (%(rows)s - %(rows)s / 2))
       END AS created_at,
       CASE WHEN n %% 5 < 3 THEN 'gpt-4o-mini' ELSE 'claude-sonnet-4-5' END AS model, n %% 50 = 7 AS failed
FROM generate_series(%(first)s::bigint, %(end)s::bigint - 1) AS n
"""

_COMPLETIONS = """
INSERT INTO completion (id, created_at, tenant_id, project_id, batch_id, custom_id, status, processing, model_requested,
    model, model_called, provider, connection_id, request_id, input_tokens, output_tokens, cost_usd, attempts,
    error_type, error_message, provider_status, started_at, ended_at)
SELECT id, created_at, %(tenant)s, %(project)s, CASE WHEN in_batch THEN %(batch)s::uuid END,
       CASE WHEN in_batch THEN 'row-' || n END,
       CASE WHEN needle THEN 'expired' WHEN failed THEN 'failed' ELSE 'succeeded' END, 'realtime', model, model, model,
       CASE WHEN model LIKE 'gpt%%' THEN 'openai' ELSE 'anthropic' END, %(connection)s, 'req_' || n,
       CASE WHEN NOT failed THEN 20 END, CASE WHEN NOT failed THEN 9 END, CASE WHEN NOT failed THEN 0.0000084 END, 1,
       CASE WHEN failed THEN 'timeout' END, CASE WHEN failed THEN 'no answer in time' END,
       CASE WHEN NOT failed THEN 200 END, created_at,
       created_at + make_interval(secs => CASE WHEN n %% 100 = 3 THEN 20 ELSE 1 END)
FROM made
"""

_REQUESTS = """
INSERT INTO completion_request (completion_id, created_at, tenant_id, body)
SELECT id, created_at, %(tenant)s, json_build_object('model', model, 'messages', json_build_array(json_build_object(
           'role', 'user', 'content', 'Say in a few words what came of order ' || md5(n::text)
           || CASE WHEN needle THEN ' needle' WHEN n %% 100 = 1 THEN ' common' ELSE '' END)))::text
FROM made
"""

_RESPONSES = """
INSERT INTO completion_response (completion_id, created_at, tenant_id, body)
SELECT id, created_at, %(tenant)s, json_build_object('object', 'chat.completion', 'model', model, 'choices',
           json_build_array(json_build_object('index', 0, 'finish_reason', 'stop', 'message', json_build_object(
           'role', 'assistant', 'content', 'It was sent on its way, number ' || md5((n + 1)::text)))))::text
FROM made WHERE NOT failed
"""
