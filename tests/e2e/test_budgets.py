"""A project's budget stops its batches and its live calls before they pass it, says so, and lets them go on."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from launcher.client import Client, wait_until
from tests.e2e.batches import check_counts, faults_of_results, results, rows, submit, wait_for, wait_for_end
from tests.e2e.receiver import Receiver

pytestmark = pytest.mark.e2e

OPENAI = ["gpt-4o-mini"]


def budget(client: Client, **fields: object) -> dict:
    answer = client.put("/v1/budgets/month", fields) if fields else client.get("/v1/budgets/month")
    assert answer.status_code in (200, 201), answer.text
    return dict(answer.json())


def ask(client: Client, n: int = 0) -> int:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"live {n}"}], "max_tokens": 60}
    answer = client.post("/v1/completions", body)
    if answer.status_code == 429:
        assert answer.json()["type"].endswith("budget-exhausted"), answer.text
    return answer.status_code


def test_a_batch_stops_before_the_limit_and_goes_on_when_it_is_raised(client: Client) -> None:
    with Receiver() as receiver:
        events = ["budget.threshold", "batch.paused"]
        assert client.post("/v1/webhooks", {"url": receiver.url, "event_types": events}).status_code == 201
        # given a budget for a part of a batch
        budget(client, limit_usd="0.0005", thresholds=[0.5])
        batch_id = submit(client, rows("bounded", 120, models=OPENAI))["id"]
        # when it has run as far as it may
        batch = wait_for(client, batch_id, lambda found: found["status"] == "paused")
        assert batch["status_reason"] == "budget"
        wait_for(client, batch_id, lambda found: not found["request_counts"]["processing"])
        # then nothing was spent beyond the limit, and live calls hear why they are refused
        stopped = budget(client)
        assert 0 < Decimal(stopped["spent_usd"]) <= Decimal(stopped["limit_usd"])
        assert Decimal(stopped["spent_usd"]) == Decimal(client.get(f"/v1/batch/{batch_id}").json()["cost_usd"])
        assert stopped["reserved_usd"] == "0"
        assert ask(client) == 429
        wait_until(lambda: len(receiver.received()) >= 2, 20)
        # when it is raised
        budget(client, limit_usd="5", thresholds=[0.5])
        batch = wait_for_end(client, batch_id)
        found = results(client, batch_id)
        types = Counter(json.loads(each.body)["type"] for each in receiver.received())
    assert faults_of_results(found, "bounded", 120) == []
    check_counts(batch, found)
    assert types == {"budget.threshold": 1, "batch.paused": 1}
    assert ask(client) == 200


def test_live_calls_and_batches_together_stay_within_the_limit(client: Client) -> None:
    # given
    budget(client, limit_usd="0.001")
    batch_id = submit(client, rows("beside", 60, models=OPENAI))["id"]
    # when live calls come at the same time
    with ThreadPoolExecutor(8) as pool:
        answers = Counter(pool.map(lambda n: ask(client, n), range(60)))
    batch = wait_for(client, batch_id, lambda found: found["status"] == "paused" or found["ended_at"] is not None)
    wait_for(client, batch_id, lambda found: not found["request_counts"]["processing"])
    # then all that was answered is counted, and it is no more than the limit
    assert set(answers) <= {200, 429}
    wait_until(lambda: budget(client)["reserved_usd"] == "0", 20)
    found = budget(client)
    assert Decimal(found["spent_usd"]) <= Decimal(found["limit_usd"])
    assert batch["status_reason"] in ("budget", None)


def test_a_budget_that_only_warns_stops_nothing(client: Client) -> None:
    budget(client, limit_usd="0.000001", on_limit="warn")
    batch_id = submit(client, rows("warned", 5, models=OPENAI))["id"]
    assert wait_for_end(client, batch_id)["request_counts"]["succeeded"] == 5
    assert ask(client) == 200
    assert Decimal(budget(client)["spent_usd"]) > Decimal("0.000001")
