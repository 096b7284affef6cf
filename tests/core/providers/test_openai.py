"""OpenAI's adapter: what is sent, what is refused, what is read."""

import orjson
import pytest

from core import catalogue
from core.providers import adapter_for
from core.providers.types import Failure, Success
from core.states import FailureReason

OPENAI = adapter_for("openai")
COMPATIBLE = adapter_for("openai_compatible")
USER = [{"role": "user", "content": "2+2?"}]
TOOLS = [{"type": "function", "function": {"name": "get_stock"}}]


def sent(model: str, adapter=OPENAI, *, stream: bool = False, **params):
    given = {"model": "alias", "messages": USER, **params}
    request = adapter.build(given, model, stream=stream)
    assert request.path == "/chat/completions"
    assert given == {"model": "alias", "messages": USER, **params}, "the caller's parameters are left as they were"
    return orjson.loads(request.body)


def refused(model: str, **params):
    return {error.pointer for error in OPENAI.check({"messages": USER, **params}, catalogue.find(model))}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4", 0.7),
        ("gpt-3.5-turbo", 0.7),
        ("gpt-4o", 0.7),
        ("gpt-4o-2024-08-06", 0.7),
        ("gpt-5.2", 0.7),  # its default effort is none
        ("gpt-5", None),
        ("gpt-6-luna", None),
        ("gpt-6-astra", None),
        ("o3", None),
        ("o1", None),
        ("gpt-9-unheard-of", None),
    ],
)
def test_the_default_temperature_goes_only_where_it_is_accepted(model, expected):
    assert sent(model).get("temperature") == expected


def test_the_callers_temperature_is_kept_and_null_asks_for_the_providers_default():
    assert sent("gpt-4o", temperature=0)["temperature"] == 0
    assert "temperature" not in sent("gpt-4o", temperature=None)
    assert sent("gpt-9-unheard-of", temperature=0.2)["temperature"] == 0.2


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ("gpt-4", "max_tokens"),
        ("gpt-4o", "max_tokens"),
        ("gpt-5", "max_completion_tokens"),
        ("o1", "max_completion_tokens"),
    ],
)
def test_the_output_limit_is_spelt_as_the_model_wants_it(model, field):
    body = sent(model, max_tokens=50)
    assert {key: value for key, value in body.items() if key.startswith("max_")} == {field: 50}


@pytest.mark.parametrize(
    ("model", "params", "pointers"),
    [
        ("gpt-4o", {"stop": "x", "temperature": 2, "tools": TOOLS}, set()),
        ("gpt-4o", {"reasoning_effort": "low"}, {"/reasoning_effort"}),
        ("gpt-4o", {"max_tokens": 16_385}, {"/max_tokens"}),
        ("gpt-5", {"temperature": 0.2, "top_p": 0.5, "stop": "x"}, {"/temperature", "/top_p", "/stop"}),
        ("gpt-5", {"temperature": 1, "top_p": 1, "stop": [], "frequency_penalty": 0, "logit_bias": {}}, set()),
        ("gpt-5", {"reasoning_effort": "none"}, {"/reasoning_effort"}),
        ("gpt-5", {"reasoning_effort": "minimal", "tools": TOOLS}, set()),
        ("gpt-5.2", {"temperature": 0.2}, set()),
        ("gpt-5.2", {"temperature": 0.2, "reasoning_effort": "low"}, {"/temperature"}),
        ("gpt-6-luna", {"temperature": 0.2}, {"/temperature"}),
        ("gpt-6-luna", {"temperature": 0.2, "reasoning_effort": "none"}, set()),
        ("gpt-6-luna", {"tools": TOOLS}, set()),
        ("gpt-6-luna", {"tools": TOOLS, "reasoning_effort": "low"}, set()),
        ("gpt-6-astra", {"tools": TOOLS}, set()),
        ("gpt-6-astra", {"reasoning_effort": "max"}, set()),
        ("gpt-5.5-pro", {}, set()),
        ("gpt-5.5-pro", {"n": 2, "stop": "x", "temperature": 0.2}, {"/n", "/stop", "/temperature"}),
        ("o3", {"temperature": 0.5}, {"/temperature"}),
        ("gpt-4o", {"thinking": {"type": "adaptive"}, "top_k": 3}, {"/thinking", "/top_k"}),
        ("gpt-9-unheard-of", {"temperature": 0.2, "stop": "x", "tools": TOOLS}, set()),
    ],
)
def test_what_a_model_cannot_do_is_named(model, params, pointers):
    assert refused(model, **params) == pointers


def test_an_error_names_the_model_and_the_field():
    (error,) = OPENAI.check({"messages": USER, "temperature": 0.2}, catalogue.find("gpt-5"))
    assert "gpt-5" in error.message
    assert "temperature" in error.message


def test_values_that_ask_for_nothing_are_left_out_where_the_field_is_refused():
    body = sent("gpt-5", temperature=1, top_p=1, stop=[], presence_penalty=0, logprobs=False)
    assert set(body) == {"model", "messages"}


def test_tools_on_models_that_take_them_only_without_reasoning():
    assert sent("gpt-6-luna", tools=TOOLS)["reasoning_effort"] == "none"
    assert "reasoning_effort" not in sent("gpt-5", tools=TOOLS)


def test_a_stream_always_reports_usage():
    body = sent("gpt-4o", stream=True)
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True, "include_obfuscation": False}


