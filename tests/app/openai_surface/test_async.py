"""The asynchronous `openai` client: many calls at once, streams, callers who leave, retries, files and batches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from launcher.client import Client
from launcher.house import House
from tests.app.leaving import logged, streams_that_are_left_end_alone

MODELS = ("gpt-4o-mini", "claude-haiku-4-5")
either_vendor = pytest.mark.parametrize("model", MODELS)


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


@asynccontextmanager
async def connected(caller: Client, **options: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{caller.url}/v1", api_key=caller.token, timeout=30, **options) as client:
        yield client


def talk(caller: Client, what: Callable[[openai.AsyncOpenAI], Awaitable[Any]], **options: Any) -> Any:
    """What `what` gives, called with a client in an event loop of its own."""

    async def run() -> Any:
        async with connected(caller, **options) as client:
            return await what(client)

    return asyncio.run(run())


@either_vendor
def test_each_of_many_calls_at_once_gets_its_own_answer(house: House, caller: Client, model: str) -> None:
    house.simulator.config(latency={"kind": "uniform", "low": 0.0, "high": 0.3})

    async def plain(client: openai.AsyncOpenAI, nonce: str) -> str:
        answer = await client.chat.completions.create(model=model, messages=said(nonce))
        return answer.choices[0].message.content or ""

    async def streamed(client: openai.AsyncOpenAI, nonce: str) -> str:
        text = ""
        async for chunk in await client.chat.completions.create(model=model, messages=said(nonce), stream=True):
            text += chunk.choices[0].delta.content or ""
        return text

    async def helped(client: openai.AsyncOpenAI, nonce: str) -> str:
        async with client.chat.completions.stream(model=model, messages=said(nonce)) as events:
            return (await events.get_final_completion()).choices[0].message.content or ""

    async def all_at_once(client: openai.AsyncOpenAI) -> list[str]:
        ways = (plain, streamed, helped)
        return await asyncio.gather(*(ways[n % 3](client, f"nonce-many-{n:02}") for n in range(45)))

    answers = talk(caller, all_at_once)

    assert all(f"nonce-many-{n:02}" in answer for n, answer in enumerate(answers))
    assert [status for status, *_ in logged(house, caller)] == ["succeeded"] * 45
    assert house.simulator.ledger()["calls"] == 45


@either_vendor
@pytest.mark.parametrize("leave", ["cancelled", "broken off"])
def test_streams_that_are_left_end_alone(house: House, caller: Client, model: str, leave: str) -> None:
    @asynccontextmanager
    async def pieces(client: openai.AsyncOpenAI, text: str) -> AsyncIterator[AsyncIterator[Any]]:
        async with await client.chat.completions.create(model=model, messages=said(text), stream=True) as stream:
            yield stream

    streams_that_are_left_end_alone(house, caller, leave, talk, pieces)


@either_vendor
def test_a_call_that_is_cancelled_leaves_the_client_usable(house: House, caller: Client, model: str) -> None:
    house.simulator.config(latency=1)

    async def give_up_and_ask_again(client: openai.AsyncOpenAI) -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.chat.completions.create(model=model, messages=said("nonce-given-up"))
        answer = await client.chat.completions.create(model=model, messages=said("nonce-second"))
        return answer.choices[0].message.content or ""

    assert "nonce-second" in talk(caller, give_up_and_ask_again)


@either_vendor
def test_errors_are_those_of_the_package(house: House, caller: Client, model: str) -> None:
    async def ask(client: openai.AsyncOpenAI, **changes: Any) -> None:
        fields: dict[str, Any] = {"model": model, "messages": said("hello"), **changes}
        answer = await client.chat.completions.create(**fields)
        if fields.get("stream"):
            async for _ in answer:
                pass

    async def go_wrong(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as wrong:
            await ask(client, temperature=7)
        assert wrong.value.param == "temperature"
        with pytest.raises(openai.NotFoundError):
            await ask(client, model="nobodys")
        with pytest.raises(openai.AuthenticationError):
            await ask(client.with_options(api_key="wrong"))
        house.simulator.config(latency=30)
        with pytest.raises(openai.APITimeoutError):
            await ask(client.with_options(timeout=0.3), stream=True)
        house.simulator.config(latency=0, faults=[{"kind": "stream_error"}])
        with pytest.raises(openai.APIError) as broken:
            await ask(client, stream=True)
        assert not isinstance(broken.value, openai.APIStatusError)

    talk(caller, go_wrong, max_retries=0)


@either_vendor
@pytest.mark.parametrize("stream", [False, True])
def test_the_client_tries_again_and_succeeds(house: House, caller: Client, model: str, stream: bool) -> None:
    # Three calls are the service's own; the fourth is made for the package's second try.
    house.simulator.config(faults=[{"kind": "429", "count": 3, "retry_after": 0.1, "retry_after_ms": 100}])

    async def ask(client: openai.AsyncOpenAI) -> str:
        words = said("nonce-again")
        raw = await client.chat.completions.with_raw_response.create(model=model, messages=words, stream=stream)
        assert raw.retries_taken == 1
        answer: Any = raw.parse()
        if not stream:
            return answer.choices[0].message.content
        return "".join([chunk.choices[0].delta.content or "" async for chunk in answer])

    assert "nonce-again" in talk(caller, ask)
    assert house.simulator.ledger()["calls"] == 4


@either_vendor
def test_responses_as_they_are(caller: Client, model: str) -> None:
    async def look(client: openai.AsyncOpenAI) -> list[str]:
        chat = client.chat.completions.with_streaming_response
        async with chat.create(model=model, messages=said("nonce-raw"), stream=True) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.headers["x-request-id"]
            return [line async for line in response.iter_lines() if line]

    lines = talk(caller, look)

    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1] if not line.startswith(":")]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_files_batches_models_and_embeddings(caller: Client) -> None:
    bodies = [{"model": model, "messages": said(f"nonce-{model}")} for model in MODELS]
    lines = [
        {"custom_id": body["model"], "method": "POST", "url": "/v1/chat/completions", "body": body} for body in bodies
    ]
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    async def work(client: openai.AsyncOpenAI) -> dict[str, Any]:
        names = [model.id async for model in client.models.list()]
        assert set(MODELS) <= set(names)
        vectors = await client.embeddings.create(model="text-embedding-3-small", input=["a", "b"], dimensions=8)
        assert [len(each.embedding) for each in vectors.data] == [8, 8]
        uploads = [client.files.create(file=(f"{n}.jsonl", content), purpose="batch") for n in range(3)]
        files = await asyncio.gather(*uploads)
        listed = [file.id async for file in client.files.list(limit=1, purpose="batch")]
        assert sorted(listed) == sorted(file.id for file in files)
        made = [
            await client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
            for file in files
        ]
        assert [batch.id async for batch in client.batches.list(limit=1)] == [batch.id for batch in made[::-1]]
        async with asyncio.timeout(30):
            while (batch := await client.batches.retrieve(made[0].id)).status != "completed":
                await asyncio.sleep(0.05)
        assert batch.output_file_id is not None
        answers = (await client.files.content(batch.output_file_id)).text
        assert (await client.files.delete(files[0].id)).deleted
        return {line["custom_id"]: line["response"]["body"] for line in map(json.loads, answers.splitlines())}

    found = talk(caller, work)

    for model in MODELS:
        assert f"nonce-{model}" in found[model]["choices"][0]["message"]["content"]
