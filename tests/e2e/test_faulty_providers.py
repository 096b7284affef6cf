"""Batches over providers that fail: every row ends once, with its own answer, and nothing is paid for twice unseen."""

from __future__ import annotations

import pytest

from launcher.client import Client
from launcher.house import House
from tests.e2e.batches import check_counts, faults_of_results, nonce, results, rows, submit, wait_for_end

pytestmark = pytest.mark.e2e

ROWS = 2000


def test_two_thousand_rows_over_both_providers_with_429s_500s_and_resets(calm_house: House, client: Client) -> None:
    # given: one call in twenty each is refused, fails, or is cut off before the provider has done anything
    calm_house.simulator.config(faults=[{"kind": kind, "probability": 0.05} for kind in ("429", "500", "reset")])
    # when
    batch_id = submit(client, rows("faulty", ROWS))["id"]
    batch = wait_for_end(client, batch_id)
    # then: each row once, with the answer to its own prompt, and counters that say so
    found = results(client, batch_id)
    assert faults_of_results(found, "faulty", ROWS) == []
    check_counts(batch, found)
    assert batch["status"] == "completed"
    assert batch["request_counts"]["succeeded"] == ROWS
    # and: the provider was called as often as the results say, and worked once for each row
    called = calm_house.simulator.nonces()
    assert {row["custom_id"]: row["attempts"] for row in found} == {
        f"row-{n}": called[nonce("faulty", n)]["calls"] for n in range(ROWS)
    }
    assert {counts["executed"] for counts in called.values()} == {1}
    ledger = calm_house.simulator.ledger()
    assert ledger["calls"] == ROWS + sum(ledger["by_fault"].values())
    assert min(ledger["by_fault"][kind] for kind in ("429", "500", "reset")) > ROWS * 0.03


def test_answers_that_are_lost_or_spoilt_on_the_way_are_asked_for_again(calm_house: House, client: Client) -> None:
    # given: the provider did the work, and its answer is of no use
    kinds = ("reset_after", "half_close", "truncated_json", "wrong_json", "not_json", "error_in_200", "502")
    calm_house.simulator.config(faults=[{"kind": kind, "probability": 0.03} for kind in kinds])
    # when
    batch_id = submit(client, rows("spoilt", 400))["id"]
    batch = wait_for_end(client, batch_id)
    # then
    found = results(client, batch_id)
    assert faults_of_results(found, "spoilt", 400) == []
    check_counts(batch, found)
    assert batch["request_counts"]["succeeded"] == 400
    # and: every call that the provider worked for is either the row's answer or one of its counted attempts
    called = calm_house.simulator.nonces()
    for row in found:
        counts = called[nonce("spoilt", int(row["custom_id"].removeprefix("row-")))]
        assert 1 <= counts["executed"] <= counts["calls"] == row["attempts"]


def test_a_wrong_request_fails_its_own_row_only(calm_house: House, client: Client) -> None:
    calm_house.simulator.config(faults=[{"kind": "400", "contains": nonce("wrong", 3)}])
    batch_id = submit(client, rows("wrong", 8))["id"]
    batch = wait_for_end(client, batch_id)
    found = {row["custom_id"]: row for row in results(client, batch_id)}
    assert batch["status"] == "completed"
    assert [custom_id for custom_id, row in found.items() if row["status"] != "succeeded"] == ["row-3"]
    assert found["row-3"]["error"]["type"] == "invalid_request"
    assert found["row-3"]["error"]["provider_status"] == 400
    assert found["row-3"]["attempts"] == 1
    assert batch["errors"][0] | {"message": ""} == {"type": "invalid_request", "count": 1, "message": ""}
