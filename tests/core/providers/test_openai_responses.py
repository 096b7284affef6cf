"""The bridge to /v1/responses: who crosses it, what is sent, what comes back."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import catalogue, params
from core.providers import adapter_for
from core.providers.from_anthropic import translate_request
from core.providers.from_anthropic_answer import message_of
from core.providers.openai_batches import OpenAIBatches
from core.providers.types import Failure, Success, Usage
from core.states import FailureReason
from tests.core.providers.test_streams import chunks_of, lines, run

OPENAI = adapter_for("openai")
USER = [{"role": "user", "content": "2+2?"}]
SCHEMA = {"type": "object", "properties": {"sku": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "get_stock", "description": "d", "parameters": SCHEMA}}]
PRO = "gpt-5.4-pro"
ASKED = {"stream_options": {"include_usage": True}, "messages": USER}


def user(*parts):
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    ("model", "params", "path"),
    [
        # answer only there
        ("gpt-5.5-pro", {}, "/responses"),
        ("gpt-5.4-pro-2026-03-05", {}, "/responses"),
        ("gpt-5-codex", {}, "/responses"),
        ("gpt-5.1-codex-max", {}, "/responses"),
        ("o1-pro", {}, "/responses"),
        # refuse tools on Chat whatever the effort
        ("gpt-6-astra", {}, "/chat/completions"),
        ("gpt-6-astra", {"tools": TOOLS}, "/responses"),
        ("gpt-6.1-sol", {"tools": TOOLS}, "/responses"),
        ("gpt-6.2-sol", {"tools": TOOLS, "reasoning_effort": "high"}, "/responses"),
        # take them without reasoning
        ("gpt-5.4", {"tools": TOOLS}, "/chat/completions"),
        ("gpt-6-luna", {"tools": TOOLS}, "/chat/completions"),
        ("gpt-6-luna", {"tools": TOOLS, "reasoning_effort": "none"}, "/chat/completions"),
        ("gpt-6-luna", {"tools": TOOLS, "reasoning_effort": "low"}, "/responses"),
        ("gpt-5.6-sol", {"tools": TOOLS, "reasoning_effort": "xhigh"}, "/responses"),
        # take them always
        ("gpt-4o", {"tools": TOOLS}, "/chat/completions"),
        ("gpt-5.2", {"tools": TOOLS, "reasoning_effort": "high"}, "/chat/completions"),
        ("o3", {"tools": TOOLS, "reasoning_effort": "high"}, "/chat/completions"),
        ("gpt-9-unheard-of", {"tools": TOOLS, "reasoning_effort": "high"}, "/chat/completions"),
    ],
)
def test_who_crosses(model, params, path):
    given_params = {"model": "alias", "messages": USER, **params}
    assert OPENAI.check(given_params, catalogue.find(model)) == []
    for stream in (False, True):
        request = OPENAI.build(given_params, model, stream=stream)
        assert request.path == path
        assert orjson.loads(request.body)["model"] == model


def sent(model=PRO, *, stream=False, **params):
    given_params = {"model": "alias", "messages": USER, **params}
    before = orjson.dumps(given_params)
    assert OPENAI.check(given_params, catalogue.find(model)) == []
    request = OPENAI.build(given_params, model, stream=stream)
    assert request.path == "/responses"
    assert orjson.dumps(given_params) == before, "the caller's parameters are left as they were"
    return orjson.loads(request.body)


def test_a_plain_request():
    assert sent() == {
        "model": PRO,
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "2+2?"}]}],
        "store": False,
    }
    assert sent(stream=True)["stream"] is True


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"max_tokens": 9}, {"max_output_tokens": 9}),
        ({"max_completion_tokens": 9}, {"max_output_tokens": 9}),
        ({"reasoning_effort": "high"}, {"reasoning": {"effort": "high"}}),
        ({"verbosity": "low"}, {"text": {"verbosity": "low"}}),
        ({"response_format": {"type": "text"}}, {"text": {"format": {"type": "text"}}}),
        ({"response_format": {"type": "json_object"}}, {"text": {"format": {"type": "json_object"}}}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
                }
            },
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}},
        ),
        (
            {"tools": TOOLS},
            {
                "tools": [
                    {
                        "type": "function",
                        "name": "get_stock",
                        "description": "d",
                        "parameters": SCHEMA,
                        "strict": False,
                    }
                ]
            },
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]},
            {"tools": [{"type": "function", "name": "f", "parameters": None, "strict": True}]},
        ),
        ({"tools": TOOLS, "tool_choice": "required"}, {"tool_choice": "required"}),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "get_stock"}}},
            {"tool_choice": {"type": "function", "name": "get_stock"}},
        ),
        (
            {
                "tools": TOOLS,
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "auto",
                        "tools": [{"type": "function", "function": {"name": "get_stock"}}],
                    },
                },
            },
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "get_stock"}],
                }
            },
        ),
        ({"tools": TOOLS, "parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"store": True, "metadata": {"a": "b"}}, {"store": True, "metadata": {"a": "b"}}),
        ({"service_tier": "flex", "user": "u"}, {"service_tier": "flex", "user": "u"}),
        ({"safety_identifier": "s", "prompt_cache_key": "k"}, {"safety_identifier": "s", "prompt_cache_key": "k"}),
        # What asks for nothing is no reason to refuse.
        ({"temperature": 1, "n": 1, "stop": [], "logprobs": False, "frequency_penalty": 0}, {}),
    ],
)
def test_fields(params, expected):
    plain = sent()
    found = sent(**params)
    if "tools" not in expected:
        found.pop("tools", None)
    assert ("include" in found) == ("tools" in params), "what is thought is asked for where it can go back"
    found.pop("include", None)
    assert {name: value for name, value in found.items() if plain.get(name) != value} == expected


def test_a_conversation():
    found = sent(
        messages=[
            {"role": "system", "content": "Be terse."},
            {"role": "developer", "content": [{"type": "text", "text": "And kind."}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}},
                ],
            },
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [
                    {"id": "call_7", "type": "function", "function": {"name": "get_stock", "arguments": "{}"}},
                    {"id": "call_8", "type": "function", "function": {"name": "get_stock", "arguments": "no json"}},
                ],
            },
            {"role": "tool", "tool_call_id": "call_7", "content": "12"},
            {"role": "tool", "tool_call_id": "call_8", "content": [{"type": "text", "text": "13"}]},
            {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "system", "content": "Later."},
            {"role": "user", "content": "Go on"},
        ],
        tools=TOOLS,
    )
    assert found["instructions"] == "Be terse.\n\nAnd kind."
    assert found["input"] == [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is it?"},
                {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
            ],
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me look."}]},
        {"type": "function_call", "call_id": "call_7", "name": "get_stock", "arguments": "{}"},
        {"type": "function_call", "call_id": "call_8", "name": "get_stock", "arguments": "no json"},
        {"type": "function_call_output", "call_id": "call_7", "output": "12"},
        {"type": "function_call_output", "call_id": "call_8", "output": [{"type": "input_text", "text": "13"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Later."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Go on"}]},
    ]


def test_a_cache_breakpoint_keeps_its_place():
    mark = {"mode": "explicit", "ttl": "30m"}
    part = {"type": "text", "text": "Long.", "prompt_cache_breakpoint": mark}
    found = sent(messages=[{"role": "system", "content": [part]}, *USER])
    assert "instructions" not in found
    assert found["input"][0]["content"] == [{"type": "input_text", "text": "Long.", "prompt_cache_breakpoint": mark}]


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"n": 2}, "/n"),
        ({"seed": 1}, "/seed"),
        ({"stop": "x"}, "/stop"),
        ({"logit_bias": {"1": 1}}, "/logit_bias"),
        ({"logprobs": True}, "/logprobs"),
        ({"prediction": {"type": "content", "content": "x"}}, "/prediction"),
        ({"audio": {"voice": "a", "format": "wav"}}, "/audio"),
        ({"modalities": ["text", "audio"]}, "/modalities"),
        ({"web_search_options": {}}, "/web_search_options"),
        ({"functions": [{"name": "f"}]}, "/functions"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "/tools/0/type"),
        ({"messages": [{"role": "user", "name": "Ann", "content": "x"}]}, "/messages/0/name"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}],
                    }
                ]
            },
            "/messages/0/content/0/type",
        ),
        ({"messages": [*USER, {"role": "function", "name": "f", "content": "x"}]}, "/messages/1/role"),
        ({"messages": user({"type": "text", "text": "x", "tone": 1})}, "/messages/0/content/0/tone"),
        (
            {"messages": user({"type": "image_url", "image_url": {"url": "https://x/y.png", "crop": 1}})},
            "/messages/0/content/0/image_url/crop",
        ),
        ({"tools": [{**TOOLS[0], "ttl": 1}]}, "/tools/0/ttl"),
        ({"tools": TOOLS, "tool_choice": {"type": "custom", "custom": {"name": "c"}}}, "/tool_choice/type"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "get_stock"}, "mode": 1}},
            "/tool_choice/mode",
        ),
        ({"temperature": 0.2}, "/temperature"),
        ({"reasoning_effort": "none"}, "/reasoning_effort"),
        ({"max_tokens": 200_000}, "/max_tokens"),
    ],
)
def test_what_it_has_no_word_for_is_refused_by_name(params, pointer):
    found = OPENAI.check({"messages": USER, **params}, catalogue.find(PRO))
    assert [error.pointer for error in found].count(pointer) == 1
    assert all(error.message for error in found)


def response(*output, status="completed", **more):
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1795430400,
        "status": status,
        "model": "gpt-5.4-pro-2026-03-05",
        "service_tier": "default",
        "error": None,
        "incomplete_details": None,
        "output": [{"type": "reasoning", "id": "rs_1", "summary": []}, *output],
        "usage": {
            "input_tokens": 21,
            "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 3},
            "output_tokens": 14,
            "output_tokens_details": {"reasoning_tokens": 10},
            "total_tokens": 35,
        },
        **more,
    }


def said(text):
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_7", "name": "get_stock", "arguments": '{"sku":"A"}'}
CALLED = [{"id": "call_7", "type": "function", "function": {"name": "get_stock", "arguments": '{"sku":"A"}'}}]


def parsed(body):
    return OPENAI.parse(200, {}, orjson.dumps(body))


def test_an_answer():
    found = parsed(response(said("Four."), said(" Or five.")))
    assert isinstance(found, Success)
    assert found.completion["id"] == "chatcmpl-1"
    assert found.completion["object"] == "chat.completion"
    assert found.completion["created"] == 1795430400
    assert found.model == "gpt-5.4-pro-2026-03-05"
    assert found.completion["service_tier"] == "default"
    assert found.completion["choices"][0]["message"]["content"] == "Four. Or five."
    assert found.usage == Usage(
        input_tokens=21, output_tokens=14, cached_tokens=5, cache_write_tokens=3, reasoning_tokens=10
    )
    assert found.completion["usage"]["total_tokens"] == 35


LENGTH = {"reason": "max_output_tokens"}
FILTER = {"reason": "content_filter"}
REFUSAL = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}


@pytest.mark.parametrize(
    ("answer", "finish", "content", "refusal", "calls"),
    [
        (response(said("x")), "stop", "x", None, None),
        (response(CALL), "tool_calls", None, None, CALLED),
        (response(said("x"), CALL), "tool_calls", "x", None, CALLED),
        (response(said("x"), status="incomplete", incomplete_details=LENGTH), "length", "x", None, None),
        (response(status="incomplete", incomplete_details=LENGTH), "length", "", None, None),
        (response(said("x"), status="incomplete", incomplete_details=FILTER), "content_filter", "x", None, None),
        (response(REFUSAL), "stop", None, "No.", None),
        (response(said("x"), {"type": "of tomorrow"}), "stop", "x", None, None),
    ],
)
def test_why_it_ended_and_what_it_said(answer, finish, content, refusal, calls):
    choice = parsed(answer).completion["choices"][0]
    assert choice["finish_reason"] == finish
    assert choice["message"]["content"] == content
    assert choice["message"]["refusal"] == refusal
    assert choice["message"].get("tool_calls") == calls


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": "server_error", "message": "m"}, FailureReason.PROVIDER_ERROR),
        ({"code": "rate_limit_exceeded", "message": "m"}, FailureReason.RATE_LIMITED),
        (None, FailureReason.PROVIDER_ERROR),
    ],
)
def test_a_response_that_failed(error, reason):
    found = parsed(response(status="failed", error=error))
    assert isinstance(found, Failure)
    assert found.reason is reason


SCALARS = st.none() | st.integers(-9, 9) | st.text(max_size=5)
JUNK = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=5)


@given(st.lists(st.dictionaries(st.sampled_from(["type", "content", "call_id", "text"]), JUNK)), JUNK, JUNK)
def test_nothing_that_a_provider_sends_raises(output, usage, status):
    found = parsed({"object": "response", "output": output, "usage": usage, "status": status})
    assert isinstance(found, (Success, Failure))


def events(answer, *items):
    """A stream of `answer` whose items came with these deltas."""
    begun = {**answer, "status": "in_progress", "output": [], "usage": None}
    found: list[Any] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    found += items
    found.append({"type": f"response.{answer['status']}", "response": answer})
    return [{**each, "sequence_number": number} for number, each in enumerate(found)]


TEXT = (
    {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning"}},
    {"type": "response.output_item.done", "output_index": 0, "item": {"type": "reasoning"}},
    {"type": "response.output_item.added", "output_index": 1, "item": {"type": "message", "content": []}},
    {"type": "response.content_part.added", "output_index": 1, "part": {"type": "output_text", "text": ""}},
    {"type": "response.output_text.delta", "output_index": 1, "delta": "Für "},
    {"type": "response.output_text.delta", "output_index": 1, "delta": "4 \U0001f600."},
    {"type": "response.output_text.done", "output_index": 1, "text": "Für 4 \U0001f600."},
    {"type": "response.output_item.done", "output_index": 1, "item": said("Für 4 \U0001f600.")},
)
WITH_CALLS = (
    {"type": "response.output_item.added", "output_index": 1, "item": {**CALL, "arguments": ""}},
    {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": '{"sku":'},
    {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": '"A"}'},
    {"type": "response.output_item.done", "output_index": 1, "item": CALL},
    # Some servers send arguments only when they are whole.
    {"type": "response.output_item.added", "output_index": 2, "item": {**CALL, "call_id": "call_8", "arguments": ""}},
    {"type": "response.output_item.done", "output_index": 2, "item": {**CALL, "call_id": "call_8"}},
)


def test_a_stream_of_text():
    answer = response(said("Für 4 \U0001f600."))
    data = lines(*events(answer, *TEXT), names=True)
    for cuts in ((), range(1, len(data), 7)):
        out, outcome = run(OPENAI.stream(ASKED, PRO), data, cuts)
        chunks = chunks_of(out)
        assert [choice["delta"] for each in chunks for choice in each["choices"]] == [
            {"role": "assistant", "content": "", "refusal": None},
            {"content": "Für "},
            {"content": "4 \U0001f600."},
            {},
        ]
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 5, "cache_write_tokens": 3}
        assert {each["id"] for each in chunks} == {"chatcmpl-1"}
        assert isinstance(outcome, Success)
        whole = parsed(answer)
        assert outcome.usage == whole.usage
        assert outcome.completion["choices"][0]["message"]["content"] == "Für 4 \U0001f600."
        assert outcome.completion["choices"][0]["finish_reason"] == "stop"
    out, outcome = run(OPENAI.stream({"messages": USER}, PRO), data)
    assert all(each["choices"] for each in chunks_of(out))
    assert outcome.usage.output_tokens == 14


def test_a_stream_of_calls():
    answer = response(CALL, {**CALL, "call_id": "call_8"})
    out, outcome = run(OPENAI.stream(ASKED, PRO), lines(*events(answer, *WITH_CALLS), names=True))
    message = outcome.completion["choices"][0]["message"]
    assert message["tool_calls"] == [*CALLED, {**CALLED[0], "id": "call_8"}]
    assert outcome.completion["choices"][0]["finish_reason"] == "tool_calls"
    # What went out adds up to the same.
    indexes = [
        call["index"]
        for each in chunks_of(out)
        for choice in each["choices"]
        for call in choice["delta"].get("tool_calls", ())
    ]
    assert indexes == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ({"type": "error", "code": "server_error", "message": "m", "param": None}, FailureReason.PROVIDER_ERROR),
        ({"type": "error", "code": "rate_limit_exceeded", "message": "m"}, FailureReason.RATE_LIMITED),
        (
            {"type": "response.failed", "response": response(status="failed", error={"code": "x", "message": "m"})},
            FailureReason.PROVIDER_ERROR,
        ),
    ],
)
def test_a_stream_that_fails(last, reason):
    data = lines(*events(response(said("x")), *TEXT)[:7], last, names=True)
    out, outcome = run(OPENAI.stream(ASKED, PRO), data)
    assert isinstance(outcome, Failure)
    assert outcome.reason is reason
    assert outcome.message == "m"
    assert chunks_of(out)[-1]["error"]["message"] == "m"
    assert outcome.partial is not None


def test_a_stream_that_is_cut_off():
    data = lines(*events(response(said("x")), *TEXT)[:-1], names=True)
    _, outcome = run(OPENAI.stream(ASKED, PRO), data)
    assert isinstance(outcome, Failure)
    assert outcome.reason is FailureReason.NETWORK


def test_a_response_that_fails_before_its_first_word_has_not_begun():
    begun = events(response(), {"type": "error", "code": "server_error", "message": "m"})[:2]
    translator = OPENAI.stream(ASKED, PRO)
    assert b"data:" not in translator.feed(lines(*begun, names=True))


TEXTS = st.text(min_size=1, max_size=20)
NAMES = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
CALLS = st.lists(st.tuples(NAMES, st.dictionaries(NAMES, st.integers(-9, 9), max_size=2)), max_size=3)


@given(text=st.none() | TEXTS, calls=CALLS, refusal=st.none() | TEXTS)
def test_an_answer_survives_the_way_there_and_back(text, calls, refusal):
    # given an assistant's turn in Chat's form
    tool_calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": orjson.dumps(args).decode()}}
        for n, (name, args) in enumerate(calls)
    ]
    if text is None and refusal is None and not calls:
        text = "x"
    turn: dict[str, Any] = {"role": "assistant", "content": text, "refusal": refusal}
    if tool_calls:
        turn["tool_calls"] = tool_calls
    # when it is sent as history, and those items come back as an answer
    items = sent(
        messages=[*USER, turn, *({"role": "tool", "tool_call_id": c["id"], "content": "1"} for c in tool_calls)]
    )
    output = [item for item in items["input"] if item.get("role") == "assistant" or item["type"] == "function_call"]
    back = parsed(response(*output)).completion["choices"][0]["message"]
    # then it is the same turn
    assert {name: back.get(name) for name in ("content", "refusal", "tool_calls")} == {
        "content": text,
        "refusal": refusal,
        "tool_calls": tool_calls or None,
    }


WORDS = st.sampled_from(["system", "developer"])


@given(
    system=st.lists(st.tuples(WORDS, TEXTS), max_size=2),
    turns=st.lists(st.tuples(TEXTS, TEXTS), max_size=3),
    limit=st.none() | st.integers(16, 1000),
    effort=st.none() | st.sampled_from(["low", "medium", "high"]),
    tools=st.lists(NAMES, unique=True, max_size=3),
)
def test_nothing_of_a_request_is_lost(system, turns, limit, effort, tools):
    messages = [{"role": role, "content": text} for role, text in system]
    for asked, answered in turns:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    messages.append({"role": "user", "content": "last"})
    params: dict[str, Any] = {"messages": messages, "reasoning_effort": effort, "max_completion_tokens": limit}
    if tools:
        params["tools"] = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in tools]

    body = sent(**params)

    back = [{"role": item["role"], "content": item["content"][0]["text"]} for item in body["input"]]
    assert back == messages[len(system) :]
    assert body.get("instructions", "") == "\n\n".join(text for _, text in system)
    assert body.get("max_output_tokens") == limit
    assert body.get("reasoning", {}).get("effort") == effort
    assert [tool["name"] for tool in body.get("tools", ())] == tools


def test_a_line_of_a_native_batch():
    wire = OpenAIBatches()
    line = orjson.loads(wire.line(7, {"messages": USER}, PRO))
    assert line["url"] == wire.endpoint({"messages": USER}, PRO) == "/v1/responses"
    assert line["body"] == sent()
    answered = {"status_code": 200, "request_id": "req_1", "body": response(said("Four."))}
    found = wire.parse_line(orjson.dumps({"custom_id": "7", "response": answered, "error": None}))
    assert found.row_id == 7
    assert isinstance(found.outcome, Success)
    assert found.outcome.completion["choices"][0]["message"]["content"] == "Four."
    assert found.outcome.usage.reasoning_tokens == 10


THOUGHTS = [
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e1"},
    {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "e2"},
]
CALLS = [
    {"type": "function_call", "call_id": f"call_{n}", "name": "get_stock", "arguments": "{}", "id": f"fc_{n}"}
    for n in (1, 2)
]


def answered(model="gpt-6-astra-2026-09-01"):
    """The message of an answer that thought before each of two calls."""
    output = [THOUGHTS[0], CALLS[0], THOUGHTS[1], CALLS[1]]
    body = {"id": "resp_1", "object": "response", "status": "completed", "model": model, "output": output}
    outcome = OPENAI.parse(200, {}, orjson.dumps(body))
    assert isinstance(outcome, Success)
    return outcome.completion["choices"][0]["message"]


def input_for(model, message):
    results = [{"role": "tool", "tool_call_id": call["call_id"], "content": "3"} for call in CALLS]
    given = {"model": "m", "messages": [*USER, message, *results], "tools": TOOLS}
    assert params.validate(given) == []
    return orjson.loads(OPENAI.build(given, model).body)


def test_what_was_thought_goes_back_in_its_place():
    sent = input_for("gpt-6-astra", answered())
    assert sent["include"] == ["reasoning.encrypted_content"]
    found = [(item["type"], item.get("encrypted_content")) for item in sent["input"][1:5]]
    assert found == [("reasoning", "e1"), ("function_call", None), ("reasoning", "e2"), ("function_call", None)]
    assert sent["input"][1] == THOUGHTS[0]


def test_another_model_is_not_given_it():
    assert not [item for item in input_for("gpt-6.1-sol", answered())["input"] if item["type"] == "reasoning"]
    # Neither is anybody who is asked elsewhere
    message = answered()
    for provider, model in [("openai", "gpt-4o"), ("openai_compatible", "llama"), ("anthropic", "claude-haiku-5-5")]:
        body = adapter_for(provider).build({"model": "m", "messages": [*USER, message, *USER]}, model).body
        assert b"e1" not in body
        assert b"reasoning_items" not in body


def test_a_thought_that_led_to_nothing_stays_out():
    message = {"role": "assistant", "content": "x", "reasoning_items": answered()["reasoning_items"]}
    assert [item["type"] for item in input_for("gpt-6-astra", message)["input"][1:3]] == ["reasoning", "message"]


def test_through_anthropics_form_and_back():
    # Given an answer in Anthropic's form, sent back as it came
    message = message_of({"choices": [{"message": answered(), "finish_reason": "tool_calls"}]})
    blocks = message["content"]
    assert [block["type"] for block in blocks] == ["redacted_thinking"] * 2 + ["tool_use"] * 2
    body = {"model": "m", "max_tokens": 9, "messages": [*USER, {"role": "assistant", "content": blocks}, *USER]}
    made, errors = translate_request(body, to_claude=False)
    assert errors == []
    assert made["messages"][1]["reasoning_items"] == answered()["reasoning_items"]
    # Then Claude, who would refuse it, does not get it; nor does anybody what was changed on the way
    made, _ = translate_request(body, to_claude=True)
    assert b"redacted" not in adapter_for("anthropic").build(made, "claude-haiku-5-5").body
    blocks[0]["data"] += "?"
    made, _ = translate_request(body, to_claude=False)
    assert len(made["messages"][1]["reasoning_items"]) == 1
