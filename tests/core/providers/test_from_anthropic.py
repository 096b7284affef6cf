"""Anthropic's requests in OpenAI's form: golden tables, and the way to Claude and back without a loss."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import catalogue, params
from core.providers import adapter_for
from core.providers.from_anthropic import origin_of, translate_request

ANTHROPIC = adapter_for("anthropic")
OLD, NEW = "claude-sonnet-4-5", "claude-haiku-5-5"
USER = {"role": "user", "content": "2+2?"}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
LINK = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.jpg"}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}, "title": "a"}
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
TOOL = {"name": "get_stock", "description": "d", "input_schema": {"type": "object"}}


def use(id="toolu_1", **more):
    return {"type": "tool_use", "id": id, "name": "get_stock", "input": {"sku": "A-1"}, **more}


def result(id="toolu_1", **more):
    return {"type": "tool_result", "tool_use_id": id, "content": "12", **more}


def text(words="hi", **more):
    return {"type": "text", "text": words, **more}


def request(*messages, model=NEW, **fields):
    return {"model": model, "max_tokens": 100, "messages": list(messages) or [USER], **fields}


def in_openais_form(body, *, to_claude):
    before = orjson.dumps(body)
    made, errors = translate_request(body, to_claude=to_claude)
    assert orjson.dumps(body) == before, "the caller's body is left as it was"
    assert errors == []
    assert params.validate(made) == []
    return made


def there_and_back(body):
    """What Claude is sent for a body, by way of the JSON that is stored."""
    stored = orjson.loads(orjson.dumps(in_openais_form(body, to_claude=True)))
    assert ANTHROPIC.check(stored, catalogue.find(body["model"])) == []
    return orjson.loads(ANTHROPIC.build(stored, body["model"]).body)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"system": "Be brief."},
        {"system": [text("Be brief.")]},
        {"system": [text("a"), text("b", **CACHED)]},
        {"stop_sequences": ["x", "y"]},
        {"metadata": {"user_id": "u" * 200}},
        {"service_tier": "auto"},
        {"service_tier": "standard_only"},
        {"cache_control": {"type": "ephemeral"}},
        {"thinking": {"type": "adaptive", "display": "summarized"}},
        {"thinking": {"type": "disabled"}},
        {"output_config": {"effort": "high"}},
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        {"tools": [TOOL]},
        {"tools": [TOOL], "tool_choice": {"type": "auto"}},
        {"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "get_stock"}},
        {"tools": [TOOL], "tool_choice": {"type": "none"}},
        {"tools": [{**TOOL, **CACHED, "strict": True}]},
        {"tools": [{**TOOL, "strict": False, "type": "custom", "input_examples": [{"sku": "A"}]}]},
        {"tools": [{"name": "get_stock", "input_schema": {}}]},
        {"tools": [{"type": "web_search_20260209", "name": "web_search", "max_uses": 3}, TOOL]},
    ],
)
def test_fields_reach_claude_as_they_were(fields):
    assert there_and_back(request(**fields)) == request(**fields)


def test_sampling_reaches_claude_and_no_default_is_added():
    assert there_and_back(request(model=OLD)) == request(model=OLD)
    assert there_and_back(request(model=OLD, temperature=0.2, top_k=5)) == request(model=OLD, temperature=0.2, top_k=5)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": [text(), text("b", **CACHED)]}],
        [{"role": "user", "content": [PNG, LINK, text()]}],
        [{"role": "user", "content": [{**PNG, **CACHED}, {**PDF, **CACHED}]}],
        [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "file_1"}}]}],
        [{"role": "user", "content": [{**PDF, "citations": {"enabled": True}, "context": "old"}, text()]}],
        [
            {
                "role": "user",
                "content": [
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "grün"}},
                    {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
                    {"type": "document", "source": {"type": "content", "content": [text()]}},
                    {"type": "search_result", "source": "s", "title": "t", "content": [text()]},
                    text("said", citations=[{"type": "char_location", "cited_text": "x"}]),
                ],
            }
        ],
        [USER, {"role": "assistant", "content": "4"}, USER],
        [USER, {"role": "assistant", "content": [text("4")]}, USER],
        [USER, {"role": "assistant", "content": [THOUGHT, text("4", **CACHED)]}, USER],
        [USER, {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}, use()]}, USER],
        [
            USER,
            {"role": "assistant", "content": [THOUGHT, text("a"), use("toolu_1"), use("toolu_2", **CACHED)]},
            {"role": "user", "content": [result("toolu_1"), result("toolu_2", is_error=True, **CACHED), text("So?")]},
        ],
        [
            USER,
            {"role": "assistant", "content": [use()]},
            {"role": "user", "content": [{**result(), "content": [text("see"), PNG, PDF]}]},
        ],
        [
            USER,
            {"role": "assistant", "content": [use()]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "is_error": False}]},
        ],
        [USER, {"role": "assistant", "content": [THOUGHT, use(), THOUGHT, text("a"), use("toolu_2")]}, USER],
        [
            USER,
            {
                "role": "assistant",
                "content": [
                    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
                    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
                    text("found", citations=[{"type": "web_search_result_location", "url": "https://e.org"}]),
                ],
            },
            USER,
        ],
        [USER, {"role": "assistant", "content": "4"}, {"role": "system", "content": [text("be brief")]}, USER],
    ],
)
def test_conversations_reach_claude_as_they_were(messages):
    assert there_and_back(request(*messages)) == request(*messages)


def test_an_image_takes_its_place_once():
    # What OpenAI's form can say is not carried twice.
    body = request({"role": "user", "content": [{**PNG, **CACHED}, PDF, text()]})
    assert b"anthropic_block" not in orjson.dumps(in_openais_form(body, to_claude=True))


# To OpenAI's models.


def test_a_conversation_for_openai():
    body = request(
        {"role": "user", "content": [text("see", **CACHED), PNG, PDF]},
        {"role": "assistant", "content": [THOUGHT, text("a"), use()]},
        {"role": "user", "content": [{**result(is_error=True), "content": [text("no"), LINK]}, text("So?")]},
        {"role": "assistant", "content": [THOUGHT, text("b")]},
        {"role": "user", "content": [text("c")]},
        system=[text("x", **CACHED), text("y")],
    )
    made = in_openais_form(body, to_claude=False)
    assert made["messages"] == [
        {"role": "system", "content": "x\n\ny"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a"}},
            ],
        },
        {
            "role": "assistant",
            "content": "a",
            "tool_calls": [
                {"id": "toolu_1", "type": "function", "function": {"name": "get_stock", "arguments": '{"sku":"A-1"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "Error: no"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "From the result of toolu_1:"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
                {"type": "text", "text": "So?"},
            ],
        },
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    assert made.origins == [
        "/system",
        "/messages/0",
        "/messages/1",
        "/messages/2",
        "/messages/2",
        "/messages/3",
        "/messages/4",
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"stop_sequences": ["x"]}, {"stop": ["x"]}),
        ({"metadata": {"user_id": "u"}}, {"user": "u"}),
        ({"service_tier": "standard_only"}, {"service_tier": "default"}),
        ({"cache_control": {"type": "ephemeral"}}, {}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"reasoning_effort": "low"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 31_999}}, {"reasoning_effort": "high"}),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}, {"reasoning_effort": "xhigh"}),
        ({"thinking": {"type": "disabled"}}, {}),
        ({"top_p": 0.5, "temperature": 0.1}, {"top_p": 0.5, "temperature": 0.1}),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"type": "object"}},
                }
            },
        ),
        (
            {"tools": [{**TOOL, **CACHED, "strict": True}], "tool_choice": {"type": "tool", "name": "get_stock"}},
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "get_stock",
                            "description": "d",
                            "parameters": {"type": "object"},
                            "strict": True,
                        },
                    }
                ],
                "tool_choice": {"type": "function", "function": {"name": "get_stock"}},
            },
        ),
    ],
)
def test_fields_for_openai(fields, expected):
    made = in_openais_form(request(**fields), to_claude=False)
    assert dict(made) == {"model": NEW, "max_tokens": 100, "messages": [USER], "temperature": None} | expected


def test_a_schema_that_openai_can_bind_is_strict():
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    made = in_openais_form(
        request(output_config={"format": {"type": "json_schema", "schema": schema}}), to_claude=False
    )
    assert made["response_format"]["json_schema"]["strict"] is True


@pytest.mark.parametrize(
    ("field", "value", "to_claude"),
    [
        ("speed", "fast", False),
        ("inference_geo", "us", False),
        ("mcp_servers", [{"name": "m"}], False),
        ("thread", {"type": "create"}, False),
        ("thread", {"type": "create"}, True),
    ],
)
def test_what_a_model_does_not_have_here_is_refused_by_field_and_model(field, value, to_claude):
    _, [error] = translate_request({**request(), field: value, "model": "claude-{x}"}, to_claude=to_claude)
    assert error.pointer == f"/{field}"
    assert "claude-{x}" in error.message


def test_secrets_of_mcp_servers_reach_claude_and_nothing_that_is_logged():
    server = {"type": "url", "url": "https://mcp.example", "name": "m"}
    secret = {**server, "authorization_token": "mcp-secret"}
    tools = [{"type": "mcp_toolset", "mcp_server_name": "m"}]
    body = request(mcp_servers=[secret, server], tools=tools)
    made = in_openais_form(body, to_claude=True)
    # What is logged
    assert b"mcp-secret" not in orjson.dumps(made)
    assert made["mcp_servers"] == [server, server]
    # What is sent, and counted
    assert ANTHROPIC.check(made, catalogue.find(NEW)) == []
    for built in (ANTHROPIC.build(made, NEW), ANTHROPIC.build_count(made, NEW)):
        sent = orjson.loads(built.body)
        assert (sent["mcp_servers"], sent["tools"]) == ([secret, server], tools)
    # A caller whose request has no such place by its side
    wrong = params.validate({"model": NEW, "messages": [USER], "mcp_servers": [server, secret]})
    assert [error.pointer for error in wrong] == ["/mcp_servers/1/authorization_token"]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"max_tokens": None}, "/max_tokens"),
        ({"model": None}, "/model"),
        ({"messages": None}, "/messages"),
        ({"messages": []}, "/messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "/messages/0/role"),
        ({"messages": [{"role": "user"}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "/messages/0/content/0/type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "/messages/0/content/0/text"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "/messages/0/name"),
        ({"max_token": 1}, "/max_token"),
        ({"temperature": 1.5}, "/temperature"),
        ({"tools": [{"name": "x"}]}, "/tools/0/input_schema"),
        ({"tools": [TOOL], "tool_choice": "auto"}, "/tool_choice"),
        ({"output_config": {"task_budget": 1}}, "/output_config/task_budget"),
        ({"metadata": 1}, "/metadata"),
        ({"metadata": {"user_id": "u", "team": "x"}}, "/metadata/team"),
        ({"thread": {"type": "create"}}, "/thread"),
        ({"service_tier": "flex"}, "/service_tier"),
    ],
)
@pytest.mark.parametrize("to_claude", [True, False])
def test_what_is_wrong_is_named_by_its_place(changes, pointer, to_claude):
    _, errors = translate_request({**request(), **changes}, to_claude=to_claude)
    assert [error.pointer for error in errors] == [pointer]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {**PDF, "citations": {"enabled": True}},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {"type": "search_result", "source": "s", "title": "t", "content": [text()]},
    ],
)
def test_blocks_that_openai_has_nothing_for_are_refused(block):
    _, errors = translate_request(request({"role": "user", "content": [text(), block]}), to_claude=False)
    assert [error.pointer for error in errors] == ["/messages/0/content/1/type"]
    _, errors = translate_request(request(tools=[{"type": "web_search_20260209", "name": "w"}]), to_claude=False)
    assert [error.pointer for error in errors] == ["/tools/0/type"]


@pytest.mark.parametrize(
    ("thinking", "pointer"),
    [
        ({"type": "enabled"}, "/thinking/budget_tokens"),
        ({"type": "enabled", "budget_tokens": 5}, "/thinking/budget_tokens"),
        ({"type": "endless"}, "/thinking/type"),
        ({"type": None}, "/thinking/type"),
    ],
)
def test_thinking_that_makes_no_sense_is_not_left_out(thinking, pointer):
    _, errors = translate_request(request(thinking=thinking), to_claude=False)
    assert [error.pointer for error in errors] == [pointer]


def test_a_refusal_names_the_model():
    block = {"type": "search_result", "source": "s", "title": "t", "content": [text()]}
    for fields in ({"messages": [{"role": "user", "content": [block]}]}, {"tools": [{"type": "bash_20250124"}]}):
        _, errors = translate_request({**request(model="gpt-4o"), **fields}, to_claude=False)
        assert "gpt-4o" in errors[0].message


def test_claude_gets_what_only_claude_takes():
    # Given more than OpenAI has room for
    body = request(
        max_tokens=0,
        stop_sequences=list("abcdef"),
        tools=[{**TOOL, "name": name} for name in [*(f"t{n}" for n in range(200)), "n" * 128]],
        container="container_1",
        context_management={"edits": []},
        diagnostics={"previous_message_id": "msg_1"},
    )
    sent = there_and_back(body)
    for field in ("max_tokens", "stop_sequences", "tools", "container", "diagnostics", "context_management"):
        assert sent.get(field) == (body[field] or body.get(field)), field
    # Then an OpenAI model is not asked for it: each is named
    made, errors = translate_request(body, to_claude=False)
    assert errors == []
    assert params.validate(made) == []
    found = {error.pointer for error in adapter_for("openai").check(made, catalogue.find("gpt-4o"))}
    assert found >= {"/max_tokens", "/stop", "/tools", "/tools/200/function/name", "/container", "/diagnostics"}


def test_the_version_that_the_caller_names_is_kept_if_it_allows_more():
    made = in_openais_form(request(), to_claude=True)
    assert ANTHROPIC.build(made, NEW).headers["anthropic-version"] == "2026-10-21"
    made.version = "2023-06-01"
    assert ANTHROPIC.build(made, NEW).headers["anthropic-version"] == "2023-06-01"


def test_thinking_of_a_compatible_server_goes_back_to_it_and_not_to_claude():
    # Given a conversation whose answer came with reasoning that nobody signed
    thought = {"type": "thinking", "thinking": "hm", "signature": ""}
    body = request(USER, {"role": "assistant", "content": [thought, text("yes")]}, USER)
    # Then it goes back to a compatible server, and neither to OpenAI nor to Claude
    made = in_openais_form(body, to_claude=False)
    assert orjson.loads(adapter_for("openai_compatible").build(made, "m").body)["messages"][1] == {
        "role": "assistant",
        "content": "yes",
        "reasoning_content": "hm",
    }
    assert b"hm" not in adapter_for("openai").build(made, "gpt-4o").body
    made = in_openais_form(body, to_claude=True)
    assert orjson.loads(ANTHROPIC.build(made, NEW).body)["messages"][1]["content"] == [text("yes")]


def test_errors_find_their_way_back():
    made, _ = translate_request(
        request(USER, {"role": "assistant", "content": [use()]}, system="x", stop_sequences=["1"]), to_claude=True
    )
    assert origin_of(made, "/messages/2/tool_calls/0/id") == "/messages/1"
    assert origin_of(made, "/messages/0/content") == "/system"
    assert origin_of(made, "/stop") == "/stop_sequences"
    assert origin_of(made, "/max_tokens") == "/max_tokens"
    assert origin_of(made, "/tools/2/function/name") == "/tools/2/name"
    assert origin_of(made, "/tools/2/function/parameters") == "/tools/2/input_schema"


# Every conversation that Claude takes.

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
IDS = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
VALUES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS | st.lists(WORDS, max_size=2)
OBJECTS = st.dictionaries(WORDS, VALUES, max_size=3)
BREAKPOINT = st.sampled_from([{}, CACHED, {"cache_control": {"type": "ephemeral"}}])


def block(made):
    return st.builds(lambda found, extra: {**found, **extra}, made, BREAKPOINT)


TEXTS = block(st.builds(text, WORDS))
MEDIA = block(st.sampled_from([PNG, LINK, PDF, {**PDF, "context": "c"}]))
EXOTIC = st.builds(lambda kind, more: {**more, "type": kind}, st.sampled_from(["search_result", "x_y"]), OBJECTS)
THOUGHTS = st.builds(lambda a, b: {"type": "thinking", "thinking": a, "signature": b}, st.text(max_size=5), WORDS)
CALLS = block(st.builds(lambda id, name, input: {**use(id), "name": name, "input": input}, IDS, IDS, OBJECTS))
RESULTS = block(
    st.builds(
        lambda id, content, more: {"type": "tool_result", "tool_use_id": id, "content": content, **more},
        IDS,
        st.text(max_size=5) | st.lists(TEXTS | MEDIA | EXOTIC, min_size=1, max_size=3),
        st.sampled_from([{}, {"is_error": True}, {"is_error": False}]),
    )
)
ASKED = WORDS | st.builds(
    lambda results, rest: results + rest or [text()],
    st.lists(RESULTS, max_size=2),
    st.lists(TEXTS | MEDIA | EXOTIC, max_size=3),
)
ANSWERED = WORDS | st.lists(TEXTS | THOUGHTS | CALLS | EXOTIC, min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(ASKED, ANSWERED), max_size=3), ASKED, st.lists(TEXTS, max_size=2) | WORDS)
def test_every_conversation_reaches_claude_exactly(pairs, last, system):
    # Given a conversation with whatever blocks, breakpoints and thoughts
    messages = []
    for asked, answered in pairs:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    messages.append({"role": "user", "content": last})
    body = request(*messages, **({"system": system} if system else {}))
    # When it has been in OpenAI's form, then Claude gets it exactly
    assert there_and_back(body) == body


# Whatever anybody sends.

NAMES = st.sampled_from(
    [
        "type",
        "role",
        "content",
        "text",
        "source",
        "media_type",
        "data",
        "url",
        "title",
        "context",
        "citations",
        "tool_use_id",
        "id",
        "name",
        "input",
        "is_error",
        "cache_control",
        "thinking",
        "effort",
        "format",
        "schema",
        "user_id",
        "required",
        "properties",
        "input_schema",
        "anthropic_block",
    ]
)
KINDS = st.sampled_from(
    [
        "text",
        "image",
        "document",
        "tool_use",
        "tool_result",
        "thinking",
        "base64",
        "url",
        "json_schema",
        "object",
        "user",
        "assistant",
        "any",
        "tool",
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | KINDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)
TURNS = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "system"]),
            "content": ANYTHING
            | st.lists(
                st.builds(
                    lambda kind, more: {**more, "type": kind}, KINDS, st.dictionaries(NAMES, ANYTHING, max_size=5)
                ),
                max_size=3,
            ),
        }
    ),
    max_size=3,
)
FIELDS = st.sampled_from(
    [
        "system",
        "max_tokens",
        "stop_sequences",
        "temperature",
        "top_p",
        "top_k",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "metadata",
        "service_tier",
        "cache_control",
        "speed",
    ]
)


@settings(max_examples=400, deadline=None)
@given(ANYTHING | TURNS, st.dictionaries(FIELDS, ANYTHING, max_size=3), st.booleans())
def test_any_json_is_translated_or_refused(messages, fields, to_claude):
    body = {"model": NEW, "max_tokens": 5, **fields, "messages": messages}
    made, errors = translate_request(body, to_claude=to_claude)
    if not errors and not params.validate(made):
        # Neither adapter stumbles over what passed.
        ANTHROPIC.check(made, catalogue.find(NEW))
        adapter_for("openai").check(made, catalogue.find("gpt-4o"))


@pytest.mark.parametrize("block", [None, 1, {}])
def test_a_block_that_is_none_is_left_to_claude(block):
    # Given a caller of POST /v1/completions who writes the extension by himself
    part = {"type": "text", "text": "", "anthropic_block": block}
    given = [
        {"role": "user", "content": [part]},
        {"role": "tool", "tool_call_id": "a", "content": "x"},
    ]
    built = ANTHROPIC.build({"messages": given}, NEW)
    assert orjson.loads(built.body)["messages"][0]["content"] == [result("a", content="x"), {}]


def test_what_only_claude_understands_does_not_reach_openai() -> None:
    # given: the internal form of a conversation that came through Anthropic's surface
    part = {"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}
    asked = {
        "model": "m",
        "thinking": None,
        "messages": [
            {"role": "user", "content": [part]},
            {"role": "tool", "tool_call_id": "t", "content": "x", "is_error": True},
        ],
    }
    body = orjson.loads(adapter_for("openai").build(asked, "gpt-4o").body)
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {"role": "tool", "tool_call_id": "t", "content": "Error: x"},
    ]
    assert "thinking" not in body
    # and: a block that has no form there is refused by name
    block = {"type": "text", "text": "", "anthropic_block": {"type": "search_result"}}
    wrong = adapter_for("openai").check(
        {"model": "m", "messages": [{"role": "user", "content": [block]}]}, catalogue.find("gpt-4o", "openai")
    )
    assert [error.pointer for error in wrong] == ["/messages/0/content/0"]


@pytest.mark.parametrize("to_claude", [True, False])
@pytest.mark.parametrize("kind", ["auto", "any", "tool", "none"])
def test_what_a_choice_does_not_have_is_refused(kind: str, to_claude: bool) -> None:
    choice = {"type": kind, "name": "get", "mode": 1} if kind == "tool" else {"type": kind, "mode": 1}
    tools = [{"name": "get", "input_schema": {"type": "object"}}]
    _, wrong = translate_request(request(tools=tools, tool_choice=choice), to_claude=to_claude)
    assert [error.pointer for error in wrong] == ["/tool_choice/mode"]


@pytest.mark.parametrize("vendor", ["openai", "openai_compatible"])
def test_a_failed_tool_is_told_in_words_to_other_vendors_models(vendor: str) -> None:
    parts = [{"type": "text", "text": "no such file"}]
    results = [{"role": "tool", "tool_call_id": "t", "content": content, "is_error": True} for content in ("no", parts)]
    asked = {"model": "m", "messages": [{"role": "user", "content": "x"}, *results]}
    sent = orjson.loads(adapter_for(vendor).build(asked, "gpt-4o").body)["messages"][1:]
    assert [message["content"] for message in sent] == ["Error: no", [{"type": "text", "text": "Error: no such file"}]]
    assert not any("is_error" in message for message in sent)
