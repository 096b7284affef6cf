"""Measures the simulator itself: `python -m simulator.bench` prints calls per second, and memory with calls held."""

from __future__ import annotations

import argparse
import asyncio
import time
from functools import partial
from typing import cast

import orjson
import psutil
import uvloop

from simulator.__main__ import allow_many_files
from simulator.handle import SimulatorHandle

_MESSAGES = [{"role": "user", "content": "nonce-bench How far is it to the moon? Answer in one sentence, please."}]
_KEY = b"authorization: Bearer sk-bench\r\n"
_OPENAI = ("/v1/chat/completions", {"model": "gpt-4o-mini", "messages": _MESSAGES, "max_tokens": 64}, b"")
_ANTHROPIC = (
    "/v1/messages",
    {"model": "claude-sonnet-4-5", "messages": _MESSAGES, "max_tokens": 64},
    b"anthropic-version: 2023-06-01\r\n",
)


_HELD_SECONDS = 10.0


class _Caller(asyncio.Protocol):
    """One keep-alive connection that sends its request again as soon as the answer is whole."""

    def __init__(self, request: bytes, until: float, done: asyncio.Future[int]) -> None:
        self.request = request
        self.until = until
        self.done = done
        self.answers = 0
        self.size = 0
        self.missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio's classes, only their equals.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the simulator closed the connection"))

    def data_received(self, data: bytes) -> None:
        if not self.missing:
            if not data.startswith(b"HTTP/1.1 200"):
                self.done.set_exception(RuntimeError(data[:500].decode("latin-1")))
                return
            end = data.index(b"\r\n\r\n")
            at = data.index(b"content-length: ") + 16
            self.missing = end + 4 + int(data[at : data.index(b"\r\n", at)])
        self.missing -= len(data)
        if self.missing > 0:
            return
        self.answers += 1
        if time.monotonic() < self.until:
            self.transport.write(self.request)
        elif not self.done.done():
            self.done.set_result(self.answers)
            self.transport.close()


def _request(surface: tuple[str, dict[str, object], bytes]) -> bytes:
    path, body, headers = surface
    data = orjson.dumps(body)
    start = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n"
    )
    return start.encode() + _KEY + headers + b"accept: application/json\r\nuser-agent: bench\r\n\r\n" + data


async def _load(url: str, request: bytes, connections: int, seconds: float) -> int:
    loop = asyncio.get_running_loop()
    host, port = url.removeprefix("http://").split(":")
    until = time.monotonic() + seconds
    waiting = []
    for _ in range(connections):
        done: asyncio.Future[int] = loop.create_future()
        waiting.append(done)
        await loop.create_connection(partial(_Caller, request, until, done), host, int(port))
    return sum(await asyncio.gather(*waiting))


def _rate(simulator: SimulatorHandle, name: str, request: bytes, connections: int, seconds: float) -> None:
    process = psutil.Process(simulator.pid)
    cpu = process.cpu_times()
    start = time.monotonic()
    answers = uvloop.run(_load(simulator.url, request, connections, seconds))
    took = time.monotonic() - start
    used = process.cpu_times()
    spent = used.user + used.system - cpu.user - cpu.system
    print(
        f"{name}: {answers / took:,.0f} calls/s over {connections} connections; the simulator used {spent / took:.0%} "
        f"of a core, {spent / answers * 1e6:.0f} us a call: {answers / spent:,.0f} calls/s on a core of its own"
    )


def _held(simulator: SimulatorHandle, calls: int) -> None:
    simulator.config(latency=_HELD_SECONDS)
    process = psutil.Process(simulator.pid)
    before = process.memory_info().rss
    start = time.monotonic()

    async def hold() -> tuple[int, int]:
        waiting = asyncio.create_task(_load(simulator.url, _request(_OPENAI), calls, 0))
        while not waiting.done() and (await asyncio.to_thread(simulator.ledger))["in_flight"] < calls:
            await asyncio.sleep(0.1)
        return process.memory_info().rss, await waiting

    held, answers = uvloop.run(hold())
    most = simulator.ledger()["max_concurrency"]
    each = (held - before) / 1024 / answers
    print(
        f"held: {answers:,} calls of {_HELD_SECONDS:.0f} s, {most:,} at once, all answered after "
        f"{time.monotonic() - start:.1f} s; memory {before / 2**20:.0f} MiB before and {held / 2**20:.0f} MiB while "
        f"held ({each:.1f} KiB a call)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m simulator.bench")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--held", type=int, default=10_000)
    options = parser.parse_args()
    allow_many_files()
    with SimulatorHandle() as simulator:
        for name, surface in (("openai", _OPENAI), ("anthropic", _ANTHROPIC)):
            _rate(simulator, name, _request(surface), options.connections, options.seconds)
        if options.held:
            simulator.reset()
            _held(simulator, options.held)


if __name__ == "__main__":
    main()
