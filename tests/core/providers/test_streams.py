"""Streams: the same outcome however the bytes are cut, and an honest one when the stream is not whole."""

import itertools

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from core.providers import adapter_for, sse
from core.providers.types import Failure, Success, Usage
from core.states import FailureReason

OPENAI = adapter_for("openai")
ANTHROPIC = adapter_for("anthropic")
ASKED = {"stream_options": {"include_usage": True}}


def lines(*events, names=False, end="\n"):
    out = ""
    for each in events:
        if each == "[DONE]":
            out += f"data: [DONE]{end}{end}"
            continue
        if names:
            out += f"event: {each['type']}{end}"
        out += f"data: {orjson.dumps(each).decode()}{end}{end}"
    return out.encode()


def chunk(delta=None, finish=None, usage=None, index=0):
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1795430400, "model": "gpt-6-sol"}
    choices = [] if delta is None else [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}]
    return {**head, "choices": choices, "usage": usage}


USAGE = {"prompt_tokens": 21, "completion_tokens": 4, "total_tokens": 25}
TEXT = (
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Für "}),
    chunk({"content": "4 \U0001f600."}),
    chunk({}, "stop"),
    chunk(usage=USAGE),
    "[DONE]",
)
CALLS = (
    chunk({"role": "assistant", "content": None}),
    chunk(
        {
            "tool_calls": [
                {"index": 0, "id": "call_7", "type": "function", "function": {"name": "get_stock", "arguments": ""}}
            ]
        }
    ),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"sku":'}}]}),
    chunk(
        {
            "tool_calls": [
                {"index": 1, "id": "call_8", "type": "function", "function": {"name": "get_stock", "arguments": "{}"}}
            ]
        }
    ),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"A-1"}'}}]}),
    chunk({}, "tool_calls"),
    "[DONE]",
)


def run(translator, data, cuts=()):
    edges = [0, *sorted(cuts), len(data)]
    out = b"".join(translator.feed(data[start:end]) for start, end in itertools.pairwise(edges))
    last, outcome = translator.finish()
    assert translator.ended
    return out + last, outcome


def without_usage(each):
    return {field: value for field, value in each.items() if field != "usage"}


def chunks_of(out):
    return [orjson.loads(part[6:]) for part in out.split(b"\n\n") if part.startswith(b"data: ")]


def test_openai_events_pass_unchanged():
    out, outcome = run(OPENAI.stream(ASKED), lines(*TEXT))
    assert out == lines(*TEXT[:-1]), "everything but [DONE], which waits until the completion is recorded"
    assert isinstance(outcome, Success)
    assert outcome.completion["choices"][0]["message"]["content"] == "Für 4 \U0001f600."
    assert outcome.completion["object"] == "chat.completion"
    assert outcome.completion["usage"] == USAGE
    assert outcome.usage == Usage(input_tokens=21, output_tokens=4)


def test_usage_that_nobody_asked_for_is_counted_and_withheld():
    out, outcome = run(OPENAI.stream({}), lines(*TEXT))
    assert out == lines(*map(without_usage, TEXT[:-2])), "OpenAI has the field in no chunk of such a stream"
    assert outcome.usage.output_tokens == 4


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices":[{"index":0,"delta":{"content":"a"}}],"usage":null,"obfuscation":"x"}',
        b'{"usage": null, "choices": [{"index": 0, "delta": {"content": "a"}}], "obfuscation": "x"}',
        b'{"choices":[{"delta":{"content":"a"},"usage":null}],"usage":null,"obfuscation":"x"}',
    ],
)
def test_a_chunk_loses_its_own_null_usage_only(data):
    expected = without_usage(orjson.loads(data))
    assert chunks_of(OPENAI.stream({}).feed(b"data: " + data + b"\n\n")) == [expected]
    assert OPENAI.stream(ASKED).feed(b"data: " + data + b"\n\n") == b"data: " + data + b"\n\n"


