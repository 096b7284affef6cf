"""What the owner of a native batch can do to it and with it, while it waits, at the provider, and after its end."""

from __future__ import annotations

import json
from collections import Counter

import psycopg

from launcher.client import Client, wait_until
from launcher.house import House
from tests.e2e.batches import check_counts, faults_of_results, results, rows, submit, wait_for, wait_for_end
from tests.e2e.receiver import Receiver
from tests.native.steps import shards, wait_for_shards, wait_until_clean, ways

OPENAI, CLAUDE = "gpt-4o-mini", "claude-haiku-4-5"


def test_failed_rows_of_a_native_batch_are_run_again(native_house: House, client: Client) -> None:
    # given: a batch of which 25 rows fail for good
    native_house.simulator.config(
        faults=[{"kind": "400", "on": "row", "contains": f"nonce-again-{tens}"} for tens in (1, 2)]
    )
    first = submit(client, rows("again", 60, models=(OPENAI,)))["id"]
    batch = wait_for_end(client, first)
    failed = {row["custom_id"] for row in results(client, first) if row["status"] == "failed"}
    assert batch["request_counts"]["failed"] == len(failed) == 22
    # when: the reason is gone and they are run again
    native_house.simulator.config(faults=[])
    made = client.post(f"/v1/batch/{first}/retry")
    assert made.status_code == 201
    again = wait_for_end(client, made.json()["id"])
    # then: just those are, and natively
    found = results(client, again["id"])
    assert {row["custom_id"] for row in found} == failed
    assert ways(found) == {("succeeded", "native"): 22}
    assert again["retry_of"] == first


def test_a_paused_batch_is_not_sent_until_it_is_resumed(native_house: House, client: Client) -> None:
    # given: a shard that waits for room in the provider's queue
    native_house.simulator.config(native={"openai": {"batches_per_hour": 0}})
    batch_id = submit(client, rows("wait", 30, models=(OPENAI,)))["id"]
    wait_for_shards(native_house, batch_id, "waiting")
    # when
    assert client.post(f"/v1/batch/{batch_id}/pause").json()["status"] == "paused"
    native_house.simulator.config(native={})
    _make_due(native_house, batch_id)
    wait_until(lambda: shards(native_house, batch_id)[0]["lease_expires_at"] is None, 20)
    other = submit(client, rows("other", 30, models=(OPENAI,)))["id"]
    wait_for_end(client, other)
    # then: another batch has come and gone, and this one has not moved
    assert [shard["state"] for shard in shards(native_house, batch_id)] == ["waiting"]
    assert client.get(f"/v1/batch/{batch_id}").json()["status"] == "paused"
    assert client.post(f"/v1/batch/{batch_id}/resume").status_code == 200
    assert wait_for_end(client, batch_id)["status"] == "completed"
    assert ways(results(client, batch_id)) == {("succeeded", "native"): 30}


def test_what_is_at_the_provider_comes_home_while_its_batch_is_paused(native_house: House, client: Client) -> None:
    # given: a batch at the provider, which will fail some of its rows for a passing reason
    native_house.simulator.config(
        native={"openai": {"seconds": 3600}}, faults=[{"kind": "500", "on": "row", "contains": "nonce-home-1"}]
    )
    batch_id = submit(client, rows("home", 30, models=(OPENAI,)))["id"]
    wait_for_shards(native_house, batch_id, "sent")
    # when: it ends there while the batch is paused
    assert client.post(f"/v1/batch/{batch_id}/pause").json()["status"] == "paused"
    native_house.simulator.advance(3601)
    _make_due(native_house, batch_id)
    # then: its answers are taken in, and the others start nothing
    batch = wait_for(client, batch_id, lambda batch: batch["request_counts"]["succeeded"] == 19)
    assert batch["status"] == "paused"
    assert batch["native"]["rows_returned"] == 0
    assert native_house.simulator.ledger()["calls"] == 0
    # when: it goes on
    native_house.simulator.config(faults=[])
    assert client.post(f"/v1/batch/{batch_id}/resume").status_code == 200
    wait_for_end(client, batch_id)
    found = results(client, batch_id)
    assert faults_of_results(found, "home", 30) == []
    assert ways(found) == {("succeeded", "native"): 19, ("succeeded", "realtime"): 11}


def test_the_end_is_told_once(native_house: House, client: Client) -> None:
    with Receiver() as receiver:
        options = {"webhook_url": receiver.url}
        batch_id = submit(client, rows("told", 60, models=(OPENAI, CLAUDE)), **options)["id"]
        wait_for_end(client, batch_id)
        wait_until_clean(native_house, batch_id)
        wait_until(lambda: bool(receiver.received()), 20)
        # then: the log of deliveries knows of no other, and the one has the whole bill
        deliveries = client.get(f"/v1/webhooks/deliveries?batch_id={batch_id}").json()["data"]
        assert [each["event_type"] for each in deliveries] == ["batch.completed"]
        told = json.loads(receiver.received()[0].body)
    batch = client.get(f"/v1/batch/{batch_id}").json()
    assert told["type"] == "batch.completed"
    assert told["data"]["request_counts"] == batch["request_counts"]
    assert (told["data"]["cost_usd"], told["data"]["savings_usd"]) == (batch["cost_usd"], batch["savings_usd"])
    assert told["data"]["native"]["rows_answered"] == 60


