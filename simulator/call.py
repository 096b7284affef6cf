"""One inference call: authenticated, understood, admitted, delayed, answered (or spoilt), and entered in the ledger."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import orjson

from simulator import spoil
from simulator.faults import KINDS
from simulator.ledger import CLIENT_GONE
from simulator.limits import Allowance
from simulator.prompt import Plan, Refusal
from simulator.wire import LAST_CHUNK, Connection, Request, chunk, head

if TYPE_CHECKING:
    from simulator.anthropic_messages import AnthropicMessages
    from simulator.config import Fault
    from simulator.openai_chat import OpenAIChat
    from simulator.openai_embeddings import OpenAIEmbeddings
    from simulator.openai_responses import OpenAIResponses
    from simulator.simulation import Simulation

JSON = b"application/json"
SSE = b"text/event-stream; charset=utf-8"


class Call:
    """`serve`, then `_answer` when its time has come, then `end`; or `abandon` if the client goes away first."""

    __slots__ = (
        "allowance",
        "answering",
        "connection",
        "fault",
        "ledger",
        "number",
        "plan",
        "row",
        "simulation",
        "started",
        "surface",
        "timer",
    )

    def __init__(
        self,
        simulation: Simulation,
        surface: OpenAIChat | OpenAIResponses | OpenAIEmbeddings | AnthropicMessages,
        connection: Connection,
    ) -> None:
        self.simulation = simulation
        self.surface = surface
        self.connection = connection
        # A reset in mid-call starts another ledger; this call ends where it began.
        self.ledger = simulation.ledger
        self.started = simulation.loop.time()
        self.number = simulation.number()
        self.row = self.ledger.begin(time.time())
        self.plan: Plan | None = None
        self.allowance: Allowance | None = None
        self.fault: Fault | None = None
        self.timer: asyncio.TimerHandle | None = None
        #: an answer has been produced, and is charged whatever becomes of it
        self.answering = False

    def serve(self, request: Request) -> None:
        """Take the request as far as its latency."""
        simulation, surface = self.simulation, self.surface
        self.connection.call = self
        try:
            key = surface.manners.key_of(request.headers, simulation.valid_keys)
            self.ledger.by(self.row, key)
            body = _json(request)
            plan = surface.read(simulation, body, request.headers)
            simulation.cache.look(surface.vendor, key, body, plan)
        except Refusal as refusal:
            self.refuse(refusal)
            return
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            # The rules look at what matters; a wrong type in some corner is the caller's mistake just the same.
            self.refuse(Refusal(400, f"The request was not understood: {error}"))
            return
        self.plan = plan
        attempt = self.ledger.asks(self.row, plan.model, plan.nonce, plan.prompt_hash)
        now = simulation.loop.time()
        allowance = simulation.allowances.of(key, plan.model, now)
        refused = surface.admit(allowance, now, plan)
        if refused is not None:
            self.ledger.rate_limited += 1
            hints = surface.manners.wait_headers(refused, allowance.limit)
            headers = surface.manners.limit_headers(allowance, now) + hints
            self.refuse(surface.manners.over_limit(refused, plan.model), headers)
            return
        allowance.running += 1
        self.allowance = allowance
        delay = simulation.latency()
        if simulation.faults.rules:
            self.fault = simulation.faults.choose(
                vendor=surface.vendor,
                key=key,
                model=plan.model,
                prompt=plan.prompt,
                stream=plan.stream,
                nonce=plan.nonce,
                attempt=attempt,
            )
            if self.fault is not None:
                self._meet(self.fault, key, delay)
                return
        # Nothing looks into the prompt any more; thousands of held calls need not keep it.
        plan.prompt = ""
        if delay > 0:
            self.later(delay, self._answer)
        else:
            self._answer()

    def later(self, seconds: float, step: Any, *arguments: Any) -> None:
        """The next step of this call, unless the client goes away before."""
        self.timer = self.simulation.loop.call_later(seconds, step, *arguments)

    def refuse(self, refusal: Refusal, headers: bytes = b"", fault: str | None = None) -> None:
        """Answer with an error of the vendor's."""
        body = self.surface.manners.error_body(refusal, f"req_{self.number}")
        self.connection.write(self.head(refusal.status, JSON, len(body), headers) + body)
        self.end(refusal.status, fault=fault)

    def head(self, status: int, content_type: bytes, length: int | None, extra: bytes = b"") -> bytes:
        """The answer's head with this vendor's headers. No length: chunks follow."""
        seconds = self.simulation.loop.time() - self.started
        close = b"" if self.connection.keep_alive else b"connection: close\r\n"
        headers = self.surface.manners.answer_headers(f"req_{self.number}", seconds) + close + extra
        return head(status, content_type, headers, length)

    def limits(self) -> bytes:
        """The rate-limit headers as they stand now."""
        if self.allowance is None:
            return b""
        return self.surface.manners.limit_headers(self.allowance, self.simulation.loop.time())

    def produce(self) -> list[bytes] | bytes:
        """The answer: events if it is streamed, else the body. From here on it is charged."""
        assert self.plan is not None
        self.answering = True
        self.simulation.cache.store(self.plan)
        if self.allowance is not None:
            self.surface.charge(self.allowance, self.simulation.loop.time(), self.plan)
        if self.plan.stream:
            return self.surface.events(self.plan, self.number, self.simulation.config.stream.chunks)
        return self.surface.answer(self.plan, self.number)

    def end(self, status: int, *, executed: bool = False, fault: str | None = None, keep: bool = True) -> None:
        """Enter the outcome; `keep` False where the connection is done for."""
        self._book(status, executed, fault)
        if keep:
            self.connection.finish()

    def abandon(self) -> None:
        """The client has gone: whether it is charged depends on the configuration, once an answer was under way."""
        fault = self.fault.kind if self.fault is not None else None
        charged = self.simulation.config.charge_abandoned and self.plan is not None
        if fault is not None and not KINDS[fault].executed:
            charged = False
        self.ledger.abandoned += 1
        self._book(CLIENT_GONE, charged, fault)

    def _book(self, status: int, executed: bool, fault: str | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.allowance is not None:
            self.allowance.running -= 1
            self.allowance = None
        nonce = self.plan.nonce if self.plan is not None else None
        self.ledger.end(self.row, time.time(), status, fault, executed, nonce)

    def _answer(self) -> None:
        answer = self.produce()
        if isinstance(answer, bytes):
            self.connection.write(self.head(200, JSON, len(answer), self.limits()) + answer)
            self.end(200, executed=True)
        else:
            start = self.head(200, SSE, None, self.limits())
            self.stream(start, answer, LAST_CHUNK)

    def stream(self, start: bytes, events: list[bytes], last: bytes) -> None:
        """Send events as chunks, one after another; `last` ends the body."""
        interval = self.simulation.config.stream.interval
        if interval <= 0:
            self.connection.write(start + b"".join(map(chunk, events)) + last)
            self.end(200, executed=True)
            return
        self.connection.write(start + chunk(events[0]))
        self.later(interval, self._next_event, events, 1, interval, last)

    def _next_event(self, events: list[bytes], at: int, interval: float, last: bytes) -> None:
        if at == len(events) - 1:
            self.connection.write(chunk(events[at]) + last)
            self.end(200, executed=True)
            return
        self.connection.write(chunk(events[at]))
        self.later(interval, self._next_event, events, at + 1, interval, last)

    def _meet(self, fault: Fault, key: str, latency: float) -> None:
        kind = KINDS[fault.kind]
        # What never reaches the model fails at once, the rest after the time an answer takes.
        delay = fault.delay + (latency if kind.stage in ("body", "stream") else 0.0)
        if delay > 0:
            self.later(delay, spoil.strike, self, fault, key)
        else:
            spoil.strike(self, fault, key)


def _json(request: Request) -> Any:
    if request.too_large:
        raise Refusal(413, "Request exceeds the maximum size")
    try:
        return orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"The body is not valid JSON: {error}") from None
