"""Chat completions through the `openai` package: whole, streamed, with tools and schemas, by both vendors' models."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import openai
import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import BaseModel

from launcher.client import Client, wait_until
from launcher.house import House

MODELS = ("gpt-4o-mini", "claude-haiku-4-5")
either_vendor = pytest.mark.parametrize("model", MODELS)

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@either_vendor
def test_a_completion(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=said("hello nonce-plain"), max_tokens=100)

    assert "nonce-plain" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert answer.model_extra is not None
    assert answer.model_extra["provider"] == ("anthropic" if "claude" in model else "openai")
    assert answer._request_id == answer.model_extra["request_id"]


@either_vendor
def test_a_system_message_and_several_turns(client: openai.OpenAI, model: str) -> None:
    turns = [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "And then nonce-turns"},
    ]

    answer = client.chat.completions.create(model=model, messages=turns)  # type: ignore[arg-type]

    assert "nonce-turns" in (answer.choices[0].message.content or "")


@either_vendor
def test_a_stream(client: openai.OpenAI, model: str) -> None:
    text = ""
    finished = None
    with client.chat.completions.create(model=model, messages=said("hello nonce-stream"), stream=True) as stream:
        for chunk in stream:
            text += chunk.choices[0].delta.content or ""
            finished = chunk.choices[0].finish_reason or finished
            last = chunk

    assert "nonce-stream" in text
    assert finished == "stop"
    assert last.model_extra is not None
    assert float(last.model_extra["cost_usd"]) > 0


@either_vendor
def test_a_stream_with_usage(client: openai.OpenAI, model: str) -> None:
    chunks = list(
        client.chat.completions.create(
            model=model, messages=said("hello"), stream=True, stream_options={"include_usage": True}
        )
    )

    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


@either_vendor
def test_a_tool_is_called_and_its_result_taken(client: openai.OpenAI, model: str) -> None:
    messages: list = said("What is the weather? Call get_weather")
    tools: list = [WEATHER]

    first = client.chat.completions.create(model=model, messages=messages, tools=tools, tool_choice="required")
    assert first.choices[0].finish_reason in ("tool_calls", "stop")
    [call] = first.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert "city" in json.loads(call.function.arguments)

    messages += [first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    second = client.chat.completions.create(model=model, messages=messages, tools=tools)
    assert second.choices[0].message.content


@pytest.mark.parametrize("way", ["create", "parse", "stream"])
def test_a_conversation_goes_through_the_models_of_both_vendors(house: House, client: openai.OpenAI, way: str) -> None:
    # Given models that think, each in its vendor's way, and each asked with all that came before as it came
    house.simulator.config(tokens={"reasoning": 5})
    strict = {**WEATHER["function"], "strict": True}
    messages: list[Any] = said("use get_weather for nonce-through")
    for model in ("claude-haiku-5-5", "gpt-6-astra", "gpt-4o-mini", "claude-sonnet-4-6", "gpt-6-astra"):
        fields: Any = {"model": model, "messages": messages, "tools": [{"type": "function", "function": strict}]}
        if way == "stream":
            with client.chat.completions.stream(**fields) as events:
                answer: Any = events.get_final_completion().choices[0].message
        else:
            answer = getattr(client.chat.completions, way)(**fields).choices[0].message
        # Then each calls the tool
        (call,) = answer.tool_calls
        assert json.loads(call.function.arguments) == {"city": "nonce-through"}
        messages += [
            answer,
            {"role": "tool", "tool_call_id": call.id, "content": "rain"},
            {"role": "assistant", "content": "It rains."},
            *said("Once more, use get_weather for nonce-through"),
        ]


@either_vendor
def test_a_streamed_tool_call(client: openai.OpenAI, model: str) -> None:
    with client.chat.completions.stream(
        model=model,
        messages=said("Call get_weather"),
        tools=[{**WEATHER, "function": {**WEATHER["function"], "strict": True}}],  # type: ignore[dict-item, list-item]
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    ) as stream:
        final = stream.get_final_completion()

    [call] = final.choices[0].message.tool_calls or []
    assert call.function.name == "get_weather"
    assert "city" in json.loads(call.function.arguments)


class Event(BaseModel):
    """What an answer is parsed into."""

    name: str
    participants: list[str]


@either_vendor
def test_structured_output(client: openai.OpenAI, model: str) -> None:
    model = model.replace("haiku-4-5", "sonnet-4-5")

    answer = client.chat.completions.parse(model=model, messages=said("Alice and Bob meet"), response_format=Event)

    assert isinstance(answer.choices[0].message.parsed, Event)


def test_several_choices(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=said("hello"), n=3)
    streamed = list(client.chat.completions.create(model="gpt-4o-mini", messages=said("hello"), n=3, stream=True))

    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    ended = [choice.index for chunk in streamed for choice in chunk.choices if choice.finish_reason]
    assert sorted(ended) == [0, 1, 2]


@either_vendor
def test_the_asynchronous_client(caller: Client, model: str) -> None:
    async def talk() -> tuple[list[str], str]:
        async with openai.AsyncOpenAI(base_url=f"{caller.url}/v1", api_key=caller.token) as client:
            asked = [
                client.chat.completions.create(model=model, messages=said(f"hello nonce-async-{n}")) for n in range(10)
            ]
            answers = await asyncio.gather(*asked)
            stream = await client.chat.completions.create(model=model, messages=said("hello nonce-as"), stream=True)
            text = ""
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
            return [answer.choices[0].message.content or "" for answer in answers], text

    answers, text = asyncio.run(talk())

    assert all(f"nonce-async-{n}" in answer for n, answer in enumerate(answers))
    assert "nonce-as" in text


@either_vendor
def test_tools_and_schemas_asynchronously(caller: Client, model: str) -> None:
    class City(BaseModel):
        name: str

    asked: Any = said("use get_weather for nonce-asked")

    async def talk() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{caller.url}/v1", api_key=caller.token) as client:
            called = await client.chat.completions.create(model=model, messages=asked, tools=[WEATHER])  # type: ignore[list-item]
            async with client.chat.completions.stream(model=model, messages=asked, tools=[WEATHER]) as events:  # type: ignore[list-item]
                streamed = await events.get_final_completion()
            async with client.chat.completions.stream(
                model=model, messages=said("nonce-shape"), response_format=City
            ) as events:
                shaped = await events.get_final_completion()
            parsed = await client.chat.completions.parse(
                model=model, messages=said("nonce-shape"), response_format=City
            )
            return [called, streamed, shaped, parsed]

    called, streamed, shaped, parsed = asyncio.run(talk())

    for answer in (called, streamed):
        assert answer.choices[0].finish_reason == "tool_calls"
        (call,) = answer.choices[0].message.tool_calls
        assert json.loads(call.function.arguments) == {"city": "nonce-asked"}
    assert shaped.choices[0].message.parsed == parsed.choices[0].message.parsed == City(name="nonce-shape")


def test_the_temperature_is_the_providers_own_unless_given(client: openai.OpenAI) -> None:
    # gpt-5.6 refuses any temperature but 1: a default of ours would be refused.
    answer = client.chat.completions.create(model="gpt-5.6-luna", messages=said("hello"), max_completion_tokens=200)

    assert answer.choices[0].message.content


def test_a_stream_comes_as_it_is_produced(house: House, client: openai.OpenAI) -> None:
    house.simulator.config(stream={"chunks": 4, "interval": 0.3})
    times = []
    began = time.monotonic()
    for _ in client.chat.completions.create(model="gpt-4o-mini", messages=said("hello"), stream=True):
        times.append(time.monotonic() - began)

    assert times[0] < 0.3
    assert times[-2] - times[0] > 0.8


@either_vendor
def test_a_caller_who_leaves_stops_the_call_and_is_charged_for_what_came(
    house: House, caller: Client, patient: openai.OpenAI, model: str
) -> None:
    house.simulator.config(stream={"chunks": 200, "interval": 0.05})

    stream = patient.chat.completions.create(model=model, messages=said("hello " * 200), stream=True)
    for _, _chunk in zip(range(4), stream, strict=False):
        pass
    stream.close()

    house.simulator.wait_for(lambda ledger: ledger["abandoned"] == 1 and ledger["in_flight"] == 0)
    row = last_row(house, caller)
    assert (row["status"], row["error_type"]) == ("cancelled", "cancelled")
    assert row["input_tokens"] > 0
    assert row["cost_usd"] > 0


def test_a_caller_who_leaves_before_the_first_byte_stops_the_call(house: House, caller: Client) -> None:
    house.simulator.config(latency=30)
    client = openai.OpenAI(base_url=f"{caller.url}/v1", api_key=caller.token, timeout=0.3, max_retries=0)

    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="gpt-4o-mini", messages=said("hello"), stream=True)

    house.simulator.wait_for(lambda ledger: ledger["abandoned"] == 1)
    assert last_row(house, caller)["status"] == "cancelled"


@either_vendor
def test_the_row_is_there_when_the_stream_ends(house: House, caller: Client, client: openai.OpenAI, model: str) -> None:
    for _ in client.chat.completions.create(model=model, messages=said("hello"), stream=True):
        pass

    row = last_row(house, caller, wait=False)
    assert row["status"] == "succeeded"
    assert row["output_tokens"] > 0
    assert row["cost_usd"] > 0


@either_vendor
def test_an_error_in_mid_stream(house: House, caller: Client, client: openai.OpenAI, model: str) -> None:
    house.simulator.config(faults=[{"kind": "stream_error"}])
    with pytest.raises(openai.APIError) as caught:
        list(client.chat.completions.create(model=model, messages=said("hello"), stream=True))

    assert not isinstance(caught.value, openai.APIStatusError)
    row = last_row(house, caller)
    assert row["status"] == "failed"
    assert row["output_tokens"] > 0
    assert house.simulator.ledger()["calls"] == 1


@either_vendor
def test_a_stream_that_is_cut_off_is_an_error(house: House, caller: Client, client: openai.OpenAI, model: str) -> None:
    house.simulator.config(faults=[{"kind": "stream_cut"}])

    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model=model, messages=said("hello"), stream=True))

    assert last_row(house, caller)["error_type"] == "network_error"


def test_a_stream_falls_back_before_it_begins(house: House, caller: Client, client: openai.OpenAI) -> None:
    target = {"model": "gpt-4o-mini", "fallbacks": [{"model": "claude-haiku-4-5"}]}
    assert caller.put("/v1/model-mappings/fast", target).status_code in (200, 201)
    house.simulator.config(faults=[{"kind": "quota", "vendor": "openai"}])

    chunks = list(client.chat.completions.create(model="fast", messages=said("hello"), stream=True))

    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["provider"] == "anthropic"
    assert last_row(house, caller)["provider"] == "anthropic"


def last_row(house: House, caller: Client, *, wait: bool = True) -> dict:
    """The newest completion of the caller's tenant."""
    found: list[dict] = []

    def there() -> bool:
        with psycopg.connect(house.env["DATABASE_URL"], row_factory=dict_row) as connection:
            found[:] = connection.execute(
                "SELECT * FROM completion WHERE tenant_id = %s ORDER BY created_at DESC LIMIT 1",
                (caller.tenant_id.removeprefix("tenant_"),),
            ).fetchall()
        return bool(found)

    if wait:
        wait_until(there, 5)
    else:
        assert there()
    return found[0]
