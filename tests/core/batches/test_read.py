"""The batch object and pages of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from psycopg import sql

from core import db
from core.batches import read
from core.errors import InvalidInput, NotFound
from core.identity import Principal
from core.ids import new_id
from core.time_and_money import money_text

NOW = datetime.now(UTC)


def new_principal() -> Principal:
    found = Principal(new_id(), new_id(), new_id())
    with db.connection() as connection:
        connection.execute("INSERT INTO tenant (id, name) VALUES (%s, 't')", (found.tenant_id,))
        connection.execute(
            "INSERT INTO project (id, tenant_id, name) VALUES (%s, %s, 'p')", (found.project_id, found.tenant_id)
        )
    return found


@pytest.fixture
def principal(database_url: str) -> Principal:
    return new_principal()


def insert(table: str, **values: Any) -> None:
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(sql.Placeholder() * len(values)),
    )
    with db.connection() as connection:
        connection.execute(statement, list(values.values()))


def new_batch(principal: Principal, **fields: Any) -> UUID:
    values: dict[str, Any] = {
        "id": new_id(),
        "tenant_id": principal.tenant_id,
        "project_id": principal.project_id,
        "created_at": NOW,
        "expires_at": NOW + timedelta(days=1),
        "processing": "realtime",
        "total": 10,
        **fields,
    }
    insert("batch", **values)
    found: UUID = values["id"]
    return found


def lease(principal: Principal, batch_id: UUID, completion_id: int, **fields: Any) -> None:
    insert(
        "lease",
        completion_id=completion_id,
        created_at=NOW,
        batch_id=batch_id,
        tenant_id=principal.tenant_id,
        lane_id=1,
        connection_id=new_id(),
        fence=1,
        **fields,
    )


def test_the_counts_add_up_while_it_runs(principal: Principal) -> None:
    # given a batch of ten: three ended, two in flight, one waiting to be tried again
    batch_id = new_batch(
        principal, status="processing", started_at=NOW, succeeded=2, failed=1, cost_usd=Decimal("0.0100"), dispatched=6
    )
    lease(principal, batch_id, 1, rung_at=NOW)
    lease(principal, batch_id, 2, rung_at=NOW, call_started_at=NOW)
    lease(principal, batch_id, 3, due_at=NOW)
    # and another batch with rows in flight
    lease(principal, new_batch(principal, status="processing", dispatched=1), 4, rung_at=NOW)
    # then
    found = read.get(principal, batch_id)
    assert found["request_counts"] == {
        "total": 10,
        "pending": 5,
        "processing": 2,
        "succeeded": 2,
        "failed": 1,
        "cancelled": 0,
        "expired": 0,
    }
    assert found["cost_usd"] == "0.01"
    assert found["savings_usd"] == "0"
    assert found["progress"]["waiting_for"] == "answers of providers"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"status": "pending"}, "workers"),
        ({"status": "paused", "status_reason": "cost_limit"}, "cost_limit"),
        ({"status": "paused"}, "its owner"),
        ({"status": "completed", "ended_at": NOW}, None),
    ],
)
def test_it_says_what_it_waits_for(principal: Principal, fields: dict[str, Any], expected: str | None) -> None:
    found = read.get(principal, new_batch(principal, **fields))
    assert found["progress"]["waiting_for"] == expected


def test_rows_that_only_wait_to_be_tried_again_wait_for_the_provider(principal: Principal) -> None:
    batch_id = new_batch(principal, status="processing", started_at=NOW)
    lease(principal, batch_id, 1, due_at=NOW + timedelta(seconds=30))
    assert read.get(principal, batch_id)["progress"]["waiting_for"] == "provider limits"


def test_rate_and_eta_follow_from_the_counters(principal: Principal) -> None:
    # given five of ten rows ended in the last ten seconds
    started = datetime.now(UTC) - timedelta(seconds=10)
    batch_id = new_batch(principal, status="processing", started_at=started, succeeded=5)
    # then half a row a second, and ten seconds to go
    progress = read.get(principal, batch_id)["progress"]
    assert progress["rows_per_second"] == pytest.approx(0.5, rel=0.2)
    left = datetime.fromisoformat(progress["eta"]) - datetime.now(UTC)
    assert left.total_seconds() == pytest.approx(10, abs=4)


def test_the_rate_of_an_ended_batch_stands_still(principal: Principal) -> None:
    batch_id = new_batch(
        principal, status="completed", started_at=NOW, ended_at=NOW + timedelta(seconds=4), succeeded=10
    )
    assert read.get(principal, batch_id)["progress"] == {"rows_per_second": 2.5, "eta": None, "waiting_for": None}


def test_the_top_causes_come_first(principal: Principal) -> None:
    batch_id = new_batch(principal)
    for reason, count in (("timeout", 2), ("invalid_request", 7)):
        insert(
            "batch_error", batch_id=batch_id, reason=reason, tenant_id=principal.tenant_id, count=count, message="why"
        )
    assert read.get(principal, batch_id)["errors"] == [
        {"type": "invalid_request", "count": 7, "message": "why"},
        {"type": "timeout", "count": 2, "message": "why"},
    ]


def test_a_strangers_batch_does_not_exist(principal: Principal) -> None:
    batch_id = new_batch(principal)
    with pytest.raises(NotFound):
        read.get(new_principal(), batch_id)


def test_another_project_of_the_same_tenant_does_not_see_it(principal: Principal) -> None:
    batch_id = new_batch(principal)
    sibling = Principal(principal.tenant_id, new_id(), principal.key_id)
    with pytest.raises(NotFound):
        read.get(sibling, batch_id)
    assert read.page(sibling)["data"] == []


def test_pages_show_every_batch_once_newest_first(principal: Principal) -> None:
    # given seven batches, some of the same moment
    made = [new_batch(principal, created_at=NOW + timedelta(seconds=number // 2)) for number in range(7)]
    # when they are read in pages of three
    seen: list[str] = []
    cursor = None
    sizes = []
    while True:
        page = read.page(principal, limit=3, cursor=cursor)
        sizes.append(len(page["data"]))
        seen += [found["id"] for found in page["data"]]
        cursor = page["next_cursor"]
        assert page["has_more"] == (cursor is not None)
        if cursor is None:
            break
    # then
    assert sizes == [3, 3, 1]
    assert sorted(seen) == sorted(f"batch_{batch_id.hex}" for batch_id in made)
    created = [read.get(principal, UUID(hex=found[6:]))["created_at"] for found in seen]
    assert created == sorted(created, reverse=True)


def test_pages_by_status(principal: Principal) -> None:
    wanted = new_batch(principal, status="completed", ended_at=NOW)
    new_batch(principal)
    found = read.page(principal, status="completed")
    assert [each["id"] for each in found["data"]] == [f"batch_{wanted.hex}"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"status": "done"},
        {"limit": 0},
        {"limit": 101},
        {"cursor": ""},
        {"cursor": "x"},
        {"cursor": "////"},
        {"cursor": "é"},
        {"cursor": "_" * 32},
        {"cursor": "A" * 4000},
    ],
)
def test_odd_arguments_are_refused(principal: Principal, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        read.page(principal, **arguments)


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0", "0"), ("0E-10", "0"), ("1E+2", "100"), ("0.00012000", "0.00012"), ("12.50", "12.5"), ("10", "10")],
)
def test_money_is_plain_text(amount: str, text: str) -> None:
    assert money_text(Decimal(amount)) == text
