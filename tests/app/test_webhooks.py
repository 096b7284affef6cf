"""Webhook endpoints, their secrets and the log of deliveries, over the API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from core import webhooks
from core.egress import resolve
from tests.app.conftest import Caller
from tests.e2e.receiver import Receiver
from workers.webhook import deliver


@pytest.fixture
def receiver(client: FlaskClient) -> Iterator[Receiver]:
    resolve.forget()
    with Receiver() as receiver:
        yield receiver


def test_an_endpoint_from_its_creation_to_its_end(client: FlaskClient, caller: Caller, receiver: Receiver) -> None:
    given = {"url": receiver.url, "event_types": ["batch.failed", "batch.completed"], "description": "ours"}
    answered = client.post("/v1/webhooks", json=given, headers=caller.headers)
    assert answered.status_code == 201, answered.text
    made = answered.get_json()
    assert made["event_types"] == ["batch.completed", "batch.failed"]
    assert "secret" not in made
    path = f"/v1/webhooks/{made['id']}"
    assert client.get(path, headers=caller.headers).get_json() == made
    assert client.get("/v1/webhooks", headers=caller.headers).get_json()["data"] == [made]

    changed = client.patch(path, json={"event_types": None, "enabled": False}, headers=caller.headers).get_json()
    assert (changed["event_types"], changed["enabled"], changed["disabled_reason"]) == (None, False, "by its owner")

    assert client.delete(path, headers=caller.headers).status_code == 204
    assert client.get(path, headers=caller.headers).status_code == 404


def test_a_test_event_shows_in_the_log_and_can_be_resent(
    client: FlaskClient, caller: Caller, receiver: Receiver
) -> None:
    made = client.post("/v1/webhooks", json={"url": receiver.url}, headers=caller.headers).get_json()
    sent = client.post(f"/v1/webhooks/{made['id']}/test", headers=caller.headers)
    assert sent.status_code == 202, sent.text
    for delivery_id, fence in webhooks.claim_due():
        deliver(delivery_id, fence)
    path = f"/v1/webhooks/deliveries/{sent.get_json()['id']}"
    found = client.get(path, headers=caller.headers).get_json()
    assert (found["status"], found["payload"]["type"]) == ("delivered", "webhook.test")
    assert [attempt["status"] for attempt in found["attempts"]] == [200]

    assert client.post(f"{path}/resend", headers=caller.headers).get_json()["status"] == "pending"

    # and a test event that is asked for again under its key is sent once
    keyed = {**caller.headers, "Idempotency-Key": "test-1"}
    twice = [client.post(f"/v1/webhooks/{made['id']}/test", headers=keyed).get_json()["id"] for _ in range(2)]
    assert twice[0] == twice[1] != found["id"]

    query = f"?endpoint_id={made['id']}&status=pending"
    listed = client.get(f"/v1/webhooks/deliveries{query}", headers=caller.headers).get_json()
    assert [each["id"] for each in listed["data"]] == [twice[0], found["id"]]
    assert client.get("/v1/webhooks/deliveries?status=lost", headers=caller.headers).status_code == 400


def test_an_endpoints_secret_is_rotated(client: FlaskClient, caller: Caller, receiver: Receiver) -> None:
    made = client.post("/v1/webhooks", json={"url": receiver.url}, headers=caller.headers).get_json()
    path = f"/v1/webhooks/{made['id']}/secret"
    answered = client.get(path, headers=caller.headers)
    assert answered.headers["cache-control"] == "no-store"
    first = answered.get_json()["secret"]
    second = client.post(f"{path}/rotate", headers=caller.headers).get_json()["secret"]
    assert client.get(path, headers=caller.headers).get_json()["secret"] == second != first


def test_another_tenants_endpoint_and_deliveries_do_not_exist(
    client: FlaskClient, caller: Caller, stranger: Caller, receiver: Receiver
) -> None:
    made = client.post("/v1/webhooks", json={"url": receiver.url}, headers=caller.headers).get_json()
    sent = client.post(f"/v1/webhooks/{made['id']}/test", headers=caller.headers).get_json()
    for method, path in (
        ("get", made["id"]),
        ("patch", made["id"]),
        ("delete", made["id"]),
        ("post", f"{made['id']}/test"),
        ("get", f"{made['id']}/secret"),
        ("post", f"{made['id']}/secret/rotate"),
        ("get", f"deliveries/{sent['id']}"),
        ("post", f"deliveries/{sent['id']}/resend"),
    ):
        body = {"json": {"enabled": False}} if method == "patch" else {}
        answered = getattr(client, method)(f"/v1/webhooks/{path}", headers=stranger.headers, **body)
        assert answered.status_code == 404, (method, path)
    for path in ("", "/deliveries"):
        assert client.get(f"/v1/webhooks{path}", headers=stranger.headers).get_json()["data"] == []


def test_a_project_has_only_so_many_endpoints(client: FlaskClient, caller: Caller, receiver: Receiver) -> None:
    for _ in range(20):
        assert client.post("/v1/webhooks", json={"url": receiver.url}, headers=caller.headers).status_code == 201
    assert client.post("/v1/webhooks", json={"url": receiver.url}, headers=caller.headers).status_code == 409