def test_calls_are_joined_by_index():
    _, outcome = run(OPENAI.stream({}), lines(*CALLS))
    message = outcome.completion["choices"][0]["message"]
    assert [(call["id"], call["function"]["arguments"]) for call in message["tool_calls"]] == [
        ("call_7", '{"sku":"A-1"}'),
        ("call_8", "{}"),
    ]
    assert message["content"] is None
    assert outcome.usage_reported is False


def test_choices_may_interleave():
    data = lines(
        chunk({"content": "a"}),
        chunk({"content": "b"}, index=1),
        chunk({}, "stop", index=1),
        chunk({}, "length"),
        "[DONE]",
    )
    _, outcome = run(OPENAI.stream({}), data)
    found = [(each["message"]["content"], each["finish_reason"]) for each in outcome.completion["choices"]]
    assert found == [("a", "length"), ("b", "stop")]


def test_the_first_token_is_the_first_piece_of_the_answer():
    translator = OPENAI.stream({})
    translator.feed(lines(TEXT[0]))
    assert translator.first_token is False
    translator.feed(lines(TEXT[1]))
    assert translator.first_token is True


def test_comments_become_keep_alives():
    assert OPENAI.stream({}).feed(b": OPENROUTER PROCESSING\n\n") == sse.KEEP_ALIVE


def test_a_server_that_ends_without_done():
    _, outcome = run(OPENAI.stream({}), lines(*TEXT[:-2]))
    assert isinstance(outcome, Success)


def test_an_event_without_its_last_blank_line():
    out, outcome = run(OPENAI.stream(ASKED), lines(*TEXT[:-2]).rstrip(b"\n"))
    assert isinstance(outcome, Success)
    assert out == lines(*TEXT[:-2])


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_a_stream_that_breaks_off(length):
    out, outcome = run(OPENAI.stream({}), lines(*TEXT[:length]))
    assert isinstance(outcome, Failure)
    assert outcome.reason is FailureReason.NETWORK
    assert chunks_of(out)[-1]["error"]["type"] == "network_error"
    if length == 3:
        assert outcome.partial["choices"][0]["message"]["content"] == "Für 4 \U0001f600."


def test_an_error_in_mid_stream():
    data = lines(TEXT[0], TEXT[1], {"error": {"message": "no sk-proj-abcdefgh", "type": "server_error"}}, TEXT[2])
    out, outcome = run(OPENAI.stream(ASKED), data)
    assert isinstance(outcome, Failure)
    assert (outcome.reason, outcome.message) == (FailureReason.PROVIDER_ERROR, "no ****")
    assert outcome.partial["choices"][0]["message"]["content"] == "Für "
    assert out == lines(TEXT[0], TEXT[1]) + sse.error_event(outcome)


@pytest.mark.parametrize(
    "data", [b"data: {\n\n", b"data: 1\n\n", b"data: [DONE]\n\n", b"data: " + b"x" * (sse.MAX_EVENT_BYTES + 1)]
)
def test_what_is_no_stream_of_chunks(data):
    _, outcome = run(OPENAI.stream({}), data)
    assert isinstance(outcome, Failure)
    assert outcome.reason is FailureReason.INVALID_RESPONSE


def test_a_client_that_goes_away():
    translator = ANTHROPIC.stream({})
    translator.feed(lines(*MESSAGE[:9], names=True))
    found = translator.interrupted(FailureReason.CANCELLED, "the client went away")
    assert found.usage == Usage(input_tokens=21, output_tokens=1)
    assert found.partial["choices"][0]["message"]["content"] == "Four"


MESSAGE = (
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-5-5",
            "content": [],
            "stop_reason": None,
            "usage": {"input_tokens": 21, "output_tokens": 1, "service_tier": "standard"},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "2+2"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Fo"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "ur"}},
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
    },
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ""}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"sku": '}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '"A-1"}'}},
    {"type": "content_block_stop", "index": 2},
    {"type": "some_new_event", "data": 1},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 40},
    },
    {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 44}},
    {"type": "message_stop"},
)


