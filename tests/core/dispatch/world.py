"""A tenant with a project and connections in the test's database, and shorthands for what scheduler and worker do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any
from uuid import UUID

from core import db
from core.batches import ingest
from core.batches.options import BatchOptions
from core.dispatch import claim, workers
from core.dispatch.record import Ended, record
from core.dispatch.start import Started, start
from core.identity import Principal
from core.ids import new_id
from core.providers.types import Usage
from core.states import FailureReason, RowStatus

PROMPT = [{"role": "user", "content": "2 + 2?"}]


class World:
    """One tenant; a second one is a second World."""

    def __init__(self, *, on_unknown_outcome: str = "retry") -> None:
        self.principal = Principal(tenant_id=new_id(), project_id=new_id(), key_id=new_id())
        self.connections: dict[str, UUID] = {}
        with db.connection() as connection:
            connection.execute("INSERT INTO tenant (id, name) VALUES (%s, 'test')", (self.principal.tenant_id,))
            connection.execute(
                "INSERT INTO project (id, tenant_id, name, on_unknown_outcome) VALUES (%s, %s, 'test', %s)",
                (self.principal.project_id, self.principal.tenant_id, on_unknown_outcome),
            )
            for provider in ("openai", "anthropic"):
                self.connections[provider] = new_id()
                connection.execute(
                    "INSERT INTO connection (id, tenant_id, project_id, provider_type, key_ciphertext, key_version)"
                    " VALUES (%s, %s, %s, %s, '\\x00', 1)",
                    (
                        self.connections[provider],
                        self.principal.tenant_id,
                        self.principal.project_id,
                        provider,
                    ),
                )
        self.worker_id = workers.register(1000)

    def submit(self, count: int = 3, *, model: str = "gpt-4o-mini", **options: Any) -> UUID:
        rows = [{"custom_id": f"row-{n}", "model": model, "messages": PROMPT} for n in range(count)]
        return ingest.submit(self.principal, rows, BatchOptions(**options))

    def claim(self, count: int = 100, reserved: Decimal = Decimal(0)) -> list[tuple[int, int]]:
        """What a tick of the scheduler claims, without its limits."""
        claimed = []
        with db.connection() as connection:
            for lane in claim.open_lanes(connection, claim.flight(connection)):
                due = [row[0] for row in claim.due_rows(connection, lane.id, count)]
                claimed += claim.claim_due(connection, lane, due)
                tokens = claim.estimates(connection, lane, lane.next_n, min(count, lane.fresh))
                if tokens:
                    claimed += claim.claim_fresh(connection, lane, tokens, [reserved] * len(tokens))
        return claimed

    def start(self, rows: Iterable[tuple[int, int]], worker_id: UUID | None = None) -> list[Started]:
        rows = list(rows)
        with db.connection() as connection:
            found = connection.execute(
                "SELECT DISTINCT completion_id, created_at FROM lease WHERE completion_id = ANY(%s)",
                ([row[0] for row in rows],),
            ).fetchall()
        times = {row["completion_id"]: row["created_at"] for row in found}
        started = []
        for created_at in set(times.values()):
            own = [row for row in rows if times.get(row[0]) == created_at]
            started += start(worker_id or self.worker_id, created_at, own)
        return started

    def run(self, count: int = 100) -> list[Started]:
        """Claim and start."""
        return self.start(self.claim(count))


def succeeded(row: Started, *, fence: int | None = None, cost: str = "0.001") -> Ended:
    return Ended(
        id=row.id,
        fence=row.fence if fence is None else fence,
        created_at=row.created_at,
        batch_id=row.batch_id,
        status=RowStatus.SUCCEEDED,
        attempts=row.attempts + 1,
        model="gpt-4o-mini-2024-07-18",
        usage=Usage(input_tokens=10, output_tokens=5),
        cost_usd=Decimal(cost),
        list_cost_usd=Decimal(cost),
        price_version="test",
        response=b'{"ok": true}',
    )


def failed(row: Started, reason: FailureReason = FailureReason.INVALID_REQUEST) -> Ended:
    return Ended(
        id=row.id,
        fence=row.fence,
        created_at=row.created_at,
        batch_id=row.batch_id,
        status=RowStatus.FAILED,
        attempts=row.attempts + 1,
        reason=reason,
        message="no",
    )


def batch_row(batch_id: UUID) -> dict[str, Any]:
    with db.connection() as connection:
        found = connection.execute("SELECT * FROM batch WHERE id = %s", (batch_id,)).fetchone()
    assert found is not None
    return found


def statuses(batch_id: UUID) -> Counter[str]:
    with db.connection() as connection:
        found = connection.execute("SELECT status FROM completion WHERE batch_id = %s", (batch_id,)).fetchall()
    return Counter(row["status"] for row in found)


def leases() -> list[dict[str, Any]]:
    with db.connection() as connection:
        return connection.execute("SELECT * FROM lease ORDER BY completion_id").fetchall()


def execute(statement: str, values: tuple[object, ...] = ()) -> None:
    with db.connection() as connection:
        connection.execute(statement, values)


def check_counters(batch_id: UUID) -> None:
    """I2: counters equal rows, and the batch has ended if and only if all its rows have."""
    batch, rows = batch_row(batch_id), statuses(batch_id)
    for status in ("succeeded", "failed", "cancelled", "expired"):
        assert batch[status] == rows[status], status
    assert (batch["ended_at"] is not None) == (rows["pending"] == 0)
    with db.connection() as connection:
        sums = connection.execute(
            "SELECT coalesce(sum(cost_usd), 0) AS cost, coalesce(sum(input_tokens), 0) AS input"
            " FROM completion WHERE batch_id = %s",
            (batch_id,),
        ).fetchone()
        reserved = connection.execute(
            "SELECT coalesce(sum(reserved_usd), 0) AS usd FROM lease WHERE batch_id = %s", (batch_id,)
        ).fetchone()
    assert sums is not None
    assert reserved is not None
    assert batch["cost_usd"] == sums["cost"]
    assert batch["input_tokens"] == sums["input"]
    assert batch["reserved_usd"] == reserved["usd"]


def finish(rows: Iterable[Started]) -> None:
    record([succeeded(row) for row in rows])
