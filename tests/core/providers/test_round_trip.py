"""OpenAI to Anthropic and back: what both can express is kept, and nothing of either form is dropped in silence."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import catalogue
from core.params import FIELDS, validate
from core.providers import adapter_for
from core.providers.anthropic import NOT_SENT, translate
from core.providers.from_anthropic import translate_request

OLDER, NEWER = "claude-sonnet-4-5", "claude-opus-4-8"
PNG = "data:image/png;base64,iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
NAME = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
ARGUMENTS = st.dictionaries(NAME, st.integers(-9, 9) | TEXT | st.booleans() | st.none(), max_size=3)
IMAGES = st.sampled_from(["https://example.com/a.png", PNG])
PARTS = st.builds(lambda text: {"type": "text", "text": text}, TEXT) | st.builds(
    lambda url: {"type": "image_url", "image_url": {"url": url}}, IMAGES
)
ASKED = TEXT | st.lists(PARTS, min_size=1, max_size=3)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A conversation of several turns, with calls and their results, that ends with the user."""
    messages: list[dict[str, Any]] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(TEXT)})
    number = 0
    for _ in range(draw(st.integers(0, 3))):
        messages.append({"role": "user", "content": draw(ASKED)})
        calls = []
        for name, arguments in draw(st.lists(st.tuples(NAME, ARGUMENTS), max_size=2)):
            number += 1
            function = {"name": name, "arguments": orjson.dumps(arguments).decode()}
            calls.append({"id": f"call_{number}", "type": "function", "function": function})
        text = draw(TEXT) if not calls else draw(st.none() | TEXT)
        messages.append({"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})})
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": draw(TEXT)} for call in calls]
        if calls:
            messages.append({"role": "assistant", "content": draw(TEXT)})
    messages.append({"role": "user", "content": draw(ASKED)})
    return messages


TOOLS = st.lists(
    st.builds(
        lambda name, more: {"type": "function", "function": {"name": name, "parameters": SCHEMA, **more}},
        NAME,
        st.sampled_from([{}, {"description": "d"}, {"strict": True}]),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda tool: tool["function"]["name"],
)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """A request that both vendors can express."""
    params: dict[str, Any] = {"model": "m", "messages": draw(conversations()), "max_tokens": draw(st.integers(1, 999))}
    params["temperature"] = draw(st.none() | st.sampled_from([0, 0.25, 1]))
    optional = {
        "stop": st.lists(TEXT, min_size=1, max_size=4),
        "user": TEXT,
        "service_tier": st.sampled_from(["auto", "default"]),
        "tools": TOOLS,
        "response_format": st.just({"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}),
    }
    for field, values in optional.items():
        if draw(st.booleans()):
            params[field] = draw(values)
    if "tools" in params:
        named = {"type": "function", "function": {"name": params["tools"][0]["function"]["name"]}}
        choice = draw(st.sampled_from([None, "auto", "required", named]))
        if choice is not None:
            params["tool_choice"] = choice
            if draw(st.booleans()):
                params["parallel_tool_calls"] = False
    return params


def in_one_form(params: dict[str, Any]) -> dict[str, Any]:
    """A request with each content as a list of parts: both forms say the same."""
    found = {name: value for name, value in params.items() if value is not None}
    messages: list[dict[str, Any]] = []
    for message in params["messages"]:
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
        messages.append({name: value for name, value in message.items() if value is not None} | {"content": parts})
    found["messages"] = messages
    return found


@settings(max_examples=200, deadline=None)
@given(requests())
def test_what_both_can_express_is_kept(params: dict[str, Any]) -> None:
    assert validate(params) == []
    before = orjson.dumps(params)
    # When a request goes to Claude, and what Claude got comes back in OpenAI's form
    body, errors = translate(params, catalogue.find(OLDER, "anthropic"))
    assert errors == []
    back, errors = translate_request(body, to_claude=False)
    assert errors == []
    # Then it is the same request
    assert in_one_form(dict(back) | {"model": "m"}) == in_one_form(params)
    assert orjson.dumps(params) == before, "the caller's parameters are left as they were"


@pytest.mark.parametrize("effort", ["low", "medium", "high", "xhigh", "max"])
def test_effort_is_kept(effort: str) -> None:
    params = {"model": "m", "messages": [{"role": "user", "content": "x"}], "reasoning_effort": effort}
    body, errors = translate(params, catalogue.find(NEWER, "anthropic"))
    assert errors == []
    assert translate_request(body, to_claude=False)[0]["reasoning_effort"] == effort


# Nothing in silence.

USER = [{"role": "user", "content": "hello, json"}]
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
#: every field of PROVIDERS.md 2.1 (and Claude's own that we take), with a value that asks for something
ASKS: dict[str, Any] = {
    "max_completion_tokens": 9,
    "max_tokens": 9,
    "temperature": 0.2,
    "top_p": 0.5,
    "n": 2,
    "stop": ["x"],
    "seed": 7,
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "logit_bias": {"1": 5},
    "logprobs": True,
    "top_logprobs": 2,
    "reasoning_effort": "low",
    "verbosity": "low",
    "response_format": {"type": "json_object"},
    "tools": [FUNCTION],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "functions": [{"name": "f"}],
    "function_call": {"name": "f"},
    "metadata": {"a": "b"},
    "store": True,
    "service_tier": "default",
    "user": "u",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit", "ttl": "30m"},
    "prompt_cache_retention": "24h",
    "modalities": ["text", "audio"],
    "audio": {"voice": "a", "format": "wav"},
    "prediction": {"type": "content", "content": "x"},
    "web_search_options": {},
    "moderation": {"model": "m"},
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "top_k": 5,
    "cache_control": {"type": "ephemeral"},
    "container": "c",
    "context_management": {"edits": []},
    "diagnostics": {"previous_message_id": None},
    "speed": "fast",
    "inference_geo": "us",
    "mcp_servers": [{"type": "url", "url": "https://mcp.example", "name": "m"}],
}
#: fields of which others take care: the switch of the call itself
_THE_CALLS_OWN = {"model", "messages", "stream", "stream_options"}


def test_every_field_has_a_value_here() -> None:
    assert ASKS.keys() | _THE_CALLS_OWN >= set(FIELDS)


@pytest.mark.parametrize("model", [OLDER, NEWER, "claude-opus-5-5", "gpt-4o", "gpt-5", "gpt-6-luna", "gpt-5.4-pro"])
@pytest.mark.parametrize("field", ASKS)
def test_a_field_is_sent_or_refused(model: str, field: str) -> None:
    provider = "anthropic" if model.startswith("claude") else "openai"
    adapter, info = adapter_for(provider), catalogue.find(model, provider)
    needs = {"tool_choice": ("tools",), "parallel_tool_calls": ("tools",), "top_logprobs": ("logprobs",)}
    base: dict[str, Any] = {"model": "m", "messages": USER, "temperature": None}
    base |= {name: ASKS[name] for name in needs.get(field, ())}
    asked = base | {field: ASKS[field]}
    if adapter.check(base, info):
        # What the field stands on is refused already.
        assert adapter.check(asked, info)
        return
    refused = {error.pointer.split("/")[1] for error in adapter.check(asked, info)}
    if field in refused:
        return
    assert not refused, "only what was asked for is refused"
    sent, without = adapter.build(asked, model), adapter.build(base, model)
    if sent == without:
        assert provider == "anthropic"
        assert field in NOT_SENT, f"{field} is dropped in silence"


@pytest.mark.parametrize("model", [OLDER, "gpt-5.4-pro"])
@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "name": "Ann", "content": "x"},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG}}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_data": "data:application/pdf;base64,AA=="}}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]},
        {"role": "function", "name": "f", "content": "x"},
        {"role": "assistant", "content": None, "audio": {"id": "a"}},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "developer", "content": "later"},
    ],
)
def test_a_message_is_sent_or_refused(model: str, message: dict[str, Any]) -> None:
    provider = "anthropic" if model.startswith("claude") else "openai"
    adapter = adapter_for(provider)
    base: dict[str, Any] = {"messages": [*USER, *USER], "temperature": None}
    asked = {"messages": [*USER, message, *USER], "temperature": None}
    assert validate({"model": "m", **asked}) == []
    if adapter.check(asked, catalogue.find(model, provider)):
        return
    plain = adapter.build(base, model).body
    sent = adapter.build(asked, model).body
    assert len(sent) > len(plain)
    # All of its own words are in there.
    for word in ("Ann", "file-1", "No.", "later", PNG.rpartition(",")[2]):
        if word in str(message):
            assert word.encode() in sent


