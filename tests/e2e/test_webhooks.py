"""The webhook of a batch reaches its receiver, signed as Standard Webhooks says, and again after a failure."""

from __future__ import annotations

import json
import socket

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from launcher.client import Client, wait_until
from tests.e2e.batches import rows, submit, wait_for_end
from tests.e2e.receiver import Receiver

pytestmark = pytest.mark.e2e


def test_an_event_is_signed_and_sent_again_under_the_same_id_until_it_is_taken(client: Client) -> None:
    # given: a receiver that fails at first
    with Receiver(answers=[500]) as receiver:
        batch_id = submit(client, rows("hook", 6), webhook_url=f"{receiver.url}/done")["id"]
        batch = wait_for_end(client, batch_id)
        # when: it has been sent a second time, some five seconds later
        wait_until(lambda: len(receiver.received()) >= 2, 20)
        received = receiver.received()
    # then: a library of the standard takes both for genuine, and they are one event
    signer = Webhook(client.get("/v1/webhooks/secret").json()["secret"])
    for found in received:
        event = signer.verify(found.body, found.headers)
        assert event["type"] == "batch.completed"
        assert event["data"] == batch
    assert len({(found.id, found.body) for found in received}) == 1
    assert received[1].at - received[0].at > 3
    # and: not with another body
    with pytest.raises(WebhookVerificationError):
        signer.verify(received[0].body + b" ", received[0].headers)


def test_the_event_names_how_the_batch_ended(client: Client) -> None:
    with Receiver() as receiver:
        for name, model in (("fine", "gpt-4o-mini"), ("refused", "gpt-4.1-mini")):
            batch_id = submit(client, rows(name, 2, models=[model]), webhook_url=f"{receiver.url}/{name}")["id"]
            wait_for_end(client, batch_id)
        wait_until(lambda: len(receiver.received()) >= 2, 20)
        types = {found.path: json.loads(found.body)["type"] for found in receiver.received()}
    assert types == {"/fine": "batch.completed", "/refused": "batch.completed"}


def test_a_receiver_that_does_not_answer_delays_nobody(client: Client) -> None:
    # given an endpoint that takes connections and never answers, with more events than it is given at once
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent, Receiver() as receiver:
        stuck = _endpoint(client, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        quick = _endpoint(client, receiver.url)
        for _ in range(20):
            assert client.post(f"/v1/webhooks/{stuck}/test").status_code == 202
        # when there is one for another
        sent = client.post(f"/v1/webhooks/{quick}/test").json()["id"]
        # then it arrives long before the first one's time runs out
        wait_until(lambda: len(receiver.received()) == 1, 8)
        assert receiver.received()[0].id == sent
    path = f"/v1/webhooks/deliveries/{sent}"
    wait_until(lambda: client.get(path).json()["status"] == "delivered", 10)
    assert [attempt["status"] for attempt in client.get(path).json()["attempts"]] == [200]


def _endpoint(client: Client, url: str) -> str:
    answer = client.post("/v1/webhooks", {"url": url})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])
