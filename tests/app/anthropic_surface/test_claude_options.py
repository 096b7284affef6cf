"""What only Claude has and what costs more there: how fast, where, and with whose tools; by both vendors' packages."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import anthropic
import openai
import psycopg
import pytest

from launcher.house import House

#: 4 and 20 USD a million tokens; twice as much when fast, a tenth more in the US
OPUS = "claude-opus-5-5"
USER: list[Any] = [{"role": "user", "content": "hello nonce-fast"}]
SECRET = "mcp-secret-0123456789"
SERVERS: list[Any] = [{"type": "url", "url": "https://mcp.example/sse", "name": "shop", "authorization_token": SECRET}]
TOOLSET: list[Any] = [{"type": "mcp_toolset", "mcp_server_name": "shop"}]


@pytest.fixture
def gpt(claude: anthropic.Anthropic, service: House) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key=service.client.token, max_retries=0) as client:
        yield client


def cost(usage: Any, factor: str) -> Decimal:
    return Decimal(factor) * (usage.input_tokens * 4 + usage.output_tokens * 20) / 1_000_000


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("asked", "factor"),
    [
        ({}, "1"),
        ({"speed": "fast"}, "2"),
        ({"inference_geo": "us"}, "1.1"),
        ({"speed": "fast", "inference_geo": "us"}, "2.2"),
    ],
)
def test_speed_and_place_are_served_and_charged(
    claude: anthropic.Anthropic, service: House, asked: dict[str, Any], factor: str, streamed: bool
) -> None:
    if streamed:
        with claude.messages.stream(model=OPUS, max_tokens=100, messages=USER, **asked) as stream:
            message: Any = stream.get_final_message()
        request_id = stream.request_id
    else:
        message = claude.messages.create(model=OPUS, max_tokens=100, messages=USER, **asked)
        request_id = message._request_id
        assert Decimal(message.cost_usd) == cost(message.usage, factor)

    assert message.usage.inference_geo == asked.get("inference_geo", "global")
    with psycopg.connect(service.address.database_url) as connection:
        logged = connection.execute("SELECT cost_usd FROM completion WHERE request_id = %s", (request_id,)).fetchone()
    assert logged == (cost(message.usage, factor),)


def test_they_are_there_on_openais_surface(gpt: openai.OpenAI) -> None:
    answer: Any = gpt.chat.completions.create(model=OPUS, messages=USER, extra_body={"speed": "fast"})

    assert answer.anthropic["usage"]["speed"] == "fast"
    spent = answer.usage.prompt_tokens * 4 + answer.usage.completion_tokens * 20
    assert Decimal(answer.cost_usd) == Decimal(2) * spent / 1_000_000


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "gpt-4o"])
@pytest.mark.parametrize(
    "asked", [{"speed": "fast"}, {"inference_geo": "us"}, {"mcp_servers": SERVERS}], ids=lambda asked: next(iter(asked))
)
def test_a_model_without_them_refuses_them_by_name(
    claude: anthropic.Anthropic, gpt: openai.OpenAI, service: House, model: str, asked: dict[str, Any]
) -> None:
    (field,) = asked
    if (field, model) == ("mcp_servers", "claude-haiku-4-5"):
        model = "gpt-5"
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.create(model=model, max_tokens=100, messages=USER, extra_body=asked)
    assert field in refused.value.message
    assert model in refused.value.message
    with pytest.raises(openai.BadRequestError) as wrong:
        gpt.chat.completions.create(model=model, messages=USER, extra_body=asked)
    assert (wrong.value.param or "").startswith(field)
    assert service.simulator.ledger()["calls"] == 0


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_of_an_mcp_server_and_no_trace_of_its_token(
    claude: anthropic.Anthropic, service: House, streamed: bool
) -> None:
    fields: dict[str, Any] = {"model": OPUS, "max_tokens": 100, "messages": USER}
    fields |= {"mcp_servers": SERVERS, "tools": TOOLSET, "betas": ["mcp-client-2025-11-20"]}
    if streamed:
        with claude.beta.messages.stream(**fields) as stream:
            message: Any = stream.get_final_message()
    else:
        message = claude.beta.messages.create(**fields)

    assert "nonce-fast" in message.content[-1].text
    assert claude.beta.messages.count_tokens(**{name: fields[name] for name in fields if name != "max_tokens"})
    with psycopg.connect(service.address.database_url) as connection:
        (request,) = connection.execute(
            "SELECT body FROM completion JOIN completion_request ON completion_id = id"
            " ORDER BY completion.created_at DESC LIMIT 1"
        ).fetchone() or ("",)
    assert "mcp.example" in str(request)
    assert SECRET not in str(request)
