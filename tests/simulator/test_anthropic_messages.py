"""Anthropic's surface: answers, streams, tools, and what it refuses."""

from __future__ import annotations

import json

import pytest

TOOL = {"name": "get_stock", "input_schema": {"type": "object", "properties": {"sku": {"type": "string"}}}}


def events(answer) -> list[dict]:
    found = []
    for block in answer.text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def test_the_answer_carries_the_nonce_and_counts_tokens_by_the_formula(client):
    answer = client.message("say nonce-a1", system="Be brief.")

    body = answer.json()
    assert "nonce-a1" in body["content"][0]["text"]
    assert body["stop_reason"] == "end_turn"
    assert body["usage"]["input_tokens"] == -(-len("Be brief.say nonce-a1") // 4)
    assert body["usage"]["output_tokens"] == -(-len(body["content"][0]["text"]) // 4)
    assert answer.headers["request-id"].startswith("req_")


def test_cached_tokens_are_not_part_of_input_tokens(client, simulator):
    simulator.config(tokens={"cached": 0.5, "cache_write": 0.25})

    usage = client.message("x" * 400).json()["usage"]

    counted = (usage["input_tokens"], usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"])
    assert counted == (25, 50, 25)


def test_a_stream_has_every_event_in_order_and_cumulative_usage(client, simulator):
    simulator.config(tokens={"reasoning": 8})
    whole = client.message("nonce-s").json()

    streamed = events(client.message("nonce-s", stream=True))

    kinds = [event["type"] for event in streamed if event["type"] != "content_block_delta"]
    assert kinds == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_stop",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    text = "".join(event["delta"].get("text", "") for event in streamed if event["type"] == "content_block_delta")
    assert text == whole["content"][1]["text"]
    assert streamed[0]["message"]["usage"]["output_tokens"] == 1
    assert streamed[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_stock"}])
def test_a_forced_tool_is_called(client, choice):
    body = client.message("nonce-t", tools=[TOOL], tool_choice=choice).json()

    assert body["stop_reason"] == "tool_use"
    assert body["content"][0]["name"] == "get_stock"
    assert body["content"][0]["input"] == {"sku": "nonce-t"}


def test_tool_input_is_streamed_in_parts_and_a_result_ends_the_turn(client):
    streamed = events(client.message("get_stock nonce-u", tools=[TOOL], stream=True))
    parts = [e["delta"]["partial_json"] for e in streamed if e["type"] == "content_block_delta"]
    assert len(parts) == 4
    assert json.loads("".join(parts)) == {"sku": "nonce-u"}

    used = client.message("get_stock", tools=[TOOL]).json()["content"]
    result = {"type": "tool_result", "tool_use_id": used[0]["id"], "content": "12"}
    history = [
        {"role": "user", "content": "get_stock"},
        {"role": "assistant", "content": used},
        {"role": "user", "content": [result]},
    ]
    assert client.message(messages=history, tools=[TOOL]).json()["stop_reason"] == "end_turn"


def test_limits_and_stop_sequences_end_an_answer(client):
    cut = client.message(max_tokens=2).json()
    stopped = client.message(stop_sequences=["answer"]).json()

    assert (cut["stop_reason"], cut["usage"]["output_tokens"]) == ("max_tokens", 2)
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "answer")


REFUSED = [
    ({"max_tokens": None}, "max_tokens: Field required"),
    ({"max_tokens": 65_000}, "max_tokens: 65000 > 64000"),
    ({"temperature": 1.5}, "temperature: range"),
    ({"temperature": 0.2, "top_p": 0.5}, "cannot both be specified"),
    ({"temperature": 1, "version": "2026-10-21"}, "temperature: Extra inputs are not permitted"),
    ({"temperature": 0.5, "model": "claude-opus-4-8"}, "temperature: "),
    ({"n": 2}, "n: Extra inputs are not permitted"),
    ({"tools": [TOOL], "tool_choice": "auto"}, "tool_choice: "),
    ({"tools": [TOOL], "tool_choice": {"type": "any"}, "model": "claude-sonnet-5-5"}, 'tool_choice: type "tool"'),
    ({"thinking": {"type": "disabled"}, "model": "claude-sonnet-5-5"}, '"thinking.type.disabled"'),
    ({"thinking": {"type": "adaptive"}}, "adaptive thinking is not supported"),
    ({"thinking": {"type": "enabled", "budget_tokens": 10}}, "thinking.enabled.budget_tokens"),
    ({"messages": []}, "messages: at least one"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages.0"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "non-empty"),
    ({"messages": [{"role": "system", "content": "x"}]}, "messages.0.role"),
    (
        {
            "model": "claude-opus-4-8",
            "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
        },
        "does not support assistant message prefill",
    ),
    ({"version": None}, "anthropic-version"),
    ({"version": "2020-01-01"}, "anthropic-version"),
]


@pytest.mark.parametrize(("fields", "words"), REFUSED)
def test_what_it_refuses(client, simulator, fields, words):
    answer = client.message(**fields)

    body = answer.json()
    assert answer.status_code == 400
    assert body["error"]["type"] == "invalid_request_error"
    assert words in body["error"]["message"]
    assert body["request_id"] == answer.headers["request-id"]
    assert simulator.ledger()["executed"] == 0


def test_both_ways_of_sending_the_key_and_wrong_ones(client):
    url = f"{client.url}/v1/messages"
    body = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    version = {"anthropic-version": "2026-10-21"}

    assert client.session.post(url, json=body, headers=version | {"authorization": "Bearer k"}).status_code == 200
    assert client.session.post(url, json=body, headers=version | {"x-api-key": "k"}).status_code == 200
    refused = client.session.post(url, json=body, headers=version | {"x-api-key": "an-invalid-key"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
    assert client.session.post(url, json=body, headers=version).status_code == 401


def test_unknown_models_and_paths(client):
    unknown = client.message(model="claude-nothing")
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")
    assert client.get("/v1/messages/nothing", **{"x-api-key": "k"}).json()["type"] == "error"


def test_counting_tokens_agrees_with_the_answer(client):
    body = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "count me"}]}
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}

    counted = client.session.post(f"{client.url}/v1/messages/count_tokens", json=body, headers=headers).json()

    assert counted == {"input_tokens": client.message("count me").json()["usage"]["input_tokens"]}


def test_the_model_list_pages_with_cursors(client):
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}

    first = client.get("/v1/models?limit=2", **headers).json()
    second = client.get(f"/v1/models?limit=2&after_id={first['last_id']}", **headers).json()
    back = client.get(f"/v1/models?limit=2&before_id={second['first_id']}", **headers).json()

    assert first["has_more"]
    assert len(first["data"]) == 2
    assert second["first_id"] not in [model["id"] for model in first["data"]]
    assert back["data"] == first["data"]
    assert client.get("/v1/models/claude-sonnet-4-5-20250929", **headers).json()["id"] == "claude-sonnet-4-5"
