"""What the owner of a batch can ask for: pauses, priorities, limits of cost and errors, windows, another try."""

from __future__ import annotations

from decimal import Decimal

import psycopg
import pytest

from core.ids import parse
from launcher.client import Client
from launcher.house import House
from tests.e2e.batches import check_counts, faults_of_results, nonce, results, rows, submit, wait_for, wait_for_end

pytestmark = pytest.mark.e2e

MINI = ["gpt-4o-mini"]


def allow_at_once(client: Client, calls: int) -> None:
    """Bound the calls in flight of the client's OpenAI connection."""
    found = client.get("/v1/providers").json()["data"]
    provider = next(provider for provider in found if provider["providerType"] == "openai")
    assert client.patch(f"/v1/providers/{provider['id']}", {"limits": {"maxConcurrency": calls}}).status_code == 200


def test_a_paused_batch_starts_nothing_until_it_is_resumed(calm_house: House, client: Client) -> None:
    calm_house.simulator.config(latency=0.1)
    allow_at_once(client, 10)
    batch_id = submit(client, rows("pause", 200, models=MINI))["id"]
    calm_house.simulator.wait_for(lambda ledger: ledger["executed"] >= 20, timeout_seconds=30)
    # when
    assert client.post(f"/v1/batch/{batch_id}/pause").json()["status"] == "paused"
    calm_house.simulator.wait_for(lambda ledger: ledger["in_flight"] == 0)
    before = calm_house.simulator.ledger()["calls"]
    # then: other work is done meanwhile, of this batch nothing
    other = submit(client, rows("meanwhile", 30, models=MINI))["id"]
    wait_for_end(client, other)
    assert calm_house.simulator.ledger()["calls"] - before <= 30 + 2
    assert before < 200
    # when
    assert client.post(f"/v1/batch/{batch_id}/resume").status_code == 200
    # then
    batch = wait_for_end(client, batch_id)
    found = results(client, batch_id)
    assert faults_of_results(found, "pause", 200) == []
    check_counts(batch, found)
    assert {counts["executed"] for counts in calm_house.simulator.nonces().values()} == {1}


def test_the_batch_with_the_higher_priority_runs_first(calm_house: House, client: Client) -> None:
    # given: a batch that keeps the connection busy
    calm_house.simulator.config(latency=0.05)
    allow_at_once(client, 5)
    low = submit(client, rows("low", 200, models=MINI), priority=-5)["id"]
    calm_house.simulator.wait_for(lambda ledger: ledger["calls"] >= 20, timeout_seconds=30)
    # when
    high = submit(client, rows("high", 50, models=MINI), priority=5)["id"]
    # then
    first = wait_for_end(client, high)
    second = wait_for_end(client, low)
    assert first["ended_at"] < second["ended_at"]
    order = [call["nonce"] for call in calm_house.simulator.calls()]
    between = order[order.index(nonce("high", 0)) : order.index(nonce("high", 49))]
    assert sum("low" in name for name in between) <= 25


def test_max_cost_pauses_before_it_is_passed_and_a_higher_one_goes_on(calm_house: House, client: Client) -> None:
    # given: room for some of the rows
    requests = rows("cost", 60, models=MINI)
    ceiling = Decimal("0.0002")
    allow_at_once(client, 5)
    batch_id = submit(client, requests, max_cost_usd=str(ceiling))["id"]
    # when
    batch = wait_for(client, batch_id, lambda batch: batch["status"] == "paused" or batch["ended_at"] is not None)
    # then
    assert (batch["status"], batch["status_reason"]) == ("paused", "cost_limit"), batch
    assert batch["status_message"].startswith(f"max_cost_usd 0.0002: {batch['cost_usd']} are spent")
    assert 0 < Decimal(batch["cost_usd"]) <= ceiling
    assert 0 < batch["request_counts"]["succeeded"] < 60
    # when
    assert client.post(f"/v1/batch/{batch_id}/resume", {"max_cost_usd": "1"}).status_code == 200
    # then
    batch = wait_for_end(client, batch_id)
    assert batch["request_counts"]["succeeded"] == 60
    found = results(client, batch_id)
    assert sum(Decimal(row["cost_usd"]) for row in found) == Decimal(batch["cost_usd"])


def test_too_many_errors_stop_a_batch_and_its_failed_rows_can_be_run_again(calm_house: House, client: Client) -> None:
    # given
    calm_house.simulator.config(latency=0.05, faults=[{"kind": "400", "probability": 0.7}])
    allow_at_once(client, 10)
    batch_id = submit(client, rows("errors", 300, models=MINI), max_error_rate=0.2)["id"]
    # when
    batch = wait_for_end(client, batch_id)
    # then
    counts = batch["request_counts"]
    assert (batch["status"], batch["status_reason"]) == ("failed", "error_limit"), batch
    assert counts["cancelled"] > 200
    found = results(client, batch_id)
    assert faults_of_results(found, "errors", 300) == []
    check_counts(batch, found)
    # when: what was wrong is mended, and what failed or never ran is asked for again
    calm_house.simulator.config(faults=[])
    answer = client.post(f"/v1/batch/{batch_id}/retry?only=failed,cancelled")
    assert answer.status_code == 201, answer.text
    assert answer.json()["retry_of"] == batch_id
    # then
    second = wait_for_end(client, answer.json()["id"])
    assert second["request_counts"]["succeeded"] == counts["failed"] + counts["cancelled"]
    again = {row["custom_id"] for row in results(client, second["id"])}
    assert again == {row["custom_id"] for row in found if row["status"] in ("failed", "cancelled")}


def test_a_window_that_closes_ends_what_has_not_started_as_expired(calm_house: House, client: Client) -> None:
    # given: a window is an hour at the least, so its end is brought forward in the database
    calm_house.simulator.config(latency=0.2)
    allow_at_once(client, 5)
    batch = submit(client, rows("window", 100, models=MINI), completion_window="1h")
    calm_house.simulator.wait_for(lambda ledger: ledger["executed"] >= 5, timeout_seconds=30)
    with psycopg.connect(calm_house.address.database_url) as connection:
        connection.execute("UPDATE batch SET expires_at = now() WHERE id = %s", (parse("batch", batch["id"]),))
    # when
    batch = wait_for_end(client, batch["id"])
    # then: what had been answered is kept
    found = results(client, batch["id"])
    assert batch["status"] == "expired"
    assert faults_of_results(found, "window", 100) == []
    check_counts(batch, found)
    assert batch["request_counts"]["expired"] > 50
    assert batch["request_counts"]["succeeded"] == calm_house.simulator.ledger()["executed"]


def test_a_batch_is_deleted_after_its_end_only(calm_house: House, client: Client) -> None:
    calm_house.simulator.config(latency=1.0)
    batch_id = submit(client, rows("delete", 3))["id"]
    assert client.delete(f"/v1/batch/{batch_id}").status_code == 409
    wait_for_end(client, batch_id)
    assert client.delete(f"/v1/batch/{batch_id}").status_code == 204
    assert client.get(f"/v1/batch/{batch_id}").status_code == 404
