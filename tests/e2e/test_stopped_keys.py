"""A key that stops working pauses its batches and says why; with a key that works they go on where they were."""

from __future__ import annotations

import pytest

from launcher.client import Client
from launcher.house import House
from tests.e2e.batches import check_counts, faults_of_results, results, rows, submit, wait_for, wait_for_end

pytestmark = pytest.mark.e2e

OPENAI = ["gpt-4o-mini"]
#: The simulator refuses every key with this word in it.
REFUSED = "sk-invalid-key-of-a-test"


def set_key(client: Client, key: str) -> None:
    answer = client.post("/v1/providers", {"providerType": "openai", "apiKey": key})
    assert answer.status_code in (200, 201), answer.text


def openai_state(client: Client) -> str:
    found = client.get("/v1/providers").json()["data"]
    return str(next(provider["state"] for provider in found if provider["providerType"] == "openai"))


def test_a_refused_key_pauses_the_batch_and_a_new_key_finishes_it(calm_house: House, client: Client) -> None:
    # given
    set_key(client, REFUSED)
    batch_id = submit(client, rows("refused", 40, models=OPENAI))["id"]
    # when
    batch = wait_for(client, batch_id, lambda batch: batch["status"] == "paused")
    # then: no row has failed for it, and the owner is told what to do
    assert batch["status_reason"] == "authentication_failed"
    assert "openai" in batch["status_message"]
    assert REFUSED not in str(batch)
    assert batch["request_counts"]["failed"] == 0
    assert openai_state(client) == "stopped"
    # when: the owner mends it
    set_key(client, "sk-of-a-test-that-works")
    assert openai_state(client) == "active"
    resumed = client.post(f"/v1/batch/{batch_id}/resume")
    assert resumed.status_code == 200, resumed.text
    # then
    batch = wait_for_end(client, batch_id)
    found = results(client, batch_id)
    assert faults_of_results(found, "refused", 40) == []
    check_counts(batch, found)
    assert batch["request_counts"]["succeeded"] == 40
    assert {counts["executed"] for counts in calm_house.simulator.nonces().values()} == {1}


def test_an_account_without_credit_pauses_the_batch_until_it_is_resumed(calm_house: House, client: Client) -> None:
    # given: a 429 that no waiting mends
    key = "sk-of-a-test-without-credit"
    set_key(client, key)
    calm_house.simulator.config(faults=[{"kind": "quota", "key": key}])
    batch_id = submit(client, rows("broke", 20, models=OPENAI))["id"]
    batch = wait_for(client, batch_id, lambda batch: batch["status"] == "paused")
    assert batch["status_reason"] == "quota_exhausted"
    assert openai_state(client) == "stopped"
    # when: credit is bought, and the batch resumed with the key it has
    calm_house.simulator.config(faults=[])
    assert client.post(f"/v1/batch/{batch_id}/resume").status_code == 200
    # then
    batch = wait_for_end(client, batch_id)
    assert batch["request_counts"]["succeeded"] == 20
    assert openai_state(client) == "active"