def test_anthropic_becomes_openai():
    out, outcome = run(ANTHROPIC.stream(ASKED), lines(*MESSAGE, names=True))
    deltas = [each["choices"][0]["delta"] for each in chunks_of(out) if each["choices"]]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "2+2"},
        {"thinking_blocks": [{"index": 0, "type": "thinking", "thinking": "2+2", "signature": "c2ln"}]},
        {"content": "Fo"},
        {"content": "ur"},
        {"tool_calls": [{"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"sku": '}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"A-1"}'}}]},
        {},
    ]
    assert sse.KEEP_ALIVE in out
    *_, last, usage = chunks_of(out)
    assert last["choices"][0]["finish_reason"] == "tool_calls"
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 65)
    assert {each["id"] for each in chunks_of(out)} == {"msg_1"}
    assert outcome.usage == Usage(input_tokens=21, output_tokens=44)
    message = outcome.completion["choices"][0]["message"]
    assert message["content"] == "Four"
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"sku": "A-1"}'}
    assert outcome.completion["service_tier"] == "default"


def ended_by(delta):
    """Claude's message whose end says `delta`."""
    return [*MESSAGE[:-3], {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 4}}, MESSAGE[-1]]


@pytest.mark.parametrize(
    ("delta", "finish", "rest"),
    [
        ({"stop_reason": "tool_use"}, "tool_calls", None),
        ({"stop_reason": "max_tokens"}, "length", None),
        (
            {"stop_reason": "stop_sequence", "stop_sequence": "END"},
            "stop",
            {"stop_reason": "stop_sequence", "stop_sequence": "END"},
        ),
        ({"stop_reason": "pause_turn"}, "length", {"stop_reason": "pause_turn"}),
        ({"stop_reason": "model_context_window_exceeded"}, "length", {"stop_reason": "model_context_window_exceeded"}),
        (
            {"stop_reason": "refusal", "stop_details": {"type": "refusal", "category": "cyber", "explanation": "No."}},
            "content_filter",
            {"stop_details": {"type": "refusal", "category": "cyber", "explanation": "No."}},
        ),
    ],
)
def test_how_claude_ended_is_told_in_the_last_chunk(delta, finish, rest):
    out, outcome = run(ANTHROPIC.stream({}), lines(*ended_by(delta), names=True))
    last = chunks_of(out)[-1]
    assert (last["choices"][0]["finish_reason"], last.get("anthropic")) == (finish, rest)
    # The same that an answer says that does not stream
    told = outcome.completion.get("anthropic") or {}
    assert {field: told[field] for field in told if field.startswith("stop_")} == (rest or {})


