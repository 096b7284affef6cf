"""Native batches from end to end: sent as shards, read back into the same rows, half the price, one bill."""

from __future__ import annotations

from decimal import Decimal

import pytest

from launcher.client import Client
from launcher.house import House
from tests.e2e.batches import check_counts, faults_of_results, results, rows, submit, wait_for, wait_for_end
from tests.native.steps import (
    executed_twice,
    let_pass,
    money,
    out_of_patience,
    shards,
    wait_for_shards,
    wait_until_clean,
    ways,
)

OPENAI, CLAUDE = "gpt-4o-mini", "claude-haiku-4-5"


def test_a_batch_of_both_providers_comes_back_whole_at_half_the_price(native_house: House, client: Client) -> None:
    # given: rows for three models, of which one has too few for a native batch
    requests = rows("half", 400, models=(OPENAI, CLAUDE)) + [
        {**row, "custom_id": f"row-{400 + n}"} for n, row in enumerate(rows("few", 5, models=("gpt-4.1-mini",)))
    ]
    for n in range(5):
        requests[400 + n]["messages"][0]["content"] = f"Please answer nonce-half-{400 + n} now"
    # when
    batch = submit(client, requests)
    # then: the batch says how each model's rows are run, and why
    plan = {entry["model"]: entry for entry in batch["processing_plan"]}
    assert {model: entry["processing"] for model, entry in plan.items()} == {
        OPENAI: "native",
        CLAUDE: "native",
        "gpt-4.1-mini": "realtime",
    }
    assert "5 rows" in plan["gpt-4.1-mini"]["reason"]
    # and: every row comes back once
    batch = wait_for_end(client, batch["id"])
    found = results(client, batch["id"])
    assert faults_of_results(found, "half", 405) == []
    check_counts(batch, found)
    assert ways(found) == {("succeeded", "native"): 400, ("succeeded", "realtime"): 5}
    # and: the bill is the sum of its rows, and half of what real time would have cost for the native ones
    native = [row for row in found if row["processing"] == "native"]
    assert Decimal(batch["cost_usd"]) == money(found)
    assert Decimal(batch["savings_usd"]) == money(native) > 0
    assert batch["native"]["rows_answered"] == 400
    assert batch["native"]["wasted_rows"] == 0
    # and: the provider ran each row once, and keeps nothing of it
    assert executed_twice(native_house, "half") == []
    assert native_house.simulator.ledger()["native_executed"] == 400
    wait_until_clean(native_house, batch["id"])
    left = native_house.simulator.native()
    assert [file for file in left["files"] if file["purpose"] == "batch"] == []
    assert left["files"] == []
    # and: statistics and logs tell the two ways apart
    stats = client.get(f"/v1/stats/{client.tenant_id}/{client.project_id}?group_by=processing").json()
    by_way = stats["groups"]
    assert by_way["native"]["requests"] == 400
    assert Decimal(by_way["native"]["savings_usd"]) == Decimal(batch["savings_usd"])
    logs = client.get(f"/v1/logs/{client.tenant_id}/{client.project_id}?batch_id={batch['id']}&limit=1").json()
    assert logs["data"][0]["processing"] in ("native", "realtime")


def test_rows_that_the_provider_loses_or_fails_go_on_in_real_time(native_house: House, client: Client) -> None:
    native_house.simulator.config(
        faults=[
            {"kind": "400", "on": "row", "contains": "nonce-lossy-7 "},
            {"kind": "vanish", "probability": 0.1},
            {"kind": "duplicate", "probability": 0.1},
            {"kind": "500", "on": "row", "probability": 0.1},
        ]
    )
    batch_id = submit(client, rows("lossy", 300, models=(OPENAI, CLAUDE)))["id"]
    batch = wait_for_end(client, batch_id)
    found = results(client, batch_id)
    assert faults_of_results(found, "lossy", 300) == []
    check_counts(batch, found)
    # a wrong request fails alone, for good; what was lost or failed for a passing reason was answered otherwise
    assert [row["custom_id"] for row in found if row["status"] == "failed"] == ["row-7"]
    counted = ways(found)
    assert counted["succeeded", "realtime"] > 0
    assert counted["succeeded", "native"] > counted["succeeded", "realtime"]
    assert all(row["attempts"] == (2 if row["processing"] == "realtime" else 1) for row in found)
    assert Decimal(batch["cost_usd"]) == money(found)
    assert batch["native"]["rows_returned"] == counted["succeeded", "realtime"]
    wait_until_clean(native_house, batch_id)


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
def test_a_stuck_provider_is_left_in_time_and_only_the_rest_is_run_in_real_time(
    native_house: House, client: Client, vendor: str
) -> None:
    # given: a provider that stops for good after 40 % of the rows
    native_house.simulator.config(faults=[{"kind": "stuck", "share": 0.4}])
    model = OPENAI if vendor == "openai" else CLAUDE
    batch_id = submit(client, rows(f"stuck-{vendor}", 200, models=(model,)), completion_window="3h")["id"]
    wait_for_shards(native_house, batch_id, "sent")
    # when: nearly the whole window passes
    let_pass(native_house, batch_id, hours=2.7)
    still = client.get(f"/v1/batch/{batch_id}").json()
    assert still["status"] == "processing"
    assert still["progress"]["waiting_for"] == "a provider's batch API"
    let_pass(native_house, batch_id, hours=0.13)
    # then: it is complete before its window closes, and the bill shows which rows were saved
    batch = wait_for_end(client, batch_id)
    assert batch["status"] == "completed"
    assert batch["ended_at"] < batch["expires_at"]
    found = results(client, batch_id)
    assert faults_of_results(found, f"stuck-{vendor}", 200) == []
    assert ways(found) == {("succeeded", "native"): 80, ("succeeded", "realtime"): 120}
    saved = [row for row in found if row["processing"] == "native"]
    assert Decimal(batch["savings_usd"]) == money(saved) > 0
    assert Decimal(batch["cost_usd"]) == money(found)
    assert batch["native"] == {
        "shards": 1,
        "shards_waiting": 0,
        "shards_at_provider": 0,
        "rows_answered": 80,
        "rows_returned": 120,
        "wasted_rows": 0,
        "wasted_usd": "0",
    }
    assert executed_twice(native_house, f"stuck-{vendor}") == []
    wait_until_clean(native_house, batch_id)


