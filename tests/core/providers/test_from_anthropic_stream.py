"""Streams on Anthropic's surface: OpenAI's chunks as named events, and Claude's own events untouched."""

import orjson
import pytest

from core.providers import adapter_for
from core.providers.anthropic_native import MessagesParams
from core.providers.from_anthropic_answer import message_of
from core.providers.from_anthropic_stream import MessageEvents
from core.providers.sse import DONE
from core.providers.types import Failure, Success


def translator():
    return MessageEvents(request_id="req_1", input_tokens=12)


def chunk(delta=None, finish_reason=None, **fields):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    value = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-4o", "choices": choices, **fields}
    return b"data: " + orjson.dumps(value) + b"\n\n"


def decoded(stream):
    """(name, data) of every event; the two must agree."""
    found = []
    for block in stream.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        found.append(orjson.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def events_of(*pieces):
    events = translator()
    return decoded(b"".join(events.feed(piece) for piece in pieces))


USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def test_text():
    found = events_of(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Fo"}),
        chunk({"content": "ur."}),
        b": ping\n\n",
        chunk({}, "stop"),
        chunk(usage=USAGE),
        DONE,
    )
    assert [each["type"] for each in found] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "ping",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start = found[0]["message"]
    assert (start["id"], start["model"], start["content"]) == ("msg_1", "gpt-4o", [])
    assert start["usage"]["input_tokens"] == 12
    assert found[3] == {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Fo"}}
    assert found[7]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None}
    usage = found[7]["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (12, 8, 5)


def call(index, arguments="", **more):
    return {"index": index, "function": {"arguments": arguments, **more.pop("function", {})}, **more}


def test_thinking_text_and_parallel_calls():
    found = events_of(
        chunk({"role": "assistant"}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "See:"}),
        chunk({"tool_calls": [call(0, id="call_0", function={"name": "f"})]}),
        chunk({"tool_calls": [call(0, '{"a"')]}),
        chunk({"tool_calls": [call(0, ":1}"), call(1, "{}", id="call_1", function={"name": "g"})]}),
        chunk({}, "tool_calls"),
        DONE,
    )
    blocks = [each["content_block"] for each in found if each["type"] == "content_block_start"]
    assert blocks == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "call_0", "name": "f", "input": {}},
        {"type": "tool_use", "id": "call_1", "name": "g", "input": {}},
    ]
    pieces = [(each["index"], each["delta"]) for each in found if each["type"] == "content_block_delta"]
    assert pieces == [
        (0, {"type": "thinking_delta", "thinking": "hm"}),
        (1, {"type": "text_delta", "text": "See:"}),
        (2, {"type": "input_json_delta", "partial_json": '{"a"'}),
        (2, {"type": "input_json_delta", "partial_json": ":1}"}),
        (3, {"type": "input_json_delta", "partial_json": "{}"}),
    ]
    assert [each["index"] for each in found if each["type"] == "content_block_stop"] == [0, 1, 2, 3]
    assert found[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_call_that_was_left_cannot_go_on():
    found = events_of(
        chunk({"tool_calls": [call(0, id="a", function={"name": "f"}), call(1, id="b", function={"name": "g"})]}),
        chunk({"tool_calls": [call(0, "{}")]}),
        chunk({}, "tool_calls"),
        DONE,
    )
    assert found[-1]["type"] == "error"


def test_a_refusal():
    found = events_of(chunk({"refusal": "No"}), chunk({"refusal": "."}), chunk({}, "stop"), DONE)
    assert found[-2]["delta"] == {
        "stop_reason": "refusal",
        "stop_sequence": None,
        "stop_details": {"type": "refusal", "category": None, "explanation": "No."},
    }


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("overloaded", "overloaded_error"),
        ("rate_limited", "rate_limit_error"),
        ("timeout", "timeout_error"),
        ("network_error", "api_error"),
        ("invalid_request", "invalid_request_error"),
    ],
)
def test_an_error_in_mid_stream_is_the_last_event(reason, kind):
    failed = b"data: " + orjson.dumps({"error": {"message": "m", "type": reason, "code": None}}) + b"\n\n"
    found = events_of(chunk({"content": "a"}), failed)
    assert found[-1] == {"type": "error", "error": {"type": kind, "message": "m"}, "request_id": "req_1"}


