"""Budgets over the API, and what a live call hears when there is no room."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from core.egress import resolve
from tests.app.conftest import Caller, add_provider, request_row


def test_a_budget_from_its_creation_to_its_end(client: FlaskClient, caller: Caller, stranger: Caller) -> None:
    answered = client.put("/v1/budgets/month", json={"limit_usd": "250.00"}, headers=caller.headers)
    assert answered.status_code == 201, answered.text
    made = answered.get_json()
    assert (made["limit_usd"], made["thresholds"], made["on_limit"]) == ("250", [0.5, 0.8, 1.0], "stop")
    assert (made["spent_usd"], made["remaining_usd"]) == ("0", "250")
    given = {"limit_usd": 5, "on_limit": "warn", "thresholds": []}
    assert client.put("/v1/budgets/day", json=given, headers=caller.headers).status_code == 201
    assert client.put("/v1/budgets/day", json=given, headers=caller.headers).status_code == 200
    assert client.get("/v1/budgets/month", headers=caller.headers).get_json() == made
    listed = client.get("/v1/budgets", headers=caller.headers).get_json()["data"]
    assert [each["period"] for each in listed] == ["month", "day"]
    assert client.get("/v1/budgets", headers=stranger.headers).get_json()["data"] == []
    assert client.delete("/v1/budgets/month", headers=stranger.headers).status_code == 404
    assert client.delete("/v1/budgets/month", headers=caller.headers).status_code == 204
    assert client.get("/v1/budgets/month", headers=caller.headers).status_code == 404
    assert client.put("/v1/budgets/week", json=given, headers=caller.headers).status_code == 404
    assert client.put("/v1/budgets/day", json={"limit_usd": "-1"}, headers=caller.headers).status_code == 400


@pytest.mark.parametrize("stream", [False, True])
def test_a_live_call_without_room_is_429_and_nothing_is_sent(client: FlaskClient, caller: Caller, stream: bool) -> None:
    # given a budget that no call fits in, and a provider that is not there
    resolve.forget()
    add_provider(client, caller, baseUrl="http://127.0.0.1:9/v1")
    client.put("/v1/budgets/day", json={"limit_usd": "0.000001"}, headers=caller.headers)
    # when a completion is asked for
    body = {**request_row(), "model": "gpt-4o", "max_tokens": 100, "stream": stream}
    answered = client.post("/v1/completions", json=body, headers=caller.headers)
    # then the answer says why, and when it is worth asking again
    assert answered.status_code == 429, answered.text
    problem = answered.get_json()
    assert problem["type"].endswith("budget-exhausted")
    assert "day budget of 0.000001 USD" in problem["detail"]
    assert 1 <= int(answered.headers["retry-after"]) <= 86400