def test_what_the_provider_finishes_after_all_is_counted_as_paid_twice(native_house: House, client: Client) -> None:
    # given: a provider that does not stop when it is asked to, and finishes in the meantime
    native_house.simulator.config(native={"openai": {"seconds": 10_500, "cancelling_seconds": 100_000}})
    batch_id = submit(client, rows("race", 60, models=(OPENAI,)), completion_window="3h")["id"]
    wait_for_shards(native_house, batch_id, "sent")
    let_pass(native_house, batch_id, hours=2.82)
    wait_for(client, batch_id, lambda batch: shards(native_house, batch_id)[0]["cancel_sent_at"] is not None)
    # when: it has not stopped in the time that it is given
    out_of_patience(native_house, batch_id)
    batch = wait_for_end(client, batch_id)
    found = results(client, batch_id)
    assert batch["status"] == "completed"
    assert faults_of_results(found, "race", 60) == []
    in_real_time = ways(found)["succeeded", "realtime"]
    assert in_real_time > 0
    # then: what it had finished is paid twice, and said to be
    native_house.simulator.advance(200_000)
    wait_until_clean(native_house, batch_id)
    batch = client.get(f"/v1/batch/{batch_id}").json()
    twice = executed_twice(native_house, "race")
    assert batch["native"]["wasted_rows"] == len(twice) > 0
    assert Decimal(batch["native"]["wasted_usd"]) > 0
    assert Decimal(batch["cost_usd"]) == money(found)


def test_a_batch_that_asks_for_native_goes_round_again_and_never_to_real_time(
    native_house: House, client: Client
) -> None:
    native_house.simulator.config(
        faults=[{"kind": "500", "on": "row", "contains": "nonce-round-", "first_attempts": 1}]
    )
    batch_id = submit(client, rows("round", 10, models=(OPENAI,)), processing="native")["id"]
    batch = wait_for_end(client, batch_id)
    found = results(client, batch_id)
    assert ways(found) == {("succeeded", "native"): 10}
    assert {row["attempts"] for row in found} == {2}
    assert Decimal(batch["savings_usd"]) == Decimal(batch["cost_usd"])
    assert native_house.simulator.ledger()["calls"] == 0


def test_rows_end_after_their_last_round(native_house: House, client: Client) -> None:
    native_house.simulator.config(faults=[{"kind": "500", "on": "row", "contains": "nonce-never-3 "}])
    batch_id = submit(client, rows("never", 10, models=(CLAUDE,)), processing="native")["id"]
    batch = wait_for_end(client, batch_id)
    failed = [row for row in results(client, batch_id) if row["status"] == "failed"]
    assert [row["custom_id"] for row in failed] == ["row-3"]
    assert failed[0]["attempts"] == 3
    assert failed[0]["error"]["type"] == "provider_error"
    assert batch["request_counts"]["succeeded"] == 9


def test_a_cancel_keeps_what_is_finished_and_starts_nothing_more(native_house: House, client: Client) -> None:
    native_house.simulator.config(faults=[{"kind": "stuck", "share": 0.5}])
    batch_id = submit(client, rows("gone", 100, models=(OPENAI, CLAUDE)))["id"]
    wait_for_shards(native_house, batch_id, "sent")
    cancelled = client.post(f"/v1/batch/{batch_id}/cancel")
    assert cancelled.status_code == 200
    assert cancelled.json()["status"] == "cancelled"
    batch = wait_for_end(client, batch_id)
    found = results(client, batch_id)
    assert faults_of_results(found, "gone", 100) == []
    check_counts(batch, found)
    assert ways(found) == {("succeeded", "native"): 50, ("cancelled", "native"): 50}
    assert native_house.simulator.ledger()["calls"] == 0
    wait_until_clean(native_house, batch_id)