# Claude's own.


def event(kind, **fields):
    return f"event: {kind}\ndata: ".encode() + orjson.dumps({"type": kind, **fields}) + b"\n\n"


def claudes_events():
    usage = {"input_tokens": 21, "cache_read_input_tokens": 3, "output_tokens": 1, "service_tier": "standard"}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5", "content": []}
    blocks = [
        ({"type": "thinking", "thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": "hm"}),
        (None, {"type": "signature_delta", "signature": "c2ln"}),
        (
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"query":"x"}'},
        ),
        ({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}, None),
        ({"type": "text", "text": ""}, {"type": "text_delta", "text": "Four"}),
        (None, {"type": "citations_delta", "citation": {"type": "web_search_result_location", "url": "u"}}),
        (
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"a":1}'},
        ),
    ]
    events = [event("message_start", message={**message, "usage": usage}), event("ping")]
    index = -1
    for start, delta in blocks:
        if start is not None:
            if index >= 0:
                events.append(event("content_block_stop", index=index))
            index += 1
            events.append(event("content_block_start", index=index, content_block=start))
        if delta is not None:
            events.append(event("content_block_delta", index=index, delta=delta))
    events.append(event("content_block_stop", index=index))
    ending = {"stop_reason": "stop_sequence", "stop_sequence": "###", "stop_details": None}
    events.append(event("message_delta", delta=ending, usage={"output_tokens": 44}))
    events.append(event("something_new", x=1))
    events.append(event("message_stop"))
    return events


def native():
    return adapter_for("anthropic").stream(MessagesParams())


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_claudes_events_pass_as_they_are(size):
    given = b"".join(claudes_events())
    stream, events = native(), translator()
    out = b"".join(
        events.feed(piece) for at in range(0, len(given), size) if (piece := stream.feed(given[at : at + size]))
    )
    # The end waits until the answer is recorded.
    assert out == b"".join(claudes_events()[:-1])
    last, outcome = stream.finish()
    assert isinstance(outcome, Success)
    assert events.feed(last + DONE) == event("message_stop")
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (24, 44)
    # What is logged says it all, too
    message = message_of(outcome.completion)
    assert [block["type"] for block in message["content"]] == [
        "thinking",
        "server_tool_use",
        "web_search_tool_result",
        "text",
        "tool_use",
    ]
    assert message["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    assert message["content"][1]["input"] == {"query": "x"}
    assert message["content"][3]["citations"] == [{"type": "web_search_result_location", "url": "u"}]
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "###")


def test_claudes_stream_that_breaks_off_ends_in_an_error():
    stream, events = native(), translator()
    given = claudes_events()[:4]
    assert events.feed(stream.feed(b"".join(given))) == b"".join(given)
    last, outcome = stream.finish()
    assert isinstance(outcome, Failure)
    (failed,) = decoded(events.feed(last))
    assert (failed["type"], failed["error"]["type"], failed["request_id"]) == ("error", "api_error", "req_1")


def test_claudes_error_event_is_told_once():
    stream, events = native(), translator()
    failed = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    assert events.feed(stream.feed(claudes_events()[0] + failed)) == claudes_events()[0]
    last, outcome = stream.finish()
    assert isinstance(outcome, Failure)
    (told,) = decoded(events.feed(last))
    assert told["error"] == {"type": "overloaded_error", "message": "Overloaded"}


def test_other_callers_of_claude_get_chunks():
    stream = adapter_for("anthropic").stream({"model": "x"})
    assert stream.feed(b"".join(claudes_events()[:2])).startswith(b"data: {")
