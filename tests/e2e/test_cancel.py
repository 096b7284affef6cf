"""A cancel takes effect within a second, whatever the size of the batch, and loses no answer."""

from __future__ import annotations

import time

import orjson
import pytest

from launcher.client import Client
from launcher.house import House
from tests.e2e.batches import check_counts, faults_of_results, results, rows, submit, wait_for_end

pytestmark = pytest.mark.e2e

ROWS = 20_000


def test_no_call_starts_later_than_a_second_after_the_answer_to_a_cancel(calm_house: House, client: Client) -> None:
    # given: a large batch that is being worked on
    calm_house.simulator.config(latency=0.3)
    lines = b"\n".join(map(orjson.dumps, rows("cancel", ROWS)))
    answer = client.post("/v1/batch?processing=realtime", data=lines, headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code == 201, answer.text
    batch_id = answer.json()["id"]
    calm_house.simulator.wait_for(lambda ledger: ledger["calls"] >= 500, timeout_seconds=30)
    # when
    cancelled = client.post(f"/v1/batch/{batch_id}/cancel")
    answered_at = time.time()
    # then: it says so, ends, and every row is accounted for
    assert cancelled.status_code == 200
    assert cancelled.json()["status"] == "cancelled"
    batch = wait_for_end(client, batch_id)
    found = results(client, batch_id)
    assert faults_of_results(found, "cancel", ROWS) == []
    check_counts(batch, found)
    counts = batch["request_counts"]
    assert counts["cancelled"] > 0
    assert counts["succeeded"] + counts["cancelled"] == ROWS
    # and: what was called came home, and nothing was called later
    ledger = calm_house.simulator.ledger()
    assert ledger["last_call_at"] <= answered_at + 1.0
    assert ledger["in_flight"] == 0
    assert ledger["executed"] == counts["succeeded"]
    # and: it cannot be cancelled again
    again = client.post(f"/v1/batch/{batch_id}/cancel")
    assert again.status_code == 409
    assert again.headers["content-type"] == "application/problem+json"


def test_a_batch_that_has_completed_cannot_be_cancelled(client: Client) -> None:
    batch_id = submit(client, rows("done", 2))["id"]
    wait_for_end(client, batch_id)
    assert client.post(f"/v1/batch/{batch_id}/cancel").status_code == 409


def test_results_are_too_early_until_the_end_unless_partial_ones_are_asked_for(
    calm_house: House, client: Client
) -> None:
    calm_house.simulator.config(latency=0.05, faults=[{"kind": "slow_first_byte", "seconds": 3, "contains": "slow-0 "}])
    batch_id = submit(client, rows("slow", 4))["id"]
    calm_house.simulator.wait_for(lambda ledger: ledger["executed"] >= 3)
    assert client.get(f"/v1/batch/{batch_id}/results").status_code == 425
    partial = client.get(f"/v1/batch/{batch_id}/results?partial=true")
    assert partial.status_code == 200
    assert all(row["custom_id"] != "row-0" for row in partial.json()["data"])
    wait_for_end(client, batch_id)
    assert len(client.get(f"/v1/batch/{batch_id}/results").json()["data"]) == 4
