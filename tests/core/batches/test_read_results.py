"""The results of a batch: every row exactly once, in a form that needs no second look."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from core import db, page_rows
from core.batches import results
from core.errors import NotFound, NotYetAvailable
from core.identity import Principal
from core.ids import BLOCK_BITS, new_id
from core.time_and_money import time_text
from tests.core.batches.test_read import insert, new_batch, new_principal

NOW = datetime.now(UTC)


@pytest.fixture
def principal(database_url: str) -> Principal:
    return new_principal()


def _lane(principal: Principal, batch_id: UUID, lane_id: int, rows: list[dict[str, Any]]) -> None:
    insert(
        "lane",
        id=lane_id,
        batch_id=batch_id,
        tenant_id=principal.tenant_id,
        project_id=principal.project_id,
        created_at=NOW,
        connection_id=new_id(),
        provider="openai",
        model="gpt-4",
        total=len(rows),
    )
    with db.connection() as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO completion (id, created_at, tenant_id, project_id, batch_id, custom_id, status,"
            " model_requested, model, provider, request_sha256, input_tokens, output_tokens, cost_usd, attempts,"
            " error_type, error_message, provider_status, ended_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, 'gpt-4', 'gpt-4', 'openai', %s, %s, %s, %s, 1, %s, %s, %s, %s)",
            [
                (
                    lane_id << BLOCK_BITS | number,
                    NOW,
                    principal.tenant_id,
                    principal.project_id,
                    batch_id,
                    row["custom_id"],
                    row["status"],
                    b"\x01" * 32,
                    row.get("input_tokens"),
                    row.get("output_tokens"),
                    row.get("cost_usd"),
                    row.get("error_type"),
                    row.get("error_message"),
                    row.get("provider_status"),
                    None if row["status"] == "pending" else NOW,
                )
                for number, row in enumerate(rows)
            ],
        )
        cursor.executemany(
            "INSERT INTO completion_response (completion_id, created_at, tenant_id, body) VALUES (%s, %s, %s, %s)",
            [
                (lane_id << BLOCK_BITS | number, NOW, principal.tenant_id, row["response"])
                for number, row in enumerate(rows)
                if "response" in row
            ],
        )


def _read(principal: Principal, batch_id: UUID, **arguments: Any) -> list[dict[str, Any]]:
    return [json.loads(row) for row in results.rows(principal, batch_id, **arguments)]


def _ended(principal: Principal, **fields: Any) -> UUID:
    return new_batch(principal, created_at=NOW, status="completed", ended_at=NOW, **fields)


def test_a_succeeded_row_has_its_answer_as_it_was_stored(principal: Principal) -> None:
    batch_id = _ended(principal, total=1)
    answer = '{"object":"chat.completion","choices":[{"message":{"content":"ü\\u0000"}}]}'
    row = {
        "custom_id": "a",
        "status": "succeeded",
        "response": answer,
        "input_tokens": 3,
        "output_tokens": 4,
        "cost_usd": Decimal("0.00120"),
    }
    _lane(principal, batch_id, 1, [row])
    (found,) = _read(principal, batch_id)
    assert found["response"] == json.loads(answer)
    assert found["error"] is None
    assert found["usage"] == {"input_tokens": 3, "output_tokens": 4, "cached_tokens": 0, "reasoning_tokens": 0}
    assert (found["cost_usd"], found["request_sha256"]) == ("0.0012", "01" * 32)


def test_rows_without_an_answer_say_why(principal: Principal) -> None:
    # given a row the provider refused, one that was cancelled and one that expired before they started
    batch_id = _ended(principal, total=3)
    failed = {"error_type": "invalid_request", "error_message": "no such tool", "provider_status": 400}
    _lane(
        principal,
        batch_id,
        1,
        [
            {"custom_id": "a", "status": "failed", **failed},
            {"custom_id": "b", "status": "cancelled"},
            {"custom_id": "c", "status": "expired"},
        ],
    )
    # then each has its error and no response
    found = {row["custom_id"]: row for row in _read(principal, batch_id)}
    assert found["a"]["error"] == {
        "type": "invalid_request",
        "message": "no such tool",
        "provider_status": 400,
        "retryable": False,
    }
    assert [found[name]["error"]["type"] for name in "bc"] == ["cancelled", "expired"]
    assert all(row["response"] is None for row in found.values())


def test_every_row_of_every_lane_comes_exactly_once(principal: Principal, monkeypatch: pytest.MonkeyPatch) -> None:
    # given three lanes whose sizes do not fit the pages
    monkeypatch.setattr(page_rows, "FIRST_ROWS", 4)
    monkeypatch.setattr(results, "MAX_PAGE_ROWS", 7)
    batch_id = _ended(principal, total=42)
    names = [f"row-{number}" for number in range(42)]
    for lane_id, part in ((1, names[:1]), (2, names[1:9]), (5, names[9:])):
        _lane(
            principal,
            batch_id,
            lane_id,
            [{"custom_id": name, "status": "succeeded", "response": "{}"} for name in part],
        )
    # then
    assert [row["custom_id"] for row in _read(principal, batch_id)] == names


def test_long_answers_come_in_small_pages(principal: Principal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_rows, "FIRST_ROWS", 2)
    monkeypatch.setattr(page_rows, "PAGE_BYTES", 1000)
    batch_id = _ended(principal, total=20)
    body = json.dumps({"content": "x" * 5000})
    _lane(principal, batch_id, 1, [{"custom_id": str(n), "status": "succeeded", "response": body} for n in range(20)])
    assert len(_read(principal, batch_id)) == 20


def test_results_wait_for_the_end_unless_partial(principal: Principal) -> None:
    # given a cancelled batch with a row still in flight
    batch_id = new_batch(principal, created_at=NOW, status="cancelled", total=2)
    _lane(
        principal,
        batch_id,
        1,
        [{"custom_id": "a", "status": "succeeded", "response": "{}"}, {"custom_id": "b", "status": "pending"}],
    )
    # then its results are not there yet
    with pytest.raises(NotYetAvailable):
        results.rows(principal, batch_id)
    # but what is there can be had
    assert [row["custom_id"] for row in _read(principal, batch_id, partial=True)] == ["a"]


def test_a_strangers_results_do_not_exist(principal: Principal) -> None:
    batch_id = _ended(principal, total=0)
    with pytest.raises(NotFound):
        results.rows(new_principal(), batch_id, partial=True)


@pytest.mark.parametrize(
    "text",
    ["2026-11-28 03:11:46.123456+00", "2026-11-28 03:11:46.12+00", "2026-11-28 03:11:46+00", "2026-01-01 00:00:00+00"],
)
def test_times_are_written_as_everywhere_else(text: str) -> None:
    assert results._time_text(text) == time_text(datetime.fromisoformat(text))
