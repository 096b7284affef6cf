"""OpenAI's surface: answers, streams, tools, and what it refuses."""

from __future__ import annotations

import json

import pytest

TOOL = {
    "type": "function",
    "function": {
        "name": "get_stock",
        "parameters": {"type": "object", "properties": {"sku": {"type": "string"}, "count": {"type": "integer"}}},
    },
}


def chunks(answer) -> list[dict]:
    lines = [line for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_the_answer_carries_the_nonce_and_counts_tokens_by_the_formula(client):
    answer = client.chat("say nonce-a1_B-2 please")

    body = answer.json()
    content = body["choices"][0]["message"]["content"]
    assert "nonce-a1_B-2" in content
    assert body["usage"]["prompt_tokens"] == -(-len("say nonce-a1_B-2 please") // 4)
    assert body["usage"]["completion_tokens"] == -(-len(content) // 4)
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    assert answer.headers["x-request-id"].startswith("req_")


def test_the_same_prompt_has_the_same_answer(client):
    first, second = client.chat("again").json(), client.chat("again").json()

    assert first["choices"] == second["choices"]
    assert first["id"] != second["id"]


def test_max_tokens_cuts_the_answer(client):
    body = client.chat(max_tokens=3).json()

    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 3
    assert len(body["choices"][0]["message"]["content"]) == 12


def test_the_output_can_be_made_any_size_and_the_prompt_partly_cached(client, simulator):
    simulator.config(tokens={"output": 500, "cached": 0.5, "reasoning": 100})

    body = client.chat("nonce-big " + "x" * 390).json()

    assert "nonce-big" in body["choices"][0]["message"]["content"]
    assert body["usage"]["completion_tokens"] == 500
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 100
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 50


def test_a_stream_adds_up_to_the_whole_answer(client):
    whole = client.chat("nonce-stream").json()

    streamed = chunks(client.chat("nonce-stream", stream=True, stream_options={"include_usage": True}))

    assert streamed[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in streamed if c["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert streamed[-2]["choices"][0]["finish_reason"] == "stop"
    assert streamed[-1]["choices"] == []
    assert streamed[-1]["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in streamed[:-1])


def test_usage_is_streamed_only_when_asked_for(client):
    assert all("usage" not in chunk for chunk in chunks(client.chat(stream=True)))


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_stock"}}])
def test_a_forced_tool_is_called_with_arguments_that_fit(client, choice):
    choices = client.chat("nonce-t", tools=[TOOL], tool_choice=choice).json()["choices"]

    assert choices[0]["finish_reason"] == "tool_calls"
    call = choices[0]["message"]["tool_calls"][0]
    assert call["function"]["name"] == "get_stock"
    assert json.loads(call["function"]["arguments"]) == {"sku": "nonce-t", "count": 1}


def test_a_tool_that_the_prompt_names_is_called_and_its_result_ends_the_turn(client):
    call = client.chat("use get_stock", tools=[TOOL]).json()["choices"][0]["message"]
    history = [
        {"role": "user", "content": "use get_stock"},
        call,
        {"role": "tool", "tool_call_id": call["tool_calls"][0]["id"], "content": "12"},
    ]

    answer = client.chat(tools=[TOOL], messages=history).json()

    assert answer["choices"][0]["finish_reason"] == "stop"
    assert client.chat("nothing", tools=[TOOL]).json()["choices"][0]["finish_reason"] == "stop"


def test_tool_arguments_are_streamed_in_three_parts(client):
    streamed = chunks(client.chat("get_stock", tools=[TOOL], stream=True))

    deltas = [d for c in streamed for d in c["choices"][0]["delta"].get("tool_calls", [])]
    assert deltas[0]["function"] == {"name": "get_stock", "arguments": ""}
    assert len(deltas) == 4
    assert json.loads("".join(d["function"]["arguments"] for d in deltas)) == {"sku": "the prompt", "count": 1}


def test_a_custom_tool_gets_free_text(client):
    tool = {"type": "custom", "custom": {"name": "run"}}

    call = client.chat("nonce-c run", tools=[tool]).json()["choices"][0]["message"]["tool_calls"][0]

    assert call["type"] == "custom"
    assert call["custom"] == {"name": "run", "input": "nonce-c"}


def test_structured_output_fits_its_schema(client):
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "kind": {"enum": ["a", "b"]}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}

    content = client.chat("nonce-j", response_format=wanted).json()["choices"][0]["message"]["content"]

    assert json.loads(content) == {"city": "nonce-j", "kind": "a"}


REFUSED = [
    ({"model": "gpt-5", "max_tokens": 5}, "max_tokens", "unsupported_parameter"),
    ({"model": "o3", "max_tokens": 5}, "max_tokens", "unsupported_parameter"),
    ({"model": "gpt-5", "temperature": 0.2}, "temperature", "unsupported_value"),
    ({"model": "gpt-6-luna", "tools": [TOOL]}, "reasoning_effort", None),
    ({"model": "gpt-5", "stop": ["x"]}, "stop", "unsupported_parameter"),
    ({"model": "gpt-5", "reasoning_effort": "none"}, "reasoning_effort", "unsupported_value"),
    ({"model": "gpt-4o", "reasoning_effort": "low"}, "reasoning_effort", "unsupported_parameter"),
    ({"temperature": 3}, "temperature", "decimal_above_max_value"),
    ({"temperature": "hot"}, "temperature", "invalid_type"),
    ({"max_tokens": 1_000_000}, "max_tokens", "invalid_value"),
    ({"stream_options": {"include_usage": True}}, "stream_options", None),
    ({"messages": []}, "messages", "empty_array"),
    ({"messages": [{"role": "alien", "content": "x"}]}, "messages[0].role", "invalid_value"),
    ({"messages": [{"role": "tool", "tool_call_id": "x", "content": "x"}]}, "messages[0].role", None),
    ({"response_format": {"type": "json_object"}}, "messages", None),
    ({"tool_choice": "required"}, "tool_choice", None),
    ({"custom_id": "row-1"}, "custom_id", "unknown_parameter"),
]


@pytest.mark.parametrize(("fields", "param", "code"), REFUSED)
def test_what_it_refuses(client, simulator, fields, param, code):
    answer = client.chat(**fields)

    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert (error["param"], error["code"]) == (param, code)
    assert simulator.ledger()["executed"] == 0


ACCEPTED = [
    {"model": "gpt-5", "max_completion_tokens": 50, "temperature": 1},
    {"model": "gpt-5.1", "temperature": 0.2},
    {"model": "gpt-6-luna", "tools": [TOOL], "reasoning_effort": "none"},
    {"model": "gpt-4o-2024-08-06"},
    {"model": "gpt-4"},
    {"model": "gpt-4-turbo"},
    {"model": "gpt-3.5-turbo-0125"},
    {"model": "ft:gpt-4o-mini:acme::abc"},
]


@pytest.mark.parametrize("fields", ACCEPTED)
def test_what_it_takes(client, fields):
    assert client.chat(**fields).status_code == 200


def test_wrong_keys_models_paths_and_bodies_get_the_vendors_errors(client):
    assert client.chat(key="sk-invalid-1").json()["error"]["code"] == "invalid_api_key"
    assert client.get("/v1/models").status_code == 401
    unknown = client.chat(model="gpt-nothing")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert client.chat(model="claude-sonnet-4-5").status_code == 404
    assert client.chat(model="gpt-5.5-pro").status_code == 404
    assert "Invalid URL" in client.get("/v1/nothing", authorization="Bearer k").json()["error"]["message"]
    url = f"{client.url}/v1/chat/completions"
    for body in (b"{", b"[]", b'{"model": [], "messages": {}}', b'{"model":"gpt-4o","messages":[5],"stop":7}'):
        assert client.session.post(url, data=body, headers={"authorization": "Bearer k"}).status_code == 400


def test_an_openai_compatible_server_takes_any_model_and_unknown_fields(client):
    body = {"model": "llama-9", "messages": [{"role": "user", "content": "nonce-l"}], "min_p": 0.1, "max_tokens": 50}

    answer = client.session.post(
        f"{client.url}/compatible/v1/chat/completions", json=body, headers={"authorization": "Bearer k"}
    )

    assert "nonce-l" in answer.json()["choices"][0]["message"]["content"]


def test_the_model_list(client):
    listed = client.get("/v1/models", authorization="Bearer k").json()

    assert listed["object"] == "list"
    assert "gpt-4o" in [model["id"] for model in listed["data"]]
    assert client.get("/v1/models/gpt-4o", authorization="Bearer k").json()["id"] == "gpt-4o"
    assert client.get("/v1/models/x", authorization="Bearer k").status_code == 404
