"""Embeddings through the `openai` package, live and in batches."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import openai
import pytest
import requests

from launcher.client import Client
from launcher.house import House
from tests.app.openai_surface.test_chat import last_row
from tests.app.openai_surface.test_files_and_batches import ended, line, lines_of, uploaded

SMALL = "text-embedding-3-small"


def embedding_line(custom_id: str, given: Any, **fields: Any) -> dict[str, Any]:
    body = {"model": SMALL, "input": given, "dimensions": 4, **fields}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body}


def test_embeddings_in_both_encodings(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    plain = client.embeddings.create(model="text-embedding-3-small", input="one", encoding_format="float")

    assert [len(each.embedding) for each in packed.data] == [1536, 1536]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert packed.usage.prompt_tokens > 0


def test_embeddings_are_passed_through_logged_and_priced(house: House, caller: Client, client: openai.OpenAI) -> None:
    raw = client.embeddings.with_raw_response.create(
        model="openai/text-embedding-3-small", input="hello", dimensions=4, encoding_format="base64"
    )

    vector = base64.b64decode(json.loads(raw.text)["data"][0]["embedding"])
    assert len(struct.unpack("<4f", vector)) == 4
    row = last_row(house, caller)
    assert (row["model"], row["status"], row["output_tokens"]) == ("text-embedding-3-small", "succeeded", 0)
    assert row["cost_usd"] > 0


def test_embeddings_that_cannot_be(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="anthropic has no embeddings"):
        client.embeddings.create(model="claude-haiku-4-5", input="hello")
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="text-embedding-3-small", input=[])
    assert caught.value.param == "input"
    # A name that no index of the statistics holds would keep every row beside it from being written.
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="text-embedding-" + "x" * 5000, input="hello")
    assert caught.value.param == "model"


def test_a_batch_of_embeddings(caller: Client, client: openai.OpenAI) -> None:
    lines: list[Any] = [
        embedding_line("one", "hello"),
        embedding_line("three", ["a", "b", "c"], model="text-embedding-3-large"),
        embedding_line("tokens", [1, 2, 3], encoding_format="base64"),
    ]
    file_id = uploaded(client, lines)

    made = client.batches.create(input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h")
    done = ended(client, made.id)

    assert (done.status, done.endpoint) == ("completed", "/v1/embeddings")
    assert done.request_counts is not None
    assert done.request_counts.completed == 3
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.input_tokens > 0
    bodies = {custom_id: row["response"]["body"] for custom_id, row in lines_of(client, done.output_file_id).items()}
    assert {custom_id: len(body["data"]) for custom_id, body in bodies.items()} == {"one": 1, "three": 3, "tokens": 1}
    # What a row of a batch gives is what a live call gives.
    live = client.embeddings.create(model=SMALL, input="hello", dimensions=4, encoding_format="float")
    assert bodies["one"]["data"][0]["embedding"] == live.data[0].embedding
    assert len(base64.b64decode(bodies["tokens"]["data"][0]["embedding"])) == 16
    # Seen from our own side it is the same batch, with costs, and it can be estimated like any other.
    results = caller.get(f"/v1/batch/{made.id}/results").json()["data"]
    assert all(float(row["cost_usd"]) > 0 and row["usage"]["output_tokens"] == 0 for row in results)
    assert {row["processing"] for row in results} == {"realtime"}


def test_rows_of_both_kinds_in_one_batch(caller: Client, client: openai.OpenAI) -> None:
    rows = [
        {"custom_id": "chat", "model": "claude-haiku-4-5", "messages": [{"role": "user", "content": "nonce-chat"}]},
        {"custom_id": "vector", "model": SMALL, "input": "hello"},
    ]
    estimated = caller.post("/v1/batch/estimate", {"requests": rows}).json()
    assert estimated["valid"], estimated

    made = caller.post("/v1/batch", {"requests": rows})
    assert made.status_code == 201, made.text
    batch_id = made.json()["id"]
    assert caller.wait_for_batch(batch_id)["request_counts"]["succeeded"] == 2

    found = {row["custom_id"]: row for row in caller.get(f"/v1/batch/{batch_id}/results").json()["data"]}
    assert "nonce-chat" in found["chat"]["response"]["choices"][0]["message"]["content"]
    assert len(found["vector"]["response"]["data"][0]["embedding"]) == 1536
    # Its input file names the endpoint of each line.
    batch = client.batches.retrieve(batch_id)
    lines = lines_of(client, batch.input_file_id)
    assert {custom_id: row["url"] for custom_id, row in lines.items()} == {
        "chat": "/v1/chat/completions",
        "vector": "/v1/embeddings",
    }
    # Claude's package reads messages only: the other row is an error there.
    answered = requests.get(
        f"{caller.url}/v1/messages/batches/{batch_id.replace('batch_', 'msgbatch_')}/results",
        headers={"authorization": f"Bearer {caller.token}"},
        timeout=10,
    )
    kinds = {row["custom_id"]: row["result"]["type"] for row in map(json.loads, answered.text.splitlines())}
    assert kinds == {"chat": "succeeded", "vector": "errored"}


def test_lines_for_the_wrong_endpoint_are_named(client: openai.OpenAI) -> None:
    mixed: list[Any] = [
        embedding_line("good", "hello"),
        line("elsewhere"),
        {**line("chat"), "url": "/v1/embeddings"},
        embedding_line("wrong", []),
        embedding_line("claude", "hello", model="claude-haiku-4-5"),
        embedding_line("odd", "hello", temperature=1),
    ]
    made = client.batches.create(
        input_file_id=uploaded(client, mixed), endpoint="/v1/embeddings", completion_window="24h"
    )
    assert made.status == "failed"
    assert made.errors is not None
    assert {(each.line, each.param) for each in made.errors.data or []} == {
        (2, "url"),
        (3, "input"),
        (4, "input"),
        (5, "model"),
        (6, "temperature"),
    }


def test_a_row_that_fails_says_why(house: House, caller: Client) -> None:
    house.simulator.config(faults=[{"kind": "400"}])
    made = caller.post("/v1/batch", {"requests": [{"custom_id": "a", "model": SMALL, "input": "hello"}]}).json()
    assert caller.wait_for_batch(made["id"])["status"] == "failed"
    row = caller.get(f"/v1/batch/{made['id']}/results").json()["data"][0]
    assert (row["status"], row["error"]["type"]) == ("failed", "invalid_request")
