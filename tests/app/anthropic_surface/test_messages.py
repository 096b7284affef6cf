"""Messages through the unmodified `anthropic` package: whole, streamed, with tools and images, counted, in async."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import psycopg
import pytest
from pydantic import BaseModel

from launcher.client import wait_until
from launcher.house import House

pytestmark = pytest.mark.e2e

CLAUDE, GPT = "claude-haiku-5-5", "gpt-4o"
BOTH = pytest.mark.parametrize("model", [CLAUDE, GPT])
TOOLS: list[Any] = [
    {
        "name": "get_stock",
        "description": "How many there are.",
        "input_schema": {"type": "object", "properties": {"sku": {"type": "string"}}, "required": ["sku"]},
        "cache_control": {"type": "ephemeral"},
    }
]
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}


def ask(text: str = "Say nonce-plain please.", **fields: Any) -> dict[str, Any]:
    return {"max_tokens": 500, "messages": [{"role": "user", "content": text}], **fields}


@BOTH
def test_a_message(claude: anthropic.Anthropic, model: str) -> None:
    message = claude.messages.create(model=model, **ask(system="Be brief."))
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    assert message.id.startswith("msg_")
    assert message.model.startswith(model)
    assert "nonce-plain" in message.content[0].text
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0
    assert message._request_id
    added = message.model_extra
    assert added is not None
    assert (added["provider"], added["request_id"]) == (
        "anthropic" if model == CLAUDE else "openai",
        message._request_id,
    )
    assert float(added["cost_usd"]) > 0


def test_what_claude_says_beyond_openais_form_arrives(claude: anthropic.Anthropic, service: House) -> None:
    # Given thinking, reads and writes of the cache, and a stop sequence
    service.simulator.config(tokens={"reasoning": 5, "cached": 0.5, "cache_write": 0.25})
    message = claude.messages.create(model=CLAUDE, **ask("Say nonce-full please.", stop_sequences=[" to "]))
    thought, text = message.content
    assert (thought.type, text.type) == ("thinking", "text")
    assert thought.signature == "c2ltdWxhdGVk"
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", " to ")
    usage = message.usage
    assert usage.cache_read_input_tokens
    assert usage.cache_creation_input_tokens
    assert usage.cache_creation is not None
    assert usage.cache_creation.ephemeral_5m_input_tokens == usage.cache_creation_input_tokens
    assert (usage.service_tier, usage.inference_geo) == ("standard", "global")
    assert usage.output_tokens_details is not None
    assert usage.output_tokens_details.thinking_tokens == 5
    # And the next turn takes the thought back to Claude as it was
    turns: list[Any] = [*ask("Go on.")["messages"], {"role": "assistant", "content": message.content}]
    turns.append(
        {"role": "user", "content": [{"type": "text", "text": "And?", "cache_control": {"type": "ephemeral"}}]}
    )
    assert claude.messages.create(model=CLAUDE, max_tokens=500, messages=turns).stop_reason == "end_turn"


@BOTH
@pytest.mark.parametrize("streamed", [False, True])
def test_tools(claude: anthropic.Anthropic, model: str, streamed: bool) -> None:
    # Given a prompt that makes the model call a tool
    turns: list[Any] = ask("Use get_stock for nonce-tool.")["messages"]

    def say() -> Any:
        fields: dict[str, Any] = {"model": model, "max_tokens": 500, "messages": turns, "tools": TOOLS}
        if not streamed:
            return claude.messages.create(**fields)
        with claude.messages.stream(**fields) as stream:
            return stream.get_final_message()

    called = say()
    (call,) = [block for block in called.content if block.type == "tool_use"]
    assert (called.stop_reason, call.name, call.input) == ("tool_use", "get_stock", {"sku": "nonce-tool"})
    # When it gets the result, then it answers in words
    turns += [
        {"role": "assistant", "content": called.content},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "12"}, PNG]},
                {"type": "text", "text": "So?"},
            ],
        },
    ]
    answer = say()
    assert answer.content[-1].type == "text"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_conversation_goes_through_the_models_of_both_vendors(
    claude: anthropic.Anthropic, service: House, streamed: bool
) -> None:
    # Given models that think, each in its vendor's way, and each asked with all that came before as it came
    service.simulator.config(tokens={"reasoning": 5})
    turns: list[Any] = ask("Use get_stock for nonce-through.")["messages"]
    for model in (CLAUDE, "gpt-6-astra", "gpt-4o-mini", "claude-sonnet-4-6", "gpt-6-astra"):
        fields: dict[str, Any] = {"model": model, "max_tokens": 500, "messages": turns, "tools": TOOLS}
        if streamed:
            with claude.messages.stream(**fields) as stream:
                message: Any = stream.get_final_message()
        else:
            message = claude.messages.create(**fields)
        # Then each calls the tool
        (call,) = [block for block in message.content if block.type == "tool_use"]
        assert call.input == {"sku": "nonce-through"}
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "12"}
        turns += [
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": [result]},
            {"role": "assistant", "content": "There are 12."},
            {"role": "user", "content": "Once more, use get_stock for nonce-through."},
        ]


@BOTH
def test_images_and_documents(claude: anthropic.Anthropic, model: str) -> None:
    pdf = {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
        "title": "a.pdf",
    }
    content: list[Any] = [PNG, pdf, {"type": "text", "text": "nonce-seen"}]
    message = claude.messages.create(model=model, max_tokens=99, messages=[{"role": "user", "content": content}])
    assert "nonce-seen" in message.content[0].text  # type: ignore[union-attr]
    # The simulator counts 1,024 bytes for each of the two.
    assert message.usage.input_tokens > 500


@BOTH
def test_structured_output(claude: anthropic.Anthropic, model: str) -> None:
    class Stock(BaseModel):
        sku: str

    parsed = claude.messages.parse(model=model, output_format=Stock, **ask("nonce-form"))
    assert parsed.parsed_output == Stock(sku="nonce-form")


@BOTH
def test_a_stream_has_every_event_in_its_place(claude: anthropic.Anthropic, model: str, service: House) -> None:
    service.simulator.config(tokens={"reasoning": 3 if model == CLAUDE else 0})
    stream = claude.messages.create(model=model, stream=True, **ask())
    events = list(stream)
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    start: Any = events[0]
    assert start.message.content == []
    assert start.message.usage.input_tokens > 0
    opened = [event.content_block.type for event in events if event.type == "content_block_start"]
    assert opened == (["thinking", "text"] if model == CLAUDE else ["text"])
    assert kinds.count("content_block_start") == kinds.count("content_block_stop")
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    assert len([delta for delta in deltas if delta.type == "text_delta"]) > 1
    assert ("signature_delta" in {delta.type for delta in deltas}) is (model == CLAUDE)
    last: Any = events[-2]
    assert last.delta.stop_reason == "end_turn"
    assert last.usage.output_tokens > 1
    assert last.usage.input_tokens > 0
    added = events[-1].model_extra
    assert added is not None
    assert (added["provider"], added["request_id"]) == (
        "anthropic" if model == CLAUDE else "openai",
        stream.response.headers["request-id"],
    )
    assert float(added["cost_usd"]) > 0


@BOTH
def test_the_packages_stream_helper_adds_up_to_the_message(claude: anthropic.Anthropic, model: str) -> None:
    with claude.messages.stream(model=model, **ask()) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    whole = claude.messages.create(model=model, **ask())
    assert message.content[-1].text == text == whole.content[-1].text  # type: ignore[union-attr]
    assert message.stop_reason == whole.stop_reason
    counters = {"input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"}
    assert message.usage.model_dump(include=counters) == whole.usage.model_dump(include=counters)


@BOTH
def test_in_async(claude: anthropic.Anthropic, service: House, model: str) -> None:
    async def both() -> tuple[anthropic.types.Message, str]:
        async with anthropic.AsyncAnthropic(base_url=service.url, api_key=service.client.token) as client:
            message = await client.messages.create(model=model, **ask())
            async with client.messages.stream(model=model, **ask()) as stream:
                return message, await stream.get_final_text()

    message, text = asyncio.run(both())
    assert message.content[0].text == text  # type: ignore[union-attr]


@BOTH
def test_tools_and_schemas_in_async(claude: anthropic.Anthropic, service: House, model: str) -> None:
    class Stock(BaseModel):
        sku: str

    fields: dict[str, Any] = {"model": model, **ask("Use get_stock for nonce-later."), "tools": TOOLS}

    async def talk() -> tuple[Any, Any, Any]:
        async with anthropic.AsyncAnthropic(base_url=service.url, api_key=service.client.token) as client:
            called = await client.messages.create(**fields)
            async with client.messages.stream(**fields) as stream:
                streamed = await stream.get_final_message()
            parsed = await client.messages.parse(model=model, output_format=Stock, **ask("nonce-form"))
            return called, streamed, parsed

    called, streamed, parsed = asyncio.run(talk())
    for message in (called, streamed):
        (call,) = [block for block in message.content if block.type == "tool_use"]
        assert (message.stop_reason, call.name, call.input) == ("tool_use", "get_stock", {"sku": "nonce-later"})
    assert parsed.parsed_output == Stock(sku="nonce-form")


def test_a_stream_is_logged_once_with_what_came(claude: anthropic.Anthropic, service: House) -> None:
    # Given a stream that was read to its end
    with claude.messages.stream(model=CLAUDE, **ask("nonce-logged")) as stream:
        message = stream.get_final_message()
    # Then its row is there already, with the answer and what it cost, and its provider was called once
    with psycopg.connect(service.address.database_url) as connection:
        (row,) = connection.execute(
            "SELECT status, output_tokens, cost_usd > 0, body::jsonb ->> 'id' FROM completion"
            " JOIN completion_response ON completion_id = id WHERE request_id = %s",
            (stream.request_id,),
        ).fetchall()
    assert row == ("succeeded", message.usage.output_tokens, True, message.id)
    assert service.simulator.nonces()["nonce-logged"] == {"calls": 1, "executed": 1}


@pytest.mark.parametrize("streamed", [False, True])
@BOTH
def test_the_packages_tool_runner(claude: anthropic.Anthropic, service: House, model: str, streamed: bool) -> None:
    # Given the package's loop, which would keep the conversation on the server: that is refused so that it goes on
    asked: list[str] = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return "rain"

    runner = claude.beta.messages.tool_runner(
        model=model,
        max_tokens=200,
        tools=[get_weather],
        messages=[{"role": "user", "content": "use get_weather for nonce-oslo"}],
        stream=streamed,
    )
    # When it runs to its end, then the tool was called once and its result answered
    last: Any = runner.until_done()
    assert asked == ["nonce-oslo"]
    assert last.stop_reason == "end_turn"
    assert service.simulator.ledger()["calls"] == 2


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("first", "second"), [("claude-sonnet-4-6", "gpt-4o-mini"), ("gpt-4.1", CLAUDE)])
def test_another_vendors_model_takes_over(
    claude: anthropic.Anthropic, service: House, first: str, second: str, streamed: bool
) -> None:
    # Given an alias whose first model is down
    alias = f"either-{first}"
    assert service.client.put(f"/v1/model-mappings/{alias}", {"model": first, "fallbacks": [{"model": second}]}).ok
    wait_until(lambda: alias in [model.id for model in claude.models.list(limit=10).data], 10)
    service.simulator.config(faults=[{"kind": "500", "model": first}])
    # Hints that only Claude understands do not keep the other from it.
    fields = ask("nonce-other", model=alias, tools=TOOLS, system="Be brief.", cache_control={"type": "ephemeral"})
    if first != "gpt-4.1":
        fields["thinking"] = {"type": "adaptive"}
    # When a message is asked for, then the other vendor's model gives it in the same form
    if streamed:
        with claude.messages.stream(**fields) as stream:
            message = stream.get_final_message()
    else:
        message = claude.messages.create(**fields)
    assert message.model.startswith(second)
    assert "nonce-other" in message.content[-1].text  # type: ignore[union-attr]
    assert message.usage.output_tokens > 0


def test_a_model_that_cannot_do_what_is_asked_does_not_take_over(claude: anthropic.Anthropic, service: House) -> None:
    # Given a tool that only Anthropic runs
    first = "claude-sonnet-4-6"
    assert service.client.put(
        "/v1/model-mappings/searching", {"model": first, "fallbacks": [{"model": "gpt-4o-mini"}]}
    ).ok
    wait_until(lambda: "searching" in [model.id for model in claude.models.list(limit=10).data], 10)
    service.simulator.config(faults=[{"kind": "500", "model": first}])
    tools: list[Any] = [{"type": "web_search_20260209", "name": "web_search"}]
    # Then OpenAI's model is not asked with a tool that means something else there
    with pytest.raises(anthropic.InternalServerError):
        claude.with_options(max_retries=0).messages.create(**ask("nonce-search", model="searching", tools=tools))
    assert set(service.simulator.ledger()["by_model"]) == {first}


def test_tokens_are_counted_by_claude_or_estimated(claude: anthropic.Anthropic, service: House) -> None:
    fields: dict[str, Any] = {"messages": ask("hello " * 100)["messages"], "system": "x", "tools": TOOLS}
    counted = claude.messages.count_tokens(model=CLAUDE, **fields).input_tokens
    assert counted == claude.messages.create(model=CLAUDE, max_tokens=9, **fields).usage.input_tokens
    asked = service.simulator.ledger()["other"]
    assert asked["POST /v1/messages/count_tokens 200"] == 1
    estimated = claude.messages.count_tokens(model=GPT, **fields).input_tokens
    assert 100 < estimated < 400
    assert service.simulator.ledger()["other"] == asked


def test_the_same_key_repeats_the_same_answer(claude: anthropic.Anthropic, service: House) -> None:
    header = {"Idempotency-Key": "message-once"}
    first = claude.messages.create(model=CLAUDE, extra_headers=header, **ask("nonce-once"))
    again = claude.messages.create(model=CLAUDE, extra_headers=header, **ask("nonce-once"))
    assert first.id == again.id
    assert service.simulator.nonces()["nonce-once"]["calls"] == 1
