"""A wire between the service and a store: TCP that is passed on as it is, until a reply is to be lost."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from types import TracebackType

from launcher.ports import LOOPBACK, free_port

_CHUNK = 1 << 16


@dataclass(slots=True)
class _Loss:
    """Replies that are still to be lost."""

    count: int
    #: only to what holds this
    to: bytes
    #: the connection stays open, and nothing comes over it any more; otherwise it breaks
    silent: bool


class Wire:
    """Passes connections on to a port of this machine.

    Parameters
    ----------
    port : of the store; this wire listens on `self.port`.
    """

    def __init__(self, port: int) -> None:
        self.port = free_port()
        #: replies lost so far
        self.lost = 0
        self._to = port
        self._loss = _Loss(0, b"", False)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()
        self._stop = asyncio.Event()

    def lose(self, count: int, *, to: bytes = b"", silent: bool = False) -> None:
        """Lose the replies to the next `count` requests that hold `to`, each on whatever connection it comes.

        The store has done what was asked for when its reply is thrown away. 0: lose nothing more.
        """
        self._loop.call_soon_threadsafe(setattr, self, "_loss", _Loss(count, to, silent))

    def __enter__(self) -> Wire:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._run())
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _run(self) -> None:
        server = await asyncio.start_server(self._connected, LOOPBACK, self.port, limit=_CHUNK)
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            store_reader, store_writer = await asyncio.open_connection(LOOPBACK, self._to, limit=_CHUNK)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(self)
        ways = [
            asyncio.ensure_future(connection.requests(reader, store_writer)),
            asyncio.ensure_future(connection.replies(store_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            # As a host that died: no farewell, in either direction.
            writer.transport.abort()
            store_writer.transport.abort()

    def take(self, request: bytes) -> _Loss | None:
        """The loss that this request meets."""
        if self._loss.count and self._loss.to in request:
            self._loss.count -= 1
            return self._loss
        return None


class _Connection:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._loss: _Loss | None = None

    async def requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while found := await reader.read(_CHUNK):
                self._loss = self._loss or self._wire.take(found)
                writer.write(found)
                await writer.drain()
        except OSError:
            return

    async def replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while found := await reader.read(_CHUNK):
                if self._loss is not None:
                    self._wire.lost += 1
                    if self._loss.silent:
                        # Until the client has had enough of waiting.
                        await asyncio.Event().wait()
                    return
                writer.write(found)
                await writer.drain()
        except OSError:
            return