def test_a_batch_is_deleted_while_the_provider_still_has_its_files(native_house: House, client: Client) -> None:
    # given: a batch that has ended and cannot be cleaned up yet
    native_house.simulator.config(faults=[{"kind": "503", "on": "delete"}])
    batch_id = submit(client, rows("gone", 30, models=(OPENAI,)))["id"]
    wait_for_end(client, batch_id)
    wait_until(lambda: shards(native_house, batch_id)[0]["failures"] > 0, 20)
    # when
    assert client.delete(f"/v1/batch/{batch_id}").status_code == 204
    assert client.get(f"/v1/batch/{batch_id}").status_code == 404
    assert [shard["state"] for shard in shards(native_house, batch_id)] == ["taken_in"]
    assert native_house.simulator.native()["files"] != []
    native_house.simulator.config(faults=[])
    # then: it is cleaned up all the same
    _make_due(native_house, batch_id)
    wait_until_clean(native_house, batch_id)
    assert native_house.simulator.native()["files"] == []


def test_a_project_that_keeps_no_bodies_keeps_none_of_native_rows(native_house: House, client: Client) -> None:
    # given: a shard at the provider
    assert client.patch("/v1/project", {"log_bodies": "metadata_only"}).status_code == 200
    native_house.simulator.config(native={"openai": {"seconds": 3600, "stuck": 0.5}})
    batch_id = submit(client, rows("bare", 30, models=(OPENAI,)))["id"]
    wait_for_shards(native_house, batch_id, "sent")
    assert _requests(native_house, batch_id) == 30
    # when: half is answered, and the rest is cancelled
    native_house.simulator.advance(3601)
    client.post(f"/v1/batch/{batch_id}/cancel")
    batch = wait_for_end(client, batch_id)
    # then: no request is left, the answers are there, the logs show neither
    found = results(client, batch_id)
    check_counts(batch, found)
    assert ways(found) == {("succeeded", "native"): 15, ("cancelled", "native"): 15}
    assert _requests(native_house, batch_id) == 0
    logs = client.get(f"/v1/logs/{client.tenant_id}/{client.project_id}?limit=100").json()["data"]
    assert Counter(log["bodies"] for log in logs) == {"not_kept": 30}
    assert "nonce-bare" not in json.dumps(logs)


def test_a_batch_stops_at_its_error_rate(native_house: House, client: Client) -> None:
    # given: two shards, of which one fails altogether and the other will never end
    native_house.simulator.config(
        faults=[{"kind": "400", "on": "row", "vendor": "openai"}, {"kind": "stuck", "vendor": "anthropic"}]
    )
    batch_id = submit(client, rows("rate", 60, models=(OPENAI, CLAUDE)), max_error_rate=0.2)["id"]
    batch = wait_for_end(client, batch_id)
    # then: it has failed, and the other shard was taken back
    assert (batch["status"], batch["status_reason"]) == ("failed", "error_limit")
    found = results(client, batch_id)
    check_counts(batch, found)
    assert ways(found) == {("failed", "native"): 30, ("cancelled", "native"): 30}
    wait_until_clean(native_house, batch_id)
    assert native_house.simulator.ledger()["calls"] == 0


def test_rows_whose_results_are_gone_go_on_in_real_time(native_house: House, client: Client) -> None:
    # given: a provider that has run everything and no longer has what came of it
    native_house.simulator.config(faults=[{"kind": "404", "on": "content"}])
    batch_id = submit(client, rows("lost", 30, models=(OPENAI,)))["id"]
    wait_for_end(client, batch_id)
    found = results(client, batch_id)
    assert faults_of_results(found, "lost", 30) == []
    assert ways(found) == {("succeeded", "realtime"): 30}
    wait_until_clean(native_house, batch_id)


def _requests(house: House, batch_id: str) -> int:
    """How many of the batch's requests are stored."""
    with psycopg.connect(house.address.database_url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM completion_request r JOIN completion c ON c.id = r.completion_id"
            " AND c.created_at = r.created_at WHERE c.batch_id = %s::uuid",
            (batch_id[6:],),
        ).fetchone()
    assert row is not None
    return int(row[0])


def _make_due(house: House, batch_id: str) -> None:
    """Do not wait for the next step of the batch's shards."""
    with psycopg.connect(house.address.database_url) as connection:
        connection.execute("UPDATE native_shard SET due_at = now() WHERE batch_id = %s::uuid", (batch_id[6:],))
