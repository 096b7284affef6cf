"""The load generator: a process of its own on raw sockets, cheap enough not to be what is measured.

Reads what to do as JSON from its standard input and writes what came of it as JSON to its standard output; see `run`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import secrets
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from urllib.parse import urlsplit

import uvloop

from benchmarks import rows
from benchmarks.common import allow_many_files
from benchmarks.http_connection import Connection
from benchmarks.pauses import Pauses

#: A call that takes longer than this is a fault, in seconds.
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of one contender.

    `kind` is "closed" (each caller sends its next call when it has its answer), "paced" (calls are due at a rate,
    whatever the earlier ones do, and timed from their own moment) or "streams" (each caller holds one stream).
    """

    kind: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    model: str = rows.MODEL
    callers: int = 32
    #: how long it lasts: closed and paced
    seconds: float = 5.0
    #: calls a second: paced; streams opened a second: streams
    rate: float = 200.0
    #: ask for server-sent events, and time the first one: paced
    stream: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What came of it. Times are in seconds."""

    answers: int
    #: from the first call to the last answer
    seconds: float
    #: processor time of the generator
    processor_seconds: float
    #: paced: each call from the moment at which it was due to its end, or to its first event if it streams
    waited: list[float] = field(default_factory=list)
    #: paced: those of them that met no pause of the machine (Pauses)
    calm: list[float] = field(default_factory=list)
    #: streams: events received, the time between each two that followed each other on one stream, and between the
    #: last piece of an answer's text and its end
    events: int = 0
    gaps: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    #: streams: the most that were open at once
    at_once: int = 0


def run(load: Load) -> Loaded:
    """Do it in a process of its own. Raises RuntimeError with what it said if a call failed."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.caller"],
        input=json.dumps(asdict(load)).encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{load.kind} calls of {load.url} failed: {done.stderr.decode()[-2000:]}")
    return Loaded(**json.loads(done.stdout))


class _Requests:
    """Requests with a nonce each."""

    def __init__(self, load: Load) -> None:
        parts = urlsplit(load.url)
        self.host, self.port = parts.hostname or "", parts.port or 80
        lines = [f"POST {parts.path} HTTP/1.1", f"host: {parts.netloc}", "content-type: application/json"]
        self._head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in load.headers.items())])
        self._label = secrets.token_hex(3)
        self._stream = b'"stream":true,' if load.stream or load.kind == "streams" else b""
        #: what of the usual body is another here
        self._other = {rows.MODEL: load.model} | (
            {'"max_tokens":32': '"max_tokens":256'} if load.kind == "streams" else {}
        )
        self._count = 0

    def next(self) -> bytes:
        self._count += 1
        text = rows.call(f"{self._label}-{self._count}", self._count)
        for usual, other in self._other.items():
            text = text.replace(usual.encode(), other.encode(), 1)
        body = b"{" + self._stream + text[1:]
        return f"{self._head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body

    async def connect(self) -> Connection:
        _, protocol = await asyncio.get_running_loop().create_connection(Connection, self.host, self.port)
        return protocol


async def _closed(load: Load) -> Loaded:
    requests = _Requests(load)
    connections = [await requests.connect() for _ in range(load.callers)]
    # Connected, loaded, with plans made: then it counts.
    await asyncio.gather(*(connection.call(requests.next()) for connection in connections))
    used, start = _processor_seconds(), time.perf_counter()
    until = start + load.seconds
    answers = 0

    async def caller(connection: Connection) -> None:
        nonlocal answers
        while time.perf_counter() < until:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await connection.call(requests.next())
            answers += 1

    await asyncio.gather(*map(caller, connections))
    seconds = time.perf_counter() - start
    return Loaded(answers=answers, seconds=seconds, processor_seconds=_processor_seconds() - used)


async def _paced(load: Load) -> Loaded:
    requests = _Requests(load)
    idle = [await requests.connect() for _ in range(load.callers)]
    await asyncio.gather(*(connection.call(requests.next()) for connection in idle))
    calls: list[tuple[float, float]] = []
    pauses = Pauses()
    watch = asyncio.create_task(pauses.watch())

    async def one(due: float) -> None:
        connection = idle.pop() if idle else await requests.connect()
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await connection.call(requests.next())
        calls.append((due, (connection.first_event_at if load.stream else time.perf_counter()) - due))
        idle.append(connection)

    used, start = _processor_seconds(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(load.seconds * load.rate)):
            due = start + number / load.rate
            if (left := due - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            group.create_task(one(due))
    seconds = time.perf_counter() - start
    watch.cancel()
    return Loaded(
        answers=len(calls),
        seconds=seconds,
        processor_seconds=_processor_seconds() - used,
        waited=[waited for _, waited in calls],
        calm=pauses.without(calls),
    )


async def _streams(load: Load) -> Loaded:
    requests = _Requests(load)
    running = at_once = 0
    connections: list[Connection] = []

    async def one() -> None:
        nonlocal running, at_once
        connection = await requests.connect()
        connection.gaps = []
        connections.append(connection)
        running += 1
        at_once = max(at_once, running)
        await connection.call(requests.next())
        connection.ended_at = time.perf_counter()
        running -= 1
        connection.transport.close()

    used, start = _processor_seconds(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(load.callers):
            if (left := start + number / load.rate - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            group.create_task(one())
    seconds = time.perf_counter() - start
    return Loaded(
        answers=len(connections),
        seconds=seconds,
        processor_seconds=_processor_seconds() - used,
        events=sum(connection.events for connection in connections),
        gaps=[gap for connection in connections for gap in connection.gaps or ()],
        ends=[connection.ended_at - connection.end_began_at for connection in connections if connection.end_began_at],
        at_once=at_once,
    )


_KINDS = {"closed": _closed, "paced": _paced, "streams": _streams}


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    load = Load(**json.load(sys.stdin))
    allow_many_files()
    # A pause for a collection would look like the contender's.
    gc.freeze()
    gc.disable()
    print(json.dumps(asdict(uvloop.run(partial(_KINDS[load.kind], load)()))))


if __name__ == "__main__":
    main()
