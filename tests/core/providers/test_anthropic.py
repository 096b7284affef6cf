"""Anthropic's adapter: golden translations of requests and answers, and what is refused by name."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import catalogue
from core.errors import InvalidInput
from core.providers import adapter_for
from core.providers.types import Failure, Success
from core.states import FailureReason

ANTHROPIC = adapter_for("anthropic")
USER = [{"role": "user", "content": "2+2?"}]
TOOLS = [{"type": "function", "function": {"name": "get_stock", "description": "d", "parameters": {"type": "object"}}}]
OLD, NEW, NEWEST = "claude-sonnet-4-5", "claude-haiku-5-5", "claude-opus-5-5"


def request(model: str = NEW, *, stream: bool = False, **params):
    given = {"model": "alias", "messages": USER, **params}
    before = orjson.dumps(given)
    built = ANTHROPIC.build(given, model, stream=stream)
    assert orjson.dumps(given) == before, "the caller's parameters are left as they were"
    assert built.path == "/v1/messages"
    return built


def sent(model: str = NEW, **params):
    """The body without what every body has."""
    body = orjson.loads(request(model, **params).body)
    assert body.pop("model") == model
    return body


def turns(*messages, model: str = NEW):
    body = sent(model, messages=list(messages))
    return body.get("system"), body["messages"]


def refused(model: str = NEW, **params):
    given = {"messages": USER, **params}
    errors = ANTHROPIC.check(given, catalogue.find(model))
    if errors:
        with pytest.raises(InvalidInput):
            ANTHROPIC.build(given, model)
    return {error.pointer for error in errors}


def test_a_plain_request():
    assert sent(NEW) == {"messages": USER, "max_tokens": 16_384}
    assert sent(OLD) == {"messages": USER, "max_tokens": 16_384, "temperature": 0.7}


@pytest.mark.parametrize(
    ("model", "params", "version"),
    [
        (OLD, {}, "2023-06-01"),
        (OLD, {"temperature": None}, "2026-10-21"),
        (NEW, {}, "2026-10-21"),
        ("claude-sonnet-4-6", {"top_p": 0.5}, "2023-06-01"),
        ("claude-3-5-sonnet-20241022", {}, "2023-06-01"),
        ("claude-future-9", {}, "2026-10-21"),
        ("claude-future-9", {"temperature": 0.1}, "2023-06-01"),
    ],
)
def test_the_version_follows_the_sampling_parameters(model, params, version):
    assert request(model, **params).headers["anthropic-version"] == version


def test_output_limits():
    assert sent(max_tokens=5)["max_tokens"] == 5
    assert sent(max_completion_tokens=6)["max_tokens"] == 6
    assert sent("claude-3-5-sonnet-20241022")["max_tokens"] == 8192
    assert refused(max_tokens=128_001) == {"/max_tokens"}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"stop": "x"}, {"stop_sequences": ["x"]}),
        ({"stop": ["x", "y"]}, {"stop_sequences": ["x", "y"]}),
        ({"stop": []}, {}),
        ({"user": "u"}, {"metadata": {"user_id": "u"}}),
        ({"user": "u", "safety_identifier": "s"}, {"metadata": {"user_id": "s"}}),
        ({"service_tier": "auto"}, {"service_tier": "auto"}),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}),
        ({"prompt_cache_options": {"mode": "implicit"}}, {"cache_control": {"type": "ephemeral"}}),
        (
            {"prompt_cache_options": {"mode": "implicit", "ttl": "30m"}},
            {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
        ),
        ({"prompt_cache_options": {"mode": "explicit"}}, {}),
        ({"cache_control": {"type": "ephemeral"}}, {"cache_control": {"type": "ephemeral"}}),
        ({"response_format": {"type": "text"}}, {}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "strict": True, "schema": {"type": "object"}},
                }
            },
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        ),
        (
            {"response_format": {"type": "json_object"}},
            {"system": "Answer with a single JSON object and nothing else."},
        ),
        ({"temperature": 1, "top_p": 1}, {}),
        (
            {
                "n": 1,
                "frequency_penalty": 0,
                "presence_penalty": 0.0,
                "logit_bias": {},
                "logprobs": False,
                "store": False,
                "verbosity": "medium",
                "modalities": ["text"],
                "seed": None,
            },
            {},
        ),
        (
            {
                "metadata": {"a": "b"},
                "prompt_cache_key": "k",
                "stream_options": {"include_usage": True},
            },
            {},
        ),
    ],
)
def test_fields(params, expected):
    assert sent(**params) == {"messages": USER, "max_tokens": 16_384, **expected}


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"n": 2}, "/n"),
        ({"seed": 1}, "/seed"),
        ({"logprobs": True}, "/logprobs"),
        ({"logit_bias": {"1": 2}}, "/logit_bias"),
        ({"frequency_penalty": 0.1}, "/frequency_penalty"),
        ({"prediction": {"type": "content"}}, "/prediction"),
        ({"audio": {}}, "/audio"),
        ({"modalities": ["text", "audio"]}, "/modalities"),
        ({"web_search_options": {}}, "/web_search_options"),
        ({"functions": [{"name": "f"}]}, "/functions"),
        ({"store": True}, "/store"),
        ({"verbosity": "low"}, "/verbosity"),
        ({"service_tier": "flex"}, "/service_tier"),
        ({"min_p": 0.1}, "/min_p"),
        ({"temperature": 0.2}, "/temperature"),
        ({"top_k": 5}, "/top_k"),
        ({"messages": [{"role": "user", "content": "x", "name": "Ann"}]}, "/messages/0/name"),
        ({"messages": [{"role": "system", "content": "x"}]}, "/messages"),
        ({"messages": [*USER, {"role": "assistant", "content": "The"}]}, "/messages/1"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "/messages/0/content/0/type",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AA"}}],
                    }
                ]
            },
            "/messages/0/content/0/image_url/url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-openai"}}]}]},
            "/messages/0/content/0/file",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "/tools/0/type"),
    ],
)
def test_what_claude_has_nothing_for_is_refused_by_name(params, pointer):
    assert refused(**params) == {pointer}
    (error,) = ANTHROPIC.check({"messages": USER, **params}, catalogue.find(NEW))
    assert NEW in error.message


@pytest.mark.parametrize(
    ("model", "params", "expected"),
    [
        (OLD, {"temperature": 1.8}, {"temperature": 1}),
        (OLD, {"temperature": 0}, {"temperature": 0}),
        (OLD, {"top_p": 0.5}, {"top_p": 0.5}),
        (OLD, {"top_k": 5}, {"temperature": 0.7, "top_k": 5}),
        ("claude-future-9", {}, {}),
    ],
)
def test_sampling(model, params, expected):
    body = sent(model, **params)
    assert {key: body[key] for key in ("temperature", "top_p", "top_k") if key in body} == expected


def test_temperature_and_top_p_exclude_each_other_on_older_models():
    assert refused(OLD, temperature=0.5, top_p=0.5) == {"/top_p"}
    assert refused("claude-sonnet-4-6", temperature=0.5, top_p=0.5) == set()


@pytest.mark.parametrize(
    ("model", "params", "expected"),
    [
        (NEW, {"reasoning_effort": "high"}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        (NEW, {"reasoning_effort": "minimal"}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
        (NEW, {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        (NEW, {"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}),
        (NEWEST, {"reasoning_effort": "max"}, {"output_config": {"effort": "max"}}),
        (OLD, {"reasoning_effort": "none"}, {}),
        (OLD, {"reasoning_effort": "low"}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        (
            OLD,
            {"reasoning_effort": "high", "max_tokens": 4000},
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        ),
        (
            "claude-opus-4-5",
            {"reasoning_effort": "low"},
            {"thinking": {"type": "enabled", "budget_tokens": 1024}, "output_config": {"effort": "low"}},
        ),
    ],
)
def test_thinking(model, params, expected):
    body = sent(model, **params)
    assert {key: body[key] for key in ("thinking", "output_config") if key in body} == expected
    if body.get("thinking", {}).get("type") == "enabled":
        assert body["thinking"]["budget_tokens"] < body["max_tokens"]
        assert "temperature" not in body


@pytest.mark.parametrize(
    ("model", "params", "pointer"),
    [
        (NEWEST, {"reasoning_effort": "none"}, "/reasoning_effort"),
        (NEWEST, {"thinking": {"type": "disabled"}}, "/thinking/type"),
        (NEW, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, "/thinking/type"),
        (OLD, {"thinking": {"type": "adaptive"}}, "/thinking/type"),
        (OLD, {"reasoning_effort": "max"}, "/reasoning_effort"),
        (OLD, {"reasoning_effort": "low", "max_tokens": 1000}, "/reasoning_effort"),
        ("claude-opus-4-6", {"reasoning_effort": "xhigh"}, "/reasoning_effort"),
    ],
)
def test_thinking_that_a_model_does_not_do(model, params, pointer):
    assert refused(model, **params) == {pointer}


@pytest.mark.parametrize(
    ("params", "choice"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "get_stock"}}},
            {"type": "tool", "name": "get_stock"},
        ),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": False, "tool_choice": "required"}, {"type": "any", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": True}, None),
    ],
)
def test_tool_choice(params, choice):
    assert sent(tools=TOOLS, **params).get("tool_choice") == choice


def test_tools():
    tools = [
        {
            "type": "function",
            "function": {"name": "a", "description": "d", "parameters": {"type": "object"}, "strict": True},
        },
        {"type": "function", "function": {"name": "b"}, "cache_control": {"type": "ephemeral"}},
    ]
    a = {"name": "a", "description": "d", "input_schema": {"type": "object"}, "strict": True}
    b = {"name": "b", "input_schema": {"type": "object", "properties": {}}, "cache_control": {"type": "ephemeral"}}
    assert sent(tools=tools)["tools"] == [a, b]
    allowed = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "b"}}]},
    }
    body = sent(tools=tools, tool_choice=allowed)
    assert (body["tools"], body["tool_choice"]) == ([b], {"type": "any"})


def test_a_forced_choice_on_models_that_refuse_it():
    assert refused(NEWEST, tools=TOOLS, tool_choice="required") == {"/tool_choice"}
    assert refused(NEWEST, tools=TOOLS, tool_choice="auto") == set()


def call(id="call_1", arguments='{"sku":"A-1"}'):
    return {"id": id, "type": "function", "function": {"name": "get_stock", "arguments": arguments}}


def use(id="call_1", input=None):
    return {"type": "tool_use", "id": id, "name": "get_stock", "input": {"sku": "A-1"} if input is None else input}


def test_leading_system_messages_become_the_system_prompt():
    system, messages = turns(
        {"role": "system", "content": "a"},
        {"role": "developer", "content": [{"type": "text", "text": "b"}]},
        *USER,
    )
    assert (system, messages) == ("a\n\nb", USER)


def test_a_cached_system_prompt_stays_in_blocks():
    part = {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"}}
    system, _ = turns({"role": "system", "content": [part]}, *USER)
    assert system == [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]


def test_a_later_system_message_keeps_its_role_where_the_model_takes_it():
    messages = [*USER, {"role": "assistant", "content": "4"}, {"role": "system", "content": "be brief"}, *USER]
    assert [turn["role"] for turn in turns(*messages)[1]] == ["user", "assistant", "system", "user"]
    folded = turns(*messages, model="claude-sonnet-4-6")[1]
    assert [turn["role"] for turn in folded] == ["user", "assistant", "user"]
    assert [block["text"] for block in folded[2]["content"]] == ["be brief", "2+2?"]


def test_parallel_calls_and_their_results():
    _, messages = turns(
        *USER,
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call("call_1"), call("call.2", "")]},
        {"role": "tool", "tool_call_id": "call_1", "content": "12"},
        {"role": "tool", "tool_call_id": "call.2", "content": [{"type": "text", "text": "13"}]},
        {"role": "user", "content": "So?"},
    )
    assert messages[1]["content"] == [{"type": "text", "text": "Let me see."}, use("call_1"), use("call_2", {})]
    assert messages[2] == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "call_1", "content": "12"},
            {"type": "tool_result", "tool_use_id": "call_2", "content": [{"type": "text", "text": "13"}]},
            {"type": "text", "text": "So?"},
        ],
    }


@pytest.mark.parametrize("arguments", ["{", "[1]", '"x"', "1"])
def test_arguments_that_are_no_object(arguments):
    messages = [
        *USER,
        {"role": "assistant", "content": None, "tool_calls": [call(arguments=arguments)]},
        {"role": "tool", "tool_call_id": "call_1", "content": "x"},
    ]
    assert refused(messages=messages) == {"/messages/1/tool_calls/0/function/arguments"}


def test_what_a_schema_is_for_and_why_it_was_refused_are_kept():
    form = {"type": "json_schema", "json_schema": {"name": "a", "description": "A city.", "schema": {"type": "object"}}}
    refusal = {"role": "assistant", "content": "", "refusal": "No."}
    messages = [*USER, refusal, *USER]
    body = orjson.loads(ANTHROPIC.build({"messages": messages, "response_format": form}, "claude-opus-5").body)
    assert body["output_config"]["format"]["schema"] == {"type": "object", "description": "A city."}
    assert body["messages"][1] == {"role": "assistant", "content": "No."}


def test_thinking_blocks_go_back_in_front_of_the_calls():
    thought = {"type": "thinking", "thinking": "", "signature": "c2ln"}
    _, messages = turns(
        *USER,
        {
            "role": "assistant",
            "content": None,
            "thinking_blocks": [thought],
            "reasoning_content": "",
            "tool_calls": [call()],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "12"},
    )
    assert messages[1]["content"] == [thought, use()]


def test_media():
    _, (message,) = turns(
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "high"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
                {"type": "file", "file": {"file_data": "data:text/plain;base64,aGk="}},
                {"type": "file", "file": {"file_id": "file_011"}},
            ],
        }
    )
    assert message["content"] == [
        {"type": "text", "text": "see", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.jpg"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_011"}},
    ]


def test_an_earlier_answer_is_sent_back_with_its_refusal():
    _, messages = turns(*USER, {"role": "assistant", "content": None, "refusal": "No.", "annotations": []}, *USER)
    assert messages[1] == {"role": "assistant", "content": "No."}


def test_prefill_where_the_model_takes_it():
    assert turns(*USER, {"role": "assistant", "content": "The"}, model=OLD)[1][-1]["content"] == "The"


def test_the_credential_is_sent_once():
    assert ANTHROPIC.credential_headers("sk-ant-1") == {"x-api-key": "sk-ant-1"}


def test_streaming_is_switched_in_the_body():
    assert orjson.loads(request(stream=True).body)["stream"] is True


# Answers.

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5-5",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "text", "text": "Fo"},
        {"type": "text", "text": "ur."},
    ],
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 21,
        "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3},
        "output_tokens": 44,
        "output_tokens_details": {"thinking_tokens": 20},
        "service_tier": "standard",
    },
}


def answer(**changes):
    found = ANTHROPIC.parse(200, {}, orjson.dumps({**MESSAGE, **changes}))
    assert isinstance(found, Success)
    return found


def test_a_message_becomes_a_completion():
    found = answer()
    choice = found.completion["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"] == {
        "role": "assistant",
        "content": "Four.",
        "refusal": None,
        "reasoning_content": "hm",
        "thinking_blocks": [MESSAGE["content"][0]],
    }
    assert (found.model, found.completion["service_tier"]) == ("claude-sonnet-5-5", "default")
    assert found.completion["object"] == "chat.completion"


def test_usage_counts_the_whole_prompt():
    found = answer()
    usage = found.usage
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens) == (33, 7, 44, 20)
    assert (usage.cache_write_tokens, usage.cache_write_1h_tokens) == (2, 3)
    given = found.completion["usage"]
    assert (given["prompt_tokens"], given["completion_tokens"], given["total_tokens"]) == (33, 44, 77)
    assert given["prompt_tokens_details"]["cached_tokens"] == 7
    assert given["prompt_tokens_details"]["cache_write_tokens"] == 5
    assert given["completion_tokens_details"]["reasoning_tokens"] == 20


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "length"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_stop_reasons(stop_reason, finish_reason):
    assert answer(stop_reason=stop_reason).completion["choices"][0]["finish_reason"] == finish_reason


def test_calls_in_an_answer():
    message = answer(content=[use("toolu_1"), use("toolu_2", {})], stop_reason="tool_use").completion["choices"][0][
        "message"
    ]
    assert message["content"] is None
    assert [(each["id"], each["function"]["arguments"]) for each in message["tool_calls"]] == [
        ("toolu_1", '{"sku":"A-1"}'),
        ("toolu_2", "{}"),
    ]


def test_a_refusal_says_why():
    found = answer(content=[], stop_reason="refusal", stop_details={"type": "refusal", "explanation": "No."})
    assert found.completion["choices"][0]["message"]["refusal"] == "No."


@pytest.mark.parametrize("changes", [{"content": None}, {"content": [1]}, {"stop_reason": None}])
def test_a_200_that_is_no_message(changes):
    found = ANTHROPIC.parse(200, {}, orjson.dumps({**MESSAGE, **changes}))
    assert isinstance(found, Failure)
    assert found.reason is FailureReason.INVALID_RESPONSE


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
ARGUMENTS = st.dictionaries(
    TEXT, st.integers(-(2**53), 2**53) | TEXT | st.booleans() | st.none() | st.lists(TEXT, max_size=2), max_size=3
)


@given(
    text=st.none() | TEXT,
    calls=st.lists(st.tuples(st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True), ARGUMENTS), max_size=3),
)
def test_an_assistants_turn_survives_the_way_there_and_back(text, calls):
    # Given an assistant message that both vendors can express
    given_calls = [
        {"id": id, "type": "function", "function": {"name": "f", "arguments": orjson.dumps(arguments).decode()}}
        for id, arguments in calls
    ]
    if text is None and not given_calls:
        return
    message = {"role": "assistant", "content": text, **({"tool_calls": given_calls} if given_calls else {})}
    # When it is sent to Claude, and what was sent comes back as Claude's own answer
    _, messages = turns(*USER, message, *USER)
    content = messages[1]["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    back = answer(content=blocks, stop_reason="tool_use" if calls else "end_turn").completion["choices"][0]["message"]
    # Then it is the same message
    assert back["content"] == text
    assert back.get("tool_calls", []) == given_calls


def user(*parts):
    return [{"role": "user", "content": list(parts)}]


FUNCTION = {"name": "get_stock", "parameters": {"type": "object"}}
ONLY = {"type": "function", "function": {"name": "get_stock"}}


def allowing(*tools):
    return {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": list(tools)}}


@pytest.mark.parametrize(
    ("params", "pointers"),
    [
        # A field that Claude's form has no place for is not left behind without a word, however deep it is.
        ({"messages": user({"type": "text", "text": "x", "tone": 1})}, {"/messages/0/content/0/tone"}),
        (
            {"messages": user({"type": "image_url", "image_url": {"url": "https://x/y.png", "crop": 1}})},
            {"/messages/0/content/0/image_url/crop"},
        ),
        (
            {"messages": user({"type": "file", "file": {"file_id": "file_1", "pages": 1}, "tone": 1})},
            {"/messages/0/content/0/file/pages", "/messages/0/content/0/tone"},
        ),
        (
            {"messages": [{"role": "system", "content": [{"type": "text", "text": "x", "tone": 1}]}, *USER]},
            {"/messages/0/content/0/tone"},
        ),
        ({"tools": [{"type": "function", "function": FUNCTION, "ttl": 1}]}, {"/tools/0/ttl"}),
        ({"tools": [{"type": "function", "function": {**FUNCTION, "ttl": 1}}]}, {"/tools/0/function/ttl"}),
        ({"tools": TOOLS, "tool_choice": {**ONLY, "strictly": True}}, {"/tool_choice/strictly"}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"type": "object"}, "mode": "x"},
                }
            },
            {"/response_format/json_schema/mode"},
        ),
        # A tool that may be called must be there.
        (
            {"tools": TOOLS, "tool_choice": allowing(ONLY, {"type": "function", "function": {"name": "other"}})},
            {"/tool_choice/allowed_tools/tools/1"},
        ),
        (
            {"tools": TOOLS, "tool_choice": allowing({"type": "function", "name": "get_stock"})},
            {"/tool_choice/allowed_tools/tools/0"},
        ),
    ],
)
def test_nothing_inside_a_field_is_dropped_in_silence(params, pointers):
    assert refused(**params) == pointers


def test_fields_inside_that_say_nothing_are_left_out():
    part = {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low", "crop": None}, "tone": None}
    tool = {"type": "function", "function": {**FUNCTION, "ttl": None}}
    body = sent(messages=user(part), tools=[tool], tool_choice=allowing(ONLY))
    assert body["messages"][0]["content"] == [{"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}]
    assert [tool["name"] for tool in body["tools"]] == ["get_stock"]


@pytest.mark.parametrize(
    ("model", "field", "value", "taken"),
    [
        ("claude-opus-5-5", "speed", "fast", True),
        ("claude-haiku-4-5", "speed", "fast", False),
        ("claude-haiku-4-5", "speed", "standard", True),
        ("claude-opus-5-5", "inference_geo", "us", True),
        ("claude-haiku-4-5", "inference_geo", "us", False),
        ("claude-haiku-4-5", "inference_geo", "global", True),
        # Of a model that is not listed its provider judges
        ("claude-future-9", "speed", "fast", True),
        ("claude-future-9", "inference_geo", "us", True),
    ],
)
def test_what_costs_more_is_taken_where_its_price_is_known(model, field, value, taken):
    if taken:
        assert sent(model, **{field: value})[field] == value
    else:
        assert refused(model, **{field: value}) == {f"/{field}"}
