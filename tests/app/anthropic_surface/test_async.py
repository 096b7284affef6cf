"""The asynchronous `anthropic` client: many calls at once, streams, callers who leave, retries, batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import pytest

from launcher.client import Client
from launcher.house import House
from tests.app.leaving import logged, streams_that_are_left_end_alone

CLAUDE, GPT = "claude-haiku-5-5", "gpt-4o-mini"
MODELS = (CLAUDE, GPT)
either_vendor = pytest.mark.parametrize("model", MODELS)
#: what the package gives for a whole message that is streamed without tools or thinking
EVENTS = ["message_start", "content_block_start", "text", "content_block_stop", "message_delta", "message_stop"]


@pytest.fixture
def caller(claude: anthropic.Anthropic, service: House) -> Client:
    """A project of its own: its rows are those of this test."""
    return service.new_client()


def ask(text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"max_tokens": 500, "messages": [{"role": "user", "content": text}], **fields}


def talk(caller: Client, what: Callable[[anthropic.AsyncAnthropic], Awaitable[Any]], **options: Any) -> Any:
    """What `what` gives, called with a client in an event loop of its own."""

    async def run() -> Any:
        async with anthropic.AsyncAnthropic(base_url=caller.url, api_key=caller.token, timeout=30, **options) as client:
            return await what(client)

    return asyncio.run(run())


@either_vendor
def test_each_of_many_calls_at_once_gets_its_own_answer(service: House, caller: Client, model: str) -> None:
    service.simulator.config(latency={"kind": "uniform", "low": 0.0, "high": 0.3})

    async def plain(client: anthropic.AsyncAnthropic, nonce: str) -> str:
        message: Any = await client.messages.create(model=model, **ask(nonce))
        return str(message.content[0].text)

    async def streamed(client: anthropic.AsyncAnthropic, nonce: str) -> str:
        text = ""
        async for event in await client.messages.create(model=model, stream=True, **ask(nonce)):
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                text += event.delta.text
        return text

    async def helped(client: anthropic.AsyncAnthropic, nonce: str) -> str:
        async with client.messages.stream(model=model, **ask(nonce)) as stream:
            return await stream.get_final_text()

    async def all_at_once(client: anthropic.AsyncAnthropic) -> list[str]:
        ways = (plain, streamed, helped)
        return await asyncio.gather(*(ways[n % 3](client, f"nonce-many-{n:02}") for n in range(45)))

    answers = talk(caller, all_at_once)

    assert all(f"nonce-many-{n:02}" in answer for n, answer in enumerate(answers))
    assert [status for status, *_ in logged(service, caller)] == ["succeeded"] * 45
    assert service.simulator.ledger()["calls"] == 45


@either_vendor
@pytest.mark.parametrize("leave", ["cancelled", "broken off"])
def test_streams_that_are_left_end_alone(service: House, caller: Client, model: str, leave: str) -> None:
    @asynccontextmanager
    async def pieces(client: anthropic.AsyncAnthropic, text: str) -> AsyncIterator[AsyncIterator[str]]:
        async with client.messages.stream(model=model, **ask(text)) as stream:
            yield stream.text_stream

    streams_that_are_left_end_alone(service, caller, leave, talk, pieces)


@either_vendor
def test_a_call_that_is_cancelled_leaves_the_client_usable(service: House, caller: Client, model: str) -> None:
    service.simulator.config(latency=1)

    async def give_up_and_ask_again(client: anthropic.AsyncAnthropic) -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.messages.create(model=model, **ask("nonce-given-up"))
        message: Any = await client.messages.create(model=model, **ask("nonce-second"))
        return str(message.content[0].text)

    assert "nonce-second" in talk(caller, give_up_and_ask_again)


@either_vendor
def test_every_event_comes_in_its_place(caller: Client, model: str) -> None:
    async def read(client: anthropic.AsyncAnthropic) -> tuple[list[str], Any]:
        async with client.messages.stream(model=model, **ask("nonce-events")) as stream:
            kinds = [event.type async for event in stream]
            return kinds, await stream.get_final_message()

    kinds, message = talk(caller, read)

    once = [kind for n, kind in enumerate(kinds) if kind != "content_block_delta" and kind not in kinds[:n]]
    assert once == EVENTS
    assert kinds.count("content_block_delta") == kinds.count("text") > 1
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0


@either_vendor
def test_errors_are_those_of_the_package(service: House, caller: Client, model: str) -> None:
    async def call(client: anthropic.AsyncAnthropic, **changes: Any) -> None:
        fields: dict[str, Any] = {"model": model, **ask(), **changes}
        answer = await client.messages.create(**fields)
        if fields.get("stream"):
            async for _ in answer:
                pass

    async def go_wrong(client: anthropic.AsyncAnthropic) -> None:
        with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
            await call(client, max_tokens=-1)
        with pytest.raises(anthropic.NotFoundError):
            await call(client, model="nobodys")
        with pytest.raises(anthropic.AuthenticationError):
            await call(client.with_options(api_key="wrong"))
        service.simulator.config(latency=30)
        with pytest.raises(anthropic.APITimeoutError):
            await call(client.with_options(timeout=0.3), stream=True)
        service.simulator.config(latency=0, faults=[{"kind": "stream_error"}])
        with pytest.raises(anthropic.APIStatusError) as broken:
            await call(client, stream=True)
        assert (broken.value.status_code, broken.value.type) == (
            200,
            "overloaded_error" if model == CLAUDE else "api_error",
        )

    talk(caller, go_wrong, max_retries=0)


@either_vendor
@pytest.mark.parametrize("stream", [False, True])
def test_the_client_tries_again_and_succeeds(service: House, caller: Client, model: str, stream: bool) -> None:
    # Three calls are the service's own; the fourth is made for the package's second try.
    service.simulator.config(faults=[{"kind": "429", "count": 3, "retry_after": 0.1, "retry_after_ms": 100}])

    async def call(client: anthropic.AsyncAnthropic) -> int:
        raw: Any = await client.messages.with_raw_response.create(model=model, stream=stream, **ask("nonce-again"))
        answer = await raw.parse()
        if stream:
            assert [event.type async for event in answer][-1] == "message_stop"
        else:
            assert "nonce-again" in answer.content[0].text
        return int(raw.retries_taken)

    assert talk(caller, call) == 1
    assert service.simulator.ledger()["calls"] == 4


def test_batches_models_and_counts(caller: Client) -> None:
    def row(model: str) -> Any:
        return {"custom_id": model, "params": {"model": model, **ask(f"nonce-{model}")}}

    async def work(client: anthropic.AsyncAnthropic) -> dict[str, Any]:
        names = [model.id async for model in client.models.list(limit=5)]
        assert set(MODELS) <= set(names)
        assert (await client.models.retrieve(CLAUDE)).id == CLAUDE
        fields = {"messages": ask("hello " * 50)["messages"]}
        counts = [await client.messages.count_tokens(model=model, **fields) for model in MODELS]
        assert all(count.input_tokens > 20 for count in counts)
        batches = client.messages.batches
        made = [await batches.create(requests=[row(model) for model in MODELS]) for _ in range(3)]
        assert [batch.id async for batch in batches.list(limit=1)] == [batch.id for batch in made[::-1]]
        async with asyncio.timeout(30):
            while (await batches.retrieve(made[0].id)).processing_status != "ended":
                await asyncio.sleep(0.05)
        found = {line.custom_id: line.result async for line in await batches.results(made[0].id)}
        await batches.delete(made[0].id)
        with pytest.raises(anthropic.NotFoundError):
            await batches.retrieve(made[0].id)
        return found

    found = talk(caller, work)

    for model in MODELS:
        assert found[model].type == "succeeded"
        assert f"nonce-{model}" in found[model].message.content[0].text
