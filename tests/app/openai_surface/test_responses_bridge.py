"""Models and tools that OpenAI serves only at /v1/responses, through chat completions: live, streamed, in batches."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from launcher.client import Client
from launcher.house import House
from tests.app.openai_surface.test_chat import WEATHER, last_row, said
from tests.app.openai_surface.test_files_and_batches import batch_of, ended, line, lines_of, uploaded

PRO = "gpt-5.4-pro"
#: refuses tools on Chat Completions whatever the effort
ASTRA = "gpt-6-astra"


def test_a_completion(house: House, client: openai.OpenAI, caller: Client) -> None:
    house.simulator.config(tokens={"reasoning": 7, "cached": 0.5})

    answer = client.chat.completions.create(
        model=PRO, messages=said("hello nonce-bridge"), max_completion_tokens=100, reasoning_effort="high"
    )

    assert "nonce-bridge" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 7
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens
    assert answer.id.startswith("chatcmpl-")
    row = last_row(house, caller)
    assert (row["model"], row["status"], row["reasoning_tokens"]) == (PRO, "succeeded", 7)
    assert row["cost_usd"] > 0


def test_a_stream(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=PRO, messages=said("hello nonce-flow"), stream=True, stream_options={"include_usage": True}
        )
    )

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "nonce-flow" in text
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 0


@pytest.mark.parametrize(("model", "options"), [(ASTRA, {}), ("gpt-6-luna", {"reasoning_effort": "low"})])
@pytest.mark.parametrize("stream", [False, True])
def test_tools_with_reasoning(client: openai.OpenAI, model: str, options: dict[str, Any], stream: bool) -> None:
    messages: list[Any] = said("use get_weather for nonce-oslo")
    for _ in range(2):
        if stream:
            with client.chat.completions.stream(model=model, messages=messages, tools=[WEATHER], **options) as events:
                answer: Any = events.get_final_completion()
        else:
            answer = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER], **options)
        message = answer.choices[0].message
        if not message.tool_calls:
            break
        assert answer.choices[0].finish_reason == "tool_calls"
        call = message.tool_calls[0]
        assert call.function.name == "get_weather"
        assert json.loads(call.function.arguments) == {"city": "nonce-oslo"}
        messages += [message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "rain"}]

    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_thought_goes_back(house: House, client: openai.OpenAI, stream: bool) -> None:
    # Given a call of a tool that the model thought about
    house.simulator.config(tokens={"reasoning": 7})
    asked: dict[str, Any] = {"model": ASTRA, "tools": [WEATHER]}
    messages: list[Any] = said("use get_weather for nonce-thought")
    if stream:
        with client.chat.completions.stream(messages=messages, **asked) as events:
            message = events.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.create(messages=messages, **asked).choices[0].message
    assert message.tool_calls
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "rain"}
    spoken = message.to_dict()

    def prompt_tokens() -> int:
        answer = client.chat.completions.create(messages=[*messages, spoken, result], **asked)
        assert answer.usage is not None
        return answer.usage.prompt_tokens

    # When its message is sent back as it came, then the model gets what it thought, which it would refuse if changed
    with_it = prompt_tokens()
    assert spoken.pop("reasoning_items")
    assert with_it > prompt_tokens()


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_thought_goes_back_through_anthropics_surface(house: House, caller: Client, stream: bool) -> None:
    house.simulator.config(tokens={"reasoning": 7})
    tools: list[Any] = [{"name": "get_weather", "input_schema": WEATHER["function"]["parameters"]}]  # type: ignore[index]
    asked: dict[str, Any] = {"max_tokens": 200, "tools": tools}
    messages: list[Any] = said("use get_weather for nonce-thought")
    with anthropic.Anthropic(base_url=caller.url, api_key=caller.token) as claude:
        if stream:
            with claude.messages.stream(model=ASTRA, messages=messages, **asked) as events:
                message = events.get_final_message()
        else:
            message = claude.messages.create(model=ASTRA, messages=messages, **asked)
        assert [block.type for block in message.content] == ["redacted_thinking", "tool_use"]
        answer = {"type": "tool_result", "tool_use_id": message.content[1].id, "content": "rain"}  # type: ignore[union-attr]
        rest: Any = {"role": "user", "content": [answer]}
        whole = [*messages, {"role": "assistant", "content": message.content}, rest]
        bare = [*messages, {"role": "assistant", "content": message.content[1:]}, rest]
        counts = [
            claude.messages.create(model=ASTRA, messages=each, **asked).usage.input_tokens for each in (whole, bare)
        ]
        assert counts[0] > counts[1]
        # Claude takes the same conversation: what the other thought is left out.
        assert claude.messages.create(model="claude-haiku-5-5", messages=whole, **asked).content


def test_a_forced_tool_and_a_schema(client: openai.OpenAI) -> None:
    class City(BaseModel):
        name: str

    forced = client.chat.completions.create(
        model=ASTRA,
        messages=said("hello"),
        tools=[WEATHER],  # type: ignore[list-item]
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    )
    assert forced.choices[0].finish_reason == "tool_calls"
    parsed = client.chat.completions.parse(model=PRO, messages=said("hello nonce-parsed"), response_format=City)
    assert parsed.choices[0].message.parsed == City(name="nonce-parsed")


def test_an_answer_that_is_cut_short(client: openai.OpenAI) -> None:
    for stream in (False, True):
        answer: Any = client.chat.completions.create(
            model=PRO, messages=said("hello"), max_completion_tokens=3, stream=stream
        )
        last = [chunk for chunk in answer if chunk.choices][-1] if stream else answer
        assert last.choices[0].finish_reason == "length"


def test_a_refusal_is_told(house: House, client: openai.OpenAI) -> None:
    house.simulator.config(faults=[{"kind": "refusal"}])
    answer = client.chat.completions.create(model=PRO, messages=said("hello"))
    assert answer.choices[0].finish_reason == "content_filter"
    assert answer.choices[0].message.refusal


@pytest.mark.parametrize("kind", ["500", "stream_error", "stream_cut"])
def test_failures(house: House, patient: openai.OpenAI, kind: str) -> None:
    house.simulator.config(faults=[{"kind": kind, "retry_after": 700}])
    with pytest.raises(openai.APIError):
        list(patient.chat.completions.create(model=PRO, messages=said("hello"), stream=True))


def test_what_it_has_no_word_for(patient: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        patient.chat.completions.create(model=PRO, messages=said("hello"), n=2)
    assert caught.value.param == "n"
    assert "/v1/responses" in caught.value.message


def test_it_is_listed(client: openai.OpenAI) -> None:
    assert PRO in {each.id for each in client.models.list()}


def test_the_asynchronous_client(caller: Client) -> None:
    async def run() -> str:
        async with openai.AsyncOpenAI(base_url=f"{caller.url}/v1", api_key=caller.token) as client:
            pieces = []
            async for chunk in await client.chat.completions.create(
                model=PRO, messages=said("nonce-async"), stream=True
            ):
                pieces += [choice.delta.content or "" for choice in chunk.choices]
            return "".join(pieces)

    assert "nonce-async" in asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_through_anthropics_surface(caller: Client, stream: bool) -> None:
    tools: list[Any] = [{"name": "get_weather", "input_schema": WEATHER["function"]["parameters"]}]  # type: ignore[index]
    asked: list[Any] = said("use get_weather for nonce-claude")
    with anthropic.Anthropic(base_url=caller.url, api_key=caller.token) as claude:
        if stream:
            with claude.messages.stream(model=ASTRA, max_tokens=200, messages=asked, tools=tools) as events:
                message = events.get_final_message()
        else:
            message = claude.messages.create(model=ASTRA, max_tokens=200, messages=asked, tools=tools)

        assert message.stop_reason == "tool_use"
        call: Any = message.content[-1]
        assert (call.type, call.name, call.input) == ("tool_use", "get_weather", {"city": "nonce-claude"})
        assert (
            "nonce-pro" in claude.messages.create(model=PRO, max_tokens=200, messages=said("nonce-pro")).content[0].text
        )  # type: ignore[arg-type, union-attr]


def test_rows_of_a_batch(client: openai.OpenAI) -> None:
    with_tools = line("tools", ASTRA)
    with_tools["body"] = {
        "model": ASTRA,
        "messages": said("use get_weather for nonce-batch"),
        "tools": [WEATHER],
        "max_completion_tokens": 200,
    }
    lines: list[Any] = [line("pro", PRO), line("plain", ASTRA), with_tools]

    done = ended(client, batch_of(client, uploaded(client, lines)).id)

    assert done.request_counts is not None
    assert done.request_counts.completed == 3
    bodies = {custom_id: row["response"]["body"] for custom_id, row in lines_of(client, done.output_file_id).items()}
    assert all(body["object"] == "chat.completion" for body in bodies.values())
    assert "nonce-pro" in bodies["pro"]["choices"][0]["message"]["content"]
    assert bodies["tools"]["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
