"""Routing: mapping, then prefix, then catalogue, and messages that say what to do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidInput
from core.routing import ConnectionRef, Target, fallbacks, route

OPENAI = ConnectionRef(id="1", provider_type="openai")
ANTHROPIC = ConnectionRef(id="2", provider_type="anthropic")
VLLM = ConnectionRef(id="3", provider_type="openai_compatible", name="vllm")
GROQ = ConnectionRef(id="4", provider_type="openai_compatible", name="groq")
ALL = (OPENAI, ANTHROPIC, VLLM, GROQ)
MAPPING = {
    "gpt-4": Target(model="claude-sonnet-4-5"),
    "fast": Target(model="llama", provider="groq"),
    "typed": Target(model="gpt-4", provider="openai"),
    "prefixed": Target(model="vllm/org/model"),
    "safe": Target(
        model="gpt-4o",
        fallbacks=(Target(model="claude-haiku-4-5"), Target(model="x", provider="unknown"), Target(model="vllm/y")),
    ),
}


@pytest.mark.parametrize(
    ("model", "connection", "sent"),
    [
        ("gpt-4o", OPENAI, "gpt-4o"),
        ("o1", OPENAI, "o1"),
        ("o3-mini", OPENAI, "o3-mini"),
        ("chatgpt-4o-latest", OPENAI, "chatgpt-4o-latest"),
        ("ft:gpt-4o-mini-2024-07-18:org::id", OPENAI, "ft:gpt-4o-mini-2024-07-18:org::id"),
        ("gpt-99", OPENAI, "gpt-99"),
        ("claude-sonnet-4-5-20250929", ANTHROPIC, "claude-sonnet-4-5-20250929"),
        ("openai/gpt-4", OPENAI, "gpt-4"),
        ("openai/anything", OPENAI, "anything"),
        ("anthropic/claude-9", ANTHROPIC, "claude-9"),
        ("vllm/org/model", VLLM, "org/model"),
        ("groq/gpt-oss-20b", GROQ, "gpt-oss-20b"),
        ("openai_compatible/x", VLLM, "x"),
        ("gpt-4", ANTHROPIC, "claude-sonnet-4-5"),
        ("fast", GROQ, "llama"),
        ("typed", OPENAI, "gpt-4"),
        ("prefixed", VLLM, "org/model"),
    ],
)
def test_the_order_of_routing(model, connection, sent):
    found = route(model, mapping=MAPPING, connections=ALL)
    assert (found.connection, found.provider, found.model) == (connection, connection.provider_type, sent)


def test_the_only_compatible_server_gets_what_the_catalogue_does_not_know():
    assert route("meta-llama/Llama-3", connections=[OPENAI, VLLM]).connection is VLLM
    assert route("meta-llama/Llama-3", connections=[OPENAI, VLLM]).model == "meta-llama/Llama-3"
    with pytest.raises(InvalidInput):
        route("meta-llama/Llama-3", connections=[OPENAI, VLLM, GROQ])


def test_a_model_nobody_serves():
    with pytest.raises(InvalidInput) as caught:
        route("llama", connections=[OPENAI, ANTHROPIC])
    assert caught.value.errors[0].pointer == "/model"
    assert "'llama'" in caught.value.detail
    assert "Configured providers: openai, anthropic." in caught.value.detail


@pytest.mark.parametrize("model", ["claude-9", "anthropic/claude-9"])
def test_a_provider_that_is_not_configured(model):
    with pytest.raises(InvalidInput) as caught:
        route(model, connections=[OPENAI])
    assert 'POST /v1/providers {"providerType": "anthropic", "apiKey": "..."}' in caught.value.detail
    assert caught.value.errors[0].message == caught.value.detail


def test_nothing_configured():
    with pytest.raises(InvalidInput) as caught:
        route("x", connections=[])
    assert "Configured providers: none." in caught.value.detail


def test_a_stopped_connection_is_used_only_if_there_is_no_other():
    stopped = ConnectionRef(id="9", provider_type="openai", state="stopped")
    assert route("gpt-4o", connections=[stopped, OPENAI]).connection is OPENAI
    assert route("gpt-4o", connections=[stopped]).connection is stopped


def test_a_mapping_is_followed_once():
    mapping = {"a": Target(model="gpt-4o"), "gpt-4o": Target(model="claude-9")}
    assert route("a", mapping=mapping, connections=ALL).model == "gpt-4o"


def test_fallbacks_that_are_not_configured_are_left_out():
    found = fallbacks("safe", mapping=MAPPING, connections=ALL)
    assert [(each.connection, each.model) for each in found] == [(ANTHROPIC, "claude-haiku-4-5"), (VLLM, "y")]
    assert fallbacks("gpt-4o", mapping=MAPPING, connections=ALL) == []


@given(st.text(max_size=300), st.lists(st.sampled_from(ALL), unique=True))
def test_every_name_has_a_route_or_a_message(model, connections):
    try:
        found = route(model, mapping=MAPPING, connections=connections)
    except InvalidInput as error:
        message = error.detail
    else:
        assert found.connection in connections
        return
    assert len(message) < 600
