"""Completions as Anthropic's messages: golden tables, and Claude's messages there and back without a loss."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.providers import adapter_for
from core.providers.from_anthropic_answer import message_of
from core.providers.types import Success

ANTHROPIC = adapter_for("anthropic")
USAGE = {
    "input_tokens": 21,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 7,
    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3},
    "output_tokens": 44,
    "output_tokens_details": {"thinking_tokens": 20},
    "server_tool_use": {"web_search_requests": 1},
    "service_tier": "priority",
    "inference_geo": "us",
    "speed": "standard",
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5-5",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "text", "text": "Four."},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "stop_details": None,
    "container": None,
    "usage": USAGE,
}


def completion_of(message):
    found = ANTHROPIC.parse(200, {}, orjson.dumps(message))
    assert isinstance(found, Success)
    return orjson.loads(orjson.dumps(found.completion))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stop_reason": "stop_sequence", "stop_sequence": "###"},
        {"stop_reason": "model_context_window_exceeded"},
        {"stop_reason": "pause_turn"},
        {"stop_reason": "something_new"},
        {
            "stop_reason": "refusal",
            "content": [],
            "stop_details": {"type": "refusal", "category": "cyber", "explanation": "No."},
        },
        {"container": {"id": "container_1", "expires_at": "2026-11-23T10:00:00Z"}},
        {"content": [{"type": "text", "text": "Fo"}, {"type": "text", "text": "ur."}]},
        {
            "content": [
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
                {"type": "text", "text": "It is.", "citations": [{"type": "web_search_result_location"}]},
            ]
        },
        {"context_management": {"applied_edits": []}},
    ],
)
def test_claudes_messages_come_back_exactly(changes):
    message = {**MESSAGE, **changes}
    assert message_of(completion_of(message)) == message


def test_what_openais_form_says_is_not_kept_twice():
    plain = {**MESSAGE, "usage": {"input_tokens": 1, "output_tokens": 2, "service_tier": "standard"}}
    assert "anthropic" not in completion_of(plain)
    assert completion_of(MESSAGE)["anthropic"] == {
        "usage": {field: USAGE[field] for field in ("cache_creation", "server_tool_use", "inference_geo", "speed")}
    }


def completion(message=None, finish_reason="stop", **fields):
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", **(message or {})}}
    return {
        "id": "chatcmpl-8f3a",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o",
        "choices": [choice],
        "usage": {
            "prompt_tokens": 33,
            "completion_tokens": 44,
            "prompt_tokens_details": {"cached_tokens": 7, "cache_write_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
        "service_tier": "default",
        **fields,
    }


def test_a_completion_becomes_a_message():
    message = message_of(completion({"content": "Four."}))
    usage = message.pop("usage")
    assert message == {
        "id": "msg_8f3a",
        "type": "message",
        "role": "assistant",
        "model": "gpt-4o",
        "content": [{"type": "text", "text": "Four."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
    }
    assert (usage["input_tokens"], usage["output_tokens"], usage["service_tier"]) == (21, 44, "standard")
    assert (usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]) == (7, 5)
    assert usage["output_tokens_details"] == {"thinking_tokens": 20}


def call(arguments, id="call_1"):
    return {"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}}


@pytest.mark.parametrize(
    ("message", "finish_reason", "content", "stop_reason"),
    [
        ({"content": ""}, "stop", [], "end_turn"),
        ({"content": "a"}, "length", [{"type": "text", "text": "a"}], "max_tokens"),
        (
            {"content": None, "tool_calls": [call('{"a":1}')]},
            "tool_calls",
            [{"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}}],
            "tool_use",
        ),
        (
            {"content": None, "tool_calls": [call("")]},
            "stop",
            [{"type": "tool_use", "id": "call_1", "name": "f", "input": {}}],
            "tool_use",
        ),
        (
            {"content": None, "tool_calls": [call('{"a":')]},
            "length",
            [{"type": "tool_use", "id": "call_1", "name": "f", "input": {"unreadable_arguments": '{"a":'}}],
            "max_tokens",
        ),
        # what compatible servers do
        (
            {"content": [{"type": "text", "text": "a"}], "tool_calls": [{**call("{}"), "id": None}]},
            "tool_calls",
            [{"type": "text", "text": "a"}, {"type": "tool_use", "id": "toolu_0", "name": "f", "input": {}}],
            "tool_use",
        ),
        (
            {"content": "a", "reasoning_content": "hm"},
            "stop",
            [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "a"}],
            "end_turn",
        ),
    ],
)
def test_content_and_stop_reason(message, finish_reason, content, stop_reason):
    found = message_of(completion(message, finish_reason))
    assert (found["content"], found["stop_reason"]) == (content, stop_reason)


@pytest.mark.parametrize("finish_reason", ["stop", "content_filter"])
def test_a_refusal_is_explained(finish_reason):
    found = message_of(completion({"content": None, "refusal": "No."}, finish_reason))
    assert (found["content"], found["stop_reason"]) == ([], "refusal")
    assert found["stop_details"] == {"type": "refusal", "category": None, "explanation": "No."}


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
OBJECTS = st.dictionaries(WORDS, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS, max_size=3)
BLOCKS = st.one_of(
    st.builds(lambda words: {"type": "text", "text": words}, WORDS),
    st.builds(lambda a, b: {"type": "thinking", "thinking": a, "signature": b}, st.text(max_size=5), WORDS),
    st.builds(lambda id, input: {"type": "tool_use", "id": id, "name": "f", "input": input}, WORDS, OBJECTS),
    st.builds(lambda more: {**more, "type": "web_search_tool_result"}, OBJECTS),
)


@given(
    st.lists(BLOCKS, max_size=4),
    st.sampled_from(["end_turn", "stop_sequence", "max_tokens", "tool_use", "pause_turn", "refusal"]),
)
def test_every_message_comes_back_exactly(content, stop_reason):
    message = {**MESSAGE, "content": content, "stop_reason": stop_reason}
    assert message_of(completion_of(message)) == message
