"""Asynchronous callers who leave streams that others read on: the same for the packages of both vendors."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import psycopg

from launcher.client import Client, wait_until
from launcher.house import House

#: A stream's pieces, opened with a client and a prompt; leaving the context closes it.
Pieces = Callable[[Any, str], AbstractAsyncContextManager[AsyncIterator[Any]]]
#: Calls a function with a client in an event loop of its own.
Talk = Callable[[Client, Callable[[Any], Awaitable[Any]]], Any]


async def until(condition: Callable[[], bool]) -> None:
    """Return once it holds; what else runs in this loop goes on meanwhile. Raises TimeoutError."""
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.01)


def logged(house: House, caller: Client) -> list[tuple[Any, ...]]:
    """status, input tokens, output tokens and cost of the caller's completions."""
    with psycopg.connect(house.address.database_url) as connection:
        return connection.execute(
            "SELECT status, input_tokens, output_tokens, cost_usd FROM completion WHERE tenant_id = %s",
            (caller.tenant_id.removeprefix("tenant_"),),
        ).fetchall()


def streams_that_are_left_end_alone(house: House, caller: Client, leave: str, talk: Talk, pieces: Pieces) -> None:
    """Of ten streams at once six are left, and only those end.

    Parameters
    ----------
    leave : "cancelled" (their tasks are) or "broken off" (their readers stop).
    """
    seen = Counter[int]()

    async def read(client: Any, number: int) -> None:
        async with pieces(client, "hello " * 200 + f"nonce-{number}") as stream:
            async for _ in stream:
                seen[number] += 1
                if leave == "broken off" and number < 6 and seen[number] == 4:
                    return

    async def some_leave(client: Any) -> list[Any]:
        tasks = [asyncio.create_task(read(client, number)) for number in range(10)]
        await until(lambda: all(seen[number] >= 4 for number in range(10)))
        if leave == "cancelled":
            for task in tasks[:6]:
                task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    # The package takes its time over the first stream, which must not be the time of the others.
    talk(house.client, lambda client: read(client, 9))
    seen.clear()
    house.simulator.config(stream={"chunks": 24, "interval": 0.05}, tokens={"output": 12})
    ends = talk(caller, some_leave)

    expected = asyncio.CancelledError if leave == "cancelled" else type(None)
    assert [type(end) for end in ends] == [expected] * 6 + [type(None)] * 4
    # Those that went on were read to their ends, the calls of the others were stopped
    assert min(seen[number] for number in range(6, 10)) > max(seen[number] for number in range(6))
    house.simulator.wait_for(lambda ledger: ledger["in_flight"] == 0 and ledger["abandoned"] >= 6)
    wait_until(lambda: len(logged(house, caller)) == 10, 10)
    rows = logged(house, caller)
    assert Counter(status for status, *_ in rows) == {"cancelled": 6, "succeeded": 4}
    # and what had come by then is paid.
    assert all(min(tokens_in, tokens_out, cost) > 0 for _, tokens_in, tokens_out, cost in rows)