#: every field of PROVIDERS.md 2.4, with a value that asks for something
CLAUDES: dict[str, Any] = {
    "system": "s",
    "stop_sequences": ["x"],
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "tools": [{"name": "f", "input_schema": SCHEMA}],
    "tool_choice": {"type": "any"},
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "output_config": {"effort": "low"},
    "metadata": {"user_id": "u"},
    "service_tier": "standard_only",
    "speed": "fast",
    "inference_geo": "us",
    "cache_control": {"type": "ephemeral"},
    "container": "c",
    "diagnostics": {"a": 1},
    "context_management": {"edits": []},
    "mcp_servers": [{"name": "m"}],
}
#: a hint that other vendors' models need not be given (docs/anthropic-sdk.md)
HINTS = {"cache_control"}


@pytest.mark.parametrize("to_claude", [True, False])
@pytest.mark.parametrize("field", CLAUDES)
def test_a_field_of_claudes_is_translated_or_refused(field: str, to_claude: bool) -> None:
    base = {"model": "m", "max_tokens": 5, "messages": USER}
    if field == "tool_choice":
        base["tools"] = CLAUDES["tools"]
    plain, errors = translate_request(base, to_claude=to_claude)
    assert errors == []
    found, errors = translate_request(base | {field: CLAUDES[field]}, to_claude=to_claude)
    if not errors:
        assert dict(found) != dict(plain) or (field in HINTS and not to_claude), f"{field} is dropped in silence"