def test_without_streaming_the_switch_and_its_options_are_not_sent():
    body = sent("gpt-4o", stream_options={"include_usage": True})
    assert "stream" not in body
    assert "stream_options" not in body


def test_what_claude_added_to_a_message_does_not_reach_openai():
    message = {"role": "assistant", "content": "4", "thinking_blocks": [{"type": "thinking"}], "reasoning_content": "x"}
    body = orjson.loads(OPENAI.build({"model": "m", "messages": [message]}, "gpt-4o").body)
    assert body["messages"] == [{"role": "assistant", "content": "4"}]


def test_reasoning_goes_back_to_the_server_that_gave_it():
    # DeepSeek refuses a conversation without it; what Claude thought has nothing to do with it
    message = {"role": "assistant", "content": "4", "reasoning_content": "2+2"}
    assert sent("llama", COMPATIBLE, messages=[message])["messages"] == [message]
    assert sent("gpt-4o", messages=[message])["messages"] == [{"role": "assistant", "content": "4"}]
    claudes = {**message, "thinking_blocks": [{"type": "thinking", "thinking": "2+2", "signature": "c"}]}
    assert sent("llama", COMPATIBLE, messages=[claudes])["messages"] == [{"role": "assistant", "content": "4"}]


def test_a_compatible_server_gets_the_callers_fields():
    body = sent("llama", COMPATIBLE, min_p=0.1, max_tokens=5)
    assert body == {"model": "llama", "messages": USER, "min_p": 0.1, "max_tokens": 5, "temperature": 0.7}
    assert "temperature" not in sent("o3", COMPATIBLE)
    assert COMPATIBLE.check({"min_p": 1}, catalogue.find("llama", "openai_compatible")) == []


def test_credentials():
    assert OPENAI.credential_headers("sk-1", "org-1") == {
        "authorization": "Bearer sk-1",
        "openai-organization": "org-1",
    }
    assert OPENAI.credential_headers("sk-1") == {"authorization": "Bearer sk-1"}


COMPLETION = {
    "id": "chatcmpl-abc",
    "object": "chat.completion",
    "created": 1795430400,
    "model": "gpt-6-sol",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Four."}}],
    "usage": {
        "prompt_tokens": 21,
        "completion_tokens": 14,
        "total_tokens": 35,
        "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 10},
    },
    "service_tier": "flex",
}


def test_an_answer_is_read_as_it_is():
    found = OPENAI.parse(200, {}, orjson.dumps(COMPLETION))
    assert isinstance(found, Success)
    assert found.completion == COMPLETION
    assert (found.model, found.completion["service_tier"], found.usage_reported) == ("gpt-6-sol", "flex", True)
    usage = found.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (21, 14, 8)
    assert (usage.cache_write_tokens, usage.reasoning_tokens) == (2, 10)


def test_what_compatible_servers_leave_out_is_filled_in():
    found = COMPATIBLE.parse(200, {}, b'{"choices":[{"message":{"role":"assistant","content":"4"}}]}')
    assert isinstance(found, Success)
    assert found.completion["object"] == "chat.completion"
    assert found.completion["id"].startswith("chatcmpl-")
    assert found.completion["created"] > 0
    assert found.usage_reported is False


@pytest.mark.parametrize(
    "usage", [None, 3, "x", {}, {"prompt_tokens": -1, "completion_tokens": "7"}, {"prompt_tokens": True}]
)
def test_broken_usage_counts_as_none(usage):
    found = OPENAI.parse(200, {}, orjson.dumps({**COMPLETION, "usage": usage}))
    assert isinstance(found, Success)
    assert (found.usage.input_tokens, found.usage.output_tokens) == (0, 0)


def test_half_a_surrogate_pair_in_a_paid_answer_is_mended():
    body = rb'{"choices":[{"message":{"content":"a\ud83d b\ud83d\ude00 \\ud83d"}}]}'
    found = OPENAI.parse(200, {}, body)
    assert isinstance(found, Success)
    assert found.completion["choices"][0]["message"]["content"] == "a\ufffd b\U0001f600 \\ud83d"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"<html>ok</html>",
        orjson.dumps(COMPLETION)[:-20],
        b'{"choices":[]}',
        b'{"choices":[null]}',
        b'{"choices":[{"message":null}]}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_200_that_is_no_answer(body):
    found = OPENAI.parse(200, {}, body)
    assert isinstance(found, Failure)
    assert found.reason is FailureReason.INVALID_RESPONSE


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": {"message": "m", "type": "server_error"}}, FailureReason.PROVIDER_ERROR),
        ({"error": {"message": "m", "code": 402}}, FailureReason.QUOTA_EXHAUSTED),
        ({"error": {"message": "m", "code": "rate_limit_exceeded"}}, FailureReason.RATE_LIMITED),
        ({"error": "broken"}, FailureReason.PROVIDER_ERROR),
        ({"choices": [{"message": {}, "finish_reason": "error"}]}, FailureReason.PROVIDER_ERROR),
    ],
)
def test_an_error_inside_a_200(body, reason):
    found = OPENAI.parse(200, {}, orjson.dumps(body))
    assert isinstance(found, Failure)
    assert found.reason is reason


def test_counters_that_no_column_holds_count_as_none():
    usage = {"prompt_tokens": 2**31, "completion_tokens": 7}
    body = {"choices": [{"message": {"role": "assistant", "content": "4"}}], "usage": usage}
    answer = COMPATIBLE.parse(200, {}, orjson.dumps(body))
    assert isinstance(answer, Success)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (0, 7)
