"""Native batches that go wrong: requests to them, single rows, whole batches; and what is told when one ends."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import urlsplit

import anthropic
import openai
import pytest
import requests
from standardwebhooks import Webhook

from simulator.handle import SimulatorHandle
from tests.simulator.native import CHAT, chat_row, create, jsonl, lines, message_row, results

SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ="


@pytest.mark.parametrize(
    ("on", "act"),
    [
        ("upload", lambda sdk, batch: sdk.files.create(file=("a", b"x"), purpose="batch")),
        ("create", lambda sdk, batch: sdk.batches.create(
            input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h")),
        ("get", lambda sdk, batch: sdk.batches.retrieve(batch.id)),
        ("list", lambda sdk, batch: sdk.batches.list()),
        ("cancel", lambda sdk, batch: sdk.batches.cancel(batch.id)),
        ("get_file", lambda sdk, batch: sdk.files.retrieve(batch.input_file_id)),
        ("list_files", lambda sdk, batch: sdk.files.list()),
        ("content", lambda sdk, batch: sdk.files.content(batch.input_file_id)),
        ("delete", lambda sdk, batch: sdk.files.delete(batch.input_file_id)),
    ],
)  # fmt: skip
def test_each_request_can_fail_so_many_times(openai_sdk, simulator, on, act):
    simulator.config(native={"openai": {"seconds": 60}})
    batch = create(openai_sdk, [chat_row("a")])
    rules = [{"kind": "503", "on": on, "count": 1}, {"kind": "reset", "on": on, "count": 1}]
    simulator.config(faults=rules)
    before = simulator.native()

    with pytest.raises(openai.InternalServerError):
        act(openai_sdk, batch)
    with pytest.raises(openai.APIConnectionError):
        act(openai_sdk, batch)
    after = simulator.native()
    assert (before["batches"], before["files"]) == (after["batches"], after["files"])
    act(openai_sdk, batch)
    assert simulator.ledger()["by_fault"] == {"503": 1, "reset": 1}


@pytest.mark.parametrize("kind", ["reset_after", "half_close", "truncated_json", "silence"])
def test_a_reply_that_is_lost_leaves_a_batch_behind(openai_sdk, simulator, kind):
    file = openai_sdk.files.create(file=("in.jsonl", jsonl([chat_row("a")])), purpose="batch")
    simulator.config(faults=[{"kind": kind, "on": "create", "count": 1, "seconds": 0.2}])
    asked = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h", "metadata": {"shard": "7"}}

    with pytest.raises((openai.APIConnectionError, openai.APIResponseValidationError, ValueError)):
        openai_sdk.batches.create(**asked)

    (found,) = openai_sdk.batches.list().data
    assert found.metadata == {"shard": "7"}
    assert simulator.native()["batches"][0]["id"] == found.id
    assert simulator.ledger()["native"]["openai_batches"] == 1


def test_a_lost_reply_at_anthropic(anthropic_sdk, simulator):
    simulator.config(faults=[{"kind": "reset_after", "on": "create", "vendor": "anthropic", "count": 1}])

    with pytest.raises(anthropic.APIConnectionError):
        anthropic_sdk.messages.batches.create(requests=[message_row("a")])

    assert len(anthropic_sdk.messages.batches.list().data) == 1


def test_an_uploads_reply_can_be_lost(openai_sdk, simulator):
    simulator.config(faults=[{"kind": "reset_after", "on": "upload", "count": 1}])

    with pytest.raises(openai.APIConnectionError):
        openai_sdk.files.create(file=("in.jsonl", b"x"), purpose="batch")

    assert [file["filename"] for file in simulator.native()["files"]] == ["in.jsonl"]


def test_a_download_can_break_off_be_slow_or_end_early(openai_sdk, client, simulator):
    content = b"line\n" * 10_000
    file = openai_sdk.files.create(file=("a", content), purpose="user_data")
    url, headers = f"{simulator.openai_url}/files/{file.id}/content", {"authorization": "Bearer sk-test"}

    simulator.config(faults=[{"kind": "half_close", "on": "content"}])
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.session.get(url, headers=headers)
    simulator.config(faults=[{"kind": "truncated_json", "on": "content"}])
    assert client.session.get(url, headers=headers).content == content[: len(content) // 2]
    simulator.config(faults=[{"kind": "slow_body", "seconds": 0.5}])
    start = time.monotonic()
    assert client.session.get(url, headers=headers).content == content
    assert time.monotonic() - start >= 0.4


def test_results_at_anthropic_can_break_off(anthropic_sdk, simulator):
    batch = anthropic_sdk.messages.batches.create(requests=[message_row(f"r{n}") for n in range(10)])
    simulator.advance(0)
    simulator.config(faults=[{"kind": "half_close", "on": "content", "count": 1}])

    # The SDK ends in whatever the cut line or the broken body gives.
    with pytest.raises(Exception):  # noqa: B017
        results(anthropic_sdk, batch.id)
    assert len(results(anthropic_sdk, batch.id)) == 10


def test_rows_can_fail_vanish_and_come_twice(openai_sdk, simulator):
    simulator.config(
        faults=[
            {"kind": "500", "on": "row", "contains": "nonce-transient", "first_attempts": 1},
            {"kind": "400", "on": "row", "contains": "nonce-permanent"},
            {"kind": "vanish", "contains": "nonce-gone"},
            {"kind": "duplicate", "contains": "nonce-twice"},
        ]
    )
    names = ["fine", "transient", "permanent", "gone", "twice"]
    batch = create(openai_sdk, [chat_row(name) for name in names])
    simulator.advance(0)

    batch = openai_sdk.batches.retrieve(batch.id)
    output = sorted(line["custom_id"] for line in lines(openai_sdk, batch.output_file_id))
    errors = {line["custom_id"]: line["response"]["status_code"] for line in lines(openai_sdk, batch.error_file_id)}
    assert (output, errors) == (["fine", "twice", "twice"], {"transient": 500, "permanent": 400})
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (5, 2, 2)
    ledger = simulator.ledger()
    assert (ledger["executed"], ledger["duplicates"], ledger["native"]["not_executed"]) == (2, 0, 3)
    # The second attempt is live, and works: the rule counts the nonce's attempts of both kinds.
    assert openai_sdk.chat.completions.create(**chat_row("transient")["body"])
    assert simulator.nonces()["nonce-transient"] == {
        "calls": 2,
        "executed": 1,
        "native_calls": 1,
        "native_executed": 0,
    }


def test_rows_can_fail_at_anthropic(anthropic_sdk, simulator):
    simulator.config(
        faults=[{"kind": "529", "on": "row", "contains": "nonce-b"}, {"kind": "vanish", "model": "claude-haiku-5-5"}]
    )
    rows = [message_row("a"), message_row("b"), message_row("c", model="claude-haiku-5-5")]
    batch = anthropic_sdk.messages.batches.create(requests=rows)
    simulator.advance(0)

    found = results(anthropic_sdk, batch.id)
    assert {name: result.type for name, result in found.items()} == {"a": "succeeded", "b": "errored"}
    assert found["b"].error.error.type == "overloaded_error"


def test_a_batch_can_expire_early(openai_sdk, simulator):
    rule = {"kind": "expires", "seconds": 30, "contains": "early"}
    simulator.config(faults=[rule], native={"openai": {"seconds": 100}})
    rows = [chat_row(f"r{n}") for n in range(10)]
    early = create(openai_sdk, rows, metadata={"name": "early"})
    other = create(openai_sdk, rows)
    simulator.advance(31)

    early = openai_sdk.batches.retrieve(early.id)
    assert (early.status, early.request_counts.completed) == ("expired", 3)
    assert openai_sdk.batches.retrieve(other.id).status == "in_progress"


def test_batches_can_be_stuck_slow_or_fail(openai_sdk, simulator):
    simulator.config(
        faults=[
            {"kind": "stuck", "share": 0.5, "count": 1},
            {"kind": "slow", "seconds": 1_000, "count": 1},
            {"kind": "fails", "count": 1},
            {"kind": "fails", "code": "odd", "count": 1},
        ]
    )
    rows = [chat_row(f"r{n}") for n in range(10)]
    stuck, slow, fails, odd, good = (create(openai_sdk, rows).id for _ in range(5))
    simulator.advance(500)

    def now(batch_id):
        batch = openai_sdk.batches.retrieve(batch_id)
        return batch.status, batch.request_counts.completed

    assert (now(stuck), now(slow), now(good)) == (("in_progress", 5), ("in_progress", 5), ("completed", 10))
    assert openai_sdk.batches.retrieve(fails).errors.data[0].code == "token_limit_exceeded"
    assert openai_sdk.batches.retrieve(odd).errors.data[0].code == "odd"
    simulator.advance(501)
    assert (now(stuck), now(slow)) == (("in_progress", 5), ("completed", 10))
    openai_sdk.batches.cancel(stuck)
    simulator.advance(0)
    assert now(stuck) == ("cancelled", 5)


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "stuck", "on": "row"},
        {"kind": "stream_cut", "on": "content"},
        {"kind": "refusal", "on": "create"},
        {"kind": "vanish", "on": "call"},
        {"kind": "slow_body", "on": "upload"},
    ],
)
def test_a_kind_out_of_place_is_refused(simulator, rule):
    with pytest.raises(ValueError, match="does not happen on"):
        simulator.config(faults=[rule])


def test_rules_for_live_calls_leave_batches_alone(openai_sdk, client, simulator):
    simulator.config(faults=[{"kind": "500"}])

    batch = create(openai_sdk, [chat_row("a")])
    simulator.advance(0)

    assert openai_sdk.batches.retrieve(batch.id).request_counts.completed == 1
    assert client.chat().status_code == 500


def test_live_calls_are_answered_while_a_batch_is_busy(openai_sdk, simulator):
    rows = [chat_row(f"r{n}") for n in range(2_000)]
    file = openai_sdk.files.create(file=("in.jsonl", jsonl(rows)), purpose="batch")
    asked = [
        ("POST", "/v1/batches", {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}),
        ("POST", CHAT, chat_row("live")["body"]),
        ("GET", "/_sim/native", None),
    ]

    # In one go on one connection, so that no pause of this process lets the batch finish in between.
    answers = _pipelined(simulator, asked)

    assert b"nonce-live" in answers
    assert b'"status":"completed"' not in answers
    simulator.advance(0)
    assert simulator.native()["batches"][0]["request_counts"]["completed"] == 2_000


def _pipelined(simulator: SimulatorHandle, asked: list[tuple[str, str, dict[str, Any] | None]]) -> bytes:
    address = urlsplit(simulator.url)
    sent = b""
    for method, path, body in asked:
        data = json.dumps(body).encode() if body else b""
        last = b"connection: close\r\n" if path.startswith("/_sim") else b""
        head = b"%b %b HTTP/1.1\r\nauthorization: Bearer sk-test\r\n%bcontent-length: %d\r\n\r\n"
        sent += head % (method.encode(), path.encode(), last, len(data)) + data
    received = b""
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(sent)
        while data := connection.recv(65_536):
            received += data
    return received


class _Receiver(BaseHTTPRequestHandler):
    received: list[tuple[dict[str, str], bytes]]
    answers: list[int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.answers.pop(0) if self.answers else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[HTTPServer]:
    handler = type("Receiver", (_Receiver,), {"received": [], "answers": []})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_end_of_a_batch_is_told_in_standard_webhooks_form(openai_sdk, simulator, receiver):
    url = f"http://127.0.0.1:{receiver.server_port}/hook?a=1"
    simulator.config(native={"webhook": {"url": url, "secret": SECRET}})
    receiver.RequestHandlerClass.answers.append(503)

    batch = create(openai_sdk, [chat_row("a")])
    received = receiver.RequestHandlerClass.received
    deadline = time.monotonic() + 10
    while len(received) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)

    (first, body), (second, again) = received
    assert body == again
    assert first["webhook-id"] == second["webhook-id"]
    Webhook(SECRET).verify(body, second)
    event = json.loads(body)
    assert (event["type"], event["data"]) == ("batch.completed", {"id": batch.id})
    with openai.OpenAI(api_key="k", webhook_secret=SECRET) as sdk:
        assert sdk.webhooks.unwrap(body, second).type == "batch.completed"
