"""One request to files or batches: authenticated, met by a fault or carried out, answered, and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from simulator import anthropic_vendor, openai_vendor, spoil
from simulator.faults import KINDS
from simulator.limits import Allowance
from simulator.native.blob import Blob
from simulator.prompt import Plan, Refusal
from simulator.wire import Connection, Request, chunk, head

if TYPE_CHECKING:
    from simulator.config import Fault
    from simulator.native.state import Native

_JSON = b"application/json"
_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """What an operation is told: whose request it is, and which object its path names."""

    native: Native
    key: str
    id: str
    request: Request

    def body(self) -> Any:
        """The JSON body. Raises Refusal (400, 413)."""
        if self.request.too_large:
            raise Refusal(413, "Request exceeds the maximum size")
        try:
            return orjson.loads(self.request.body)
        except orjson.JSONDecodeError as error:
            raise Refusal(400, f"The body is not valid JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class Operation:
    """`name`: as fault rules say it in `on`; `path`: as the ledger counts it; `act` answers JSON or a blob."""

    name: str
    vendor: str
    path: str
    act: Callable[[Asked], Any]
    content_type: bytes = b"application/octet-stream"


class _Surface:
    """What the carrying out of faults asks of a vendor."""

    def __init__(self, vendor: str) -> None:
        self.vendor = vendor
        self.manners: Any = anthropic_vendor if vendor == "anthropic" else openai_vendor

    def stream_error(self, number: str) -> bytes:
        """Never asked for: nothing here is an event stream."""
        return b""


_SURFACES = {vendor: _Surface(vendor) for vendor in ("openai", "anthropic")}


class Exchange:
    """A call without a model: it is met by the same faults, so it has what those need of a call."""

    def __init__(
        self, native: Native, operation: Operation, found_id: str, connection: Connection, request: Request
    ) -> None:
        self.native = native
        self.operation = operation
        self.connection = connection
        self.surface = _SURFACES[operation.vendor]
        self.number = native.simulation.number()
        self.allowance: Allowance | None = None
        # Faults look whether an answer would be streamed.
        self.plan: Plan | None = Plan("", None, 0, "", 0, None)
        self._ledger = native.simulation.ledger
        self._timer: asyncio.TimerHandle | None = None
        self._request = request
        self._id = found_id
        self._key = ""
        self._gone = False

    def serve(self) -> None:
        """Authenticate, and carry out what is asked unless a fault comes before."""
        simulation, manners, request = self.native.simulation, self.surface.manners, self._request
        self.connection.call = self
        try:
            self._key = manners.key_of(request.headers, simulation.valid_keys)
            if manners is anthropic_vendor:
                anthropic_vendor.check_version(request.headers)
        except Refusal as refusal:
            self.refuse(refusal)
            return
        fault = simulation.faults.choose(
            vendor=self.operation.vendor, key=self._key, model="", prompt=request.path, on=self.operation.name
        )
        if fault is None:
            self._carry_out(None)
        elif fault.delay > 0:
            self.later(fault.delay, self._meet, fault)
        else:
            self._meet(fault)

    def _meet(self, fault: Fault) -> None:
        if fault.kind == "slow_first_byte":
            self.later(5.0 if fault.seconds is None else fault.seconds, self._carry_out, fault)
        elif KINDS[fault.kind].stage == "download":
            self._carry_out(fault)
        else:
            try:
                spoil.strike(self, fault, self._key)
            except Refusal as refusal:
                self.refuse(refusal)

    def _carry_out(self, fault: Fault | None) -> None:
        kind = fault.kind if fault is not None else None
        try:
            done = self._act()
        except Refusal as refusal:
            self.refuse(refusal, fault=kind)
            return
        if isinstance(done, Blob):
            seconds = 5.0 if fault is None or fault.seconds is None else fault.seconds
            Download(self, done, seconds if kind == "slow_body" else 0.0, kind).begin()
            return
        body = orjson.dumps(done)
        self.connection.write(self.head(200, _JSON, len(body)) + body)
        self.end(200, fault=kind)

    def _act(self) -> Any:
        """Do it. Raises Refusal."""
        try:
            return self.operation.act(Asked(self.native, self._key, self._id, self._request))
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            raise Refusal(400, f"The request was not understood: {error}") from None

    # -- what faults need

    def produce(self) -> bytes:
        """Do it, and answer the body. Raises Refusal."""
        done = self._act()
        return done.read(0, done.size) if isinstance(done, Blob) else orjson.dumps(done)

    def later(self, seconds: float, step: Any, *arguments: Any) -> None:
        """The next step, unless the client goes away before."""
        self._timer = self.native.simulation.loop.call_later(seconds, step, *arguments)

    def limits(self) -> bytes:
        """No rate-limit headers: they belong to inference."""
        return b""

    def head(self, status: int, content_type: bytes, length: int | None, extra: bytes = b"") -> bytes:
        """The answer's head with this vendor's headers. No length: chunks follow."""
        close = b"" if self.connection.keep_alive else b"connection: close\r\n"
        return head(
            status,
            content_type,
            self.surface.manners.answer_headers(f"req_{self.number}", 0.0) + close + extra,
            length,
        )

    def refuse(self, refusal: Refusal, headers: bytes = b"", fault: str | None = None) -> None:
        """Answer with an error of the vendor's."""
        body = self.surface.manners.error_body(refusal, f"req_{self.number}")
        if refusal.status == 429 and fault is None:
            headers += b"retry-after: 10\r\n"
        self.connection.write(self.head(refusal.status, _JSON, len(body), headers) + body)
        self.end(refusal.status, fault=fault)

    def end(self, status: int, *, executed: bool = False, fault: str | None = None, keep: bool = True) -> None:
        """Count it; `keep` False where the connection is done for. Nothing here is charged for."""
        self._stop()
        if self._gone:
            return
        self._gone = True
        self._ledger.other[f"{self._request.method} {self.operation.path} {status}"] += 1
        if fault is not None:
            self._ledger.by_fault[fault] += 1
        if keep:
            self.connection.finish()

    def abandon(self) -> None:
        """The client has gone."""
        self.end(499, keep=False)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Download:
    """A blob on its way to a client, no faster than it reads; spread over `seconds` if that is not 0."""

    def __init__(self, exchange: Exchange, blob: Blob, seconds: float, fault: str | None) -> None:
        self._exchange = exchange
        self._blob = blob
        self._fault = fault
        self._at = 0
        self._pieces = max(1, min(100, blob.size)) if seconds > 0 else 0
        self._pause = seconds / self._pieces if seconds > 0 else 0.0
        # Anthropic's results are a stream of unknown length.
        self._chunked = exchange.operation.vendor == "anthropic"

    def begin(self) -> None:
        """The head, and the first piece."""
        exchange = self._exchange
        length = None if self._chunked else self._blob.size
        exchange.connection.write(exchange.head(200, exchange.operation.content_type, length))
        self._next()

    def _next(self) -> None:
        connection = self._exchange.connection
        if connection.transport is None:
            return
        size = -(-self._blob.size // self._pieces) if self._pieces else _PIECE
        piece = self._blob.read(self._at, size)
        if not piece:
            if self._chunked:
                connection.write(b"0\r\n\r\n")
            self._exchange.end(200, fault=self._fault)
            return
        self._at += len(piece)
        connection.write(chunk(piece) if self._chunked else piece)
        if self._pause:
            self._exchange.later(self._pause, self._next)
        elif connection.full:
            connection.room = self._next
        else:
            self._exchange.native.simulation.loop.call_soon(self._next)