def test_openais_package_takes_a_message_that_thinks_twice():
    thinking = [
        {"type": "content_block_start", "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
        {"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "c2ln"}},
        {"type": "content_block_stop"},
    ]
    out, _ = run(ANTHROPIC.stream({}), lines(MESSAGE[0], *thinking, *thinking, *ended_by({})[-2:], names=True))
    state = ChatCompletionStreamState()
    for chunk in chunks_of(out):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    blocks = state.current_completion_snapshot.choices[0].message.model_extra["thinking_blocks"]
    assert [block["signature"] for block in blocks] == ["c2ln", "c2ln"]
    # Sent back as the package has them, they are Claude's again
    message = {"role": "assistant", "content": None, "thinking_blocks": blocks}
    body = orjson.loads(
        ANTHROPIC.build(
            {"messages": [{"role": "user", "content": "x"}, message, {"role": "user", "content": "x"}]},
            "claude-haiku-5-5",
        ).body
    )
    assert body["messages"][1]["content"] == [{"type": "thinking", "thinking": "", "signature": "c2ln"}] * 2


def test_no_usage_chunk_unless_asked():
    out, _ = run(ANTHROPIC.stream({}), lines(*MESSAGE, names=True))
    assert all("usage" not in each for each in chunks_of(out))


def test_the_stream_and_its_record_agree():
    out, outcome = run(ANTHROPIC.stream(ASKED), lines(*MESSAGE, names=True))
    _, again = run(OPENAI.stream(ASKED), out + sse.DONE)
    theirs, ours = outcome.completion["choices"][0], again.completion["choices"][0]
    theirs["message"].pop("thinking_blocks")
    assert ours == theirs
    assert again.usage == outcome.usage


@pytest.mark.parametrize("length", range(len(MESSAGE)))
def test_anthropic_without_message_stop_is_cut_off(length):
    _, outcome = run(ANTHROPIC.stream({}), lines(*MESSAGE[:length], names=True))
    assert isinstance(outcome, Failure)
    assert outcome.reason is FailureReason.NETWORK


def test_an_overload_in_mid_stream():
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_9"}
    out, outcome = run(ANTHROPIC.stream({}), lines(*MESSAGE[:8], error, names=True))
    assert isinstance(outcome, Failure)
    assert (outcome.reason, outcome.usage) == (FailureReason.OVERLOADED, Usage(input_tokens=21, output_tokens=1))
    assert chunks_of(out)[-1]["error"]["message"] == "Overloaded"


def test_a_refusal_in_a_stream():
    stop = {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": {"explanation": "No."}}}
    out, outcome = run(ANTHROPIC.stream({}), lines(MESSAGE[0], stop, {"type": "message_stop"}, names=True))
    choice = chunks_of(out)[-1]["choices"][0]
    assert (choice["finish_reason"], choice["delta"]) == ("content_filter", {"refusal": "No."})
    assert outcome.completion["choices"][0]["message"]["refusal"] == "No."


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@settings(deadline=None)
@given(data=st.data())
def test_the_cut_of_the_bytes_does_not_matter(end, data):
    for adapter, raw in ((OPENAI, lines(*TEXT, end=end)), (ANTHROPIC, lines(*MESSAGE, names=True, end=end))):
        cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=40))
        whole_out, whole = run(adapter.stream(ASKED), raw)
        cut_out, cut = run(adapter.stream(ASKED), raw, cuts)
        for each in (whole, cut):
            assert isinstance(each, Success)
            each.completion["created"] = 0
        assert cut == whole
        assert [each["choices"] for each in chunks_of(cut_out)] == [each["choices"] for each in chunks_of(whole_out)]


@settings(deadline=None)
@given(
    st.lists(
        st.binary(max_size=60)
        | st.sampled_from(
            [
                b"data: ",
                b"\n\n",
                b"\r",
                b": x",
                b'{"type":"message_start"}',
                b'{"choices":[{"delta":{"tool_calls":[{}]}}]}',
            ]
        ),
        max_size=20,
    )
)
def test_no_bytes_make_a_translator_fail(pieces):
    for adapter in (OPENAI, ANTHROPIC):
        translator = adapter.stream(ASKED)
        for piece in pieces:
            translator.feed(piece)
        last, outcome = translator.finish()
        assert isinstance(outcome, (Success, Failure))
        assert isinstance(last, bytes)


EVENT = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted({each["type"] for each in MESSAGE}))},
    optional={
        "message": st.none()
        | st.fixed_dictionaries(
            {}, optional={"id": st.integers(0, 9), "usage": st.none() | st.just({"input_tokens": "x"})}
        ),
        "content_block": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "type": st.sampled_from(["text", "tool_use", "thinking", 3]),
                "text": st.integers(0, 9),
                "name": st.none(),
            },
        ),
        "delta": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "type": st.sampled_from(["text_delta", "input_json_delta", "thinking_delta", 3]),
                "text": st.text() | st.none(),
                "partial_json": st.text(),
                "stop_reason": st.integers(0, 9) | st.text(),
            },
        ),
        "usage": st.none() | st.integers(0, 9),
    },
)


@settings(deadline=None)
@given(st.lists(EVENT, max_size=12))
def test_no_order_of_events_makes_the_translator_fail(events):
    out, outcome = run(ANTHROPIC.stream(ASKED), lines(*events, names=True))
    assert isinstance(outcome, (Success, Failure))
    chunks_of(out)