def test_a_batch_whose_window_closes_at_the_provider_expires(native_house: House, client: Client) -> None:
    native_house.simulator.config(faults=[{"kind": "stuck", "share": 0.5}])
    batch_id = submit(client, rows("late", 30, models=(CLAUDE,)), processing="native", completion_window="1h")["id"]
    wait_for_shards(native_house, batch_id, "sent")
    let_pass(native_house, batch_id, hours=1.01)
    batch = wait_for_end(client, batch_id)
    assert batch["status"] == "expired"
    assert ways(results(client, batch_id)) == {("succeeded", "native"): 15, ("expired", "native"): 15}


def test_rows_wait_for_room_in_the_providers_queue(native_house: House, client: Client) -> None:
    # given: a queue that holds a third of the rows' tokens
    tokens = 60 * 8
    native_house.simulator.config(native={"openai": {"enqueued_tokens_default": tokens // 3}})
    batch_id = submit(client, rows("queue", 60, models=(OPENAI,)))["id"]
    batch = wait_for_end(client, batch_id)
    found = results(client, batch_id)
    assert faults_of_results(found, "queue", 60) == []
    assert ways(found) == {("succeeded", "native"): 60}
    assert batch["native"]["shards"] > 2
    assert executed_twice(native_house, "queue") == []


@pytest.mark.parametrize("on", ["upload", "create", "get", "content", "cancel", "delete"])
@pytest.mark.parametrize("kind", ["reset_after", "503"])
def test_an_answer_that_is_lost_or_refused_changes_nothing_but_time(
    native_house: House, client: Client, on: str, kind: str
) -> None:
    faults = [{"kind": kind, "on": on, "count": 2}]
    native_house.simulator.config(faults=[*faults, {"kind": "stuck"}] if on == "cancel" else faults)
    name = f"lost-{on}-{kind.replace('_', '-')}"
    batch_id = submit(client, rows(name, 60, models=(OPENAI, CLAUDE)))["id"]
    if on == "cancel":
        wait_for_shards(native_house, batch_id, "sent")
        client.post(f"/v1/batch/{batch_id}/cancel")
    batch = wait_for_end(client, batch_id)
    found = results(client, batch_id)
    assert faults_of_results(found, name, 60) == []
    check_counts(batch, found)
    assert executed_twice(native_house, name) == []
    if on != "cancel":
        assert ways(found) == {("succeeded", "native"): 60}
    wait_until_clean(native_house, batch_id)
    assert native_house.simulator.native()["files"] == []


def test_embeddings_go_through_the_batch_api_too(native_house: House, client: Client) -> None:
    requests = [{"custom_id": f"e-{n}", "model": "text-embedding-3-small", "input": f"text {n}"} for n in range(30)]
    batch_id = submit(client, requests)["id"]
    batch = wait_for_end(client, batch_id)
    found = results(client, batch_id)
    assert ways(found) == {("succeeded", "native"): 30}
    assert all(len(row["response"]["data"][0]["embedding"]) > 0 for row in found)
    assert Decimal(batch["savings_usd"]) == Decimal(batch["cost_usd"]) > 0


def test_rows_that_begin_alike_are_read_from_claudes_cache(native_house: House, client: Client) -> None:
    # given: a provider that caches, and rows that share all but their question
    native_house.simulator.config(cache={"enabled": True})
    system = "Answer as a librarian would, with the shelf and the year. " * 400
    requests = rows("alike", 30, models=(CLAUDE,))
    for row in requests:
        row["messages"].insert(0, {"role": "system", "content": system})
    # when: they are run with and without marks
    plain = wait_for_end(client, submit(client, requests, prompt_caching=False)["id"])
    batch_id = submit(client, requests)["id"]
    marked = wait_for_end(client, batch_id)
    # then: marks save most of the input's price, and the log shows what was sent by the caller
    assert plain["native"]["rows_answered"] == marked["native"]["rows_answered"] == 30
    assert plain["usage"]["cached_tokens"] == 0
    assert marked["usage"]["cached_tokens"] > 0.9 * marked["usage"]["input_tokens"]
    assert Decimal(marked["cost_usd"]) < Decimal(plain["cost_usd"]) / 2
    assert Decimal(marked["cost_usd"]) == money(results(client, batch_id))
    log = client.get(f"/v1/logs/{client.tenant_id}/{client.project_id}?batch_id={batch_id}&limit=1").json()["data"][0]
    one = client.get(f"/v1/logs/{client.tenant_id}/{client.project_id}/{log['id']}").json()
    assert one["request"]["messages"][0] == {"role": "system", "content": system}
