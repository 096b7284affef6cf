"""The limiter of one process: what batches may start, what live calls may, and what is known of a connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any
from uuid import UUID

import redis

from core.errors import OverLimit, Unavailable
from core.limits import keys
from core.limits.feedback import Feedback
from core.limits.line import Line
from core.limits.scripts import ACQUIRE, TAKE, Arguments, Script
from core.limits.tuning import LIVE_WAIT_SECONDS
from core.limits.types import CONCURRENCY, PROVIDER_DOWN, Configured, Grant, LimitKey, Meter

#: A live call that waits asks again at least this often, so that batches are kept back all the while.
_ASK_AGAIN_SECONDS = LIVE_WAIT_SECONDS / 3
_FIRST_POLL_SECONDS = 0.01
#: A live call does not wait longer than this for a dead provider: its mapping may have a fallback.
_PATIENCE_WITH_THE_DEAD_SECONDS = 1.0


class Permit:
    """A live call may run while this is held; give it back by leaving the `with` block, or with `release`."""

    __slots__ = ("_connection_id", "_feedback", "_held", "waited_seconds")

    def __init__(self, feedback: Feedback, connection_id: UUID, waited_seconds: float) -> None:
        self._feedback = feedback
        self._connection_id = connection_id
        self._held = True
        self.waited_seconds = waited_seconds

    def release(self) -> None:
        """Give the slot back; a second time does nothing."""
        if self._held:
            self._held = False
            self._feedback.ended(self._connection_id)

    def __enter__(self) -> Permit:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


class Limiter:
    """See the package's docstring; `clock` replaces the server's time in tests, `sleep` the waiting of live calls."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._line = Line(client)
        self._clock = clock
        self._sleep = sleep
        self.feedback = Feedback(client, clock=clock)
        self._turnstiles: dict[LimitKey, threading.Lock] = {}

    def take(self, key: LimitKey, configured: Configured, rows: Sequence[tuple[int, int]], *, in_flight: int) -> Grant:
        tokens = " ".join([f"{input_tokens} {output_tokens}" for input_tokens, output_tokens in rows])
        granted, wait, waiting_for = self._run(
            TAKE, key, (*keys.arguments(key, configured, self._now()), in_flight, len(rows), tokens)
        )
        return Grant(int(granted), float(wait), _text(waiting_for) or None)

    def acquire(
        self,
        key: LimitKey,
        configured: Configured,
        input_tokens: int,
        output_tokens: int,
        *,
        timeout_seconds: float,
        meter: Meter | None = None,
    ) -> Permit:
        meter = meter or Meter()
        began = self._monotonic()
        deadline = began + timeout_seconds
        turnstile = self._turnstiles.get(key)
        if turnstile is None or not turnstile.locked():
            if self.feedback.use_ahead(key, configured, input_tokens, output_tokens, meter):
                return Permit(self.feedback, key.connection_id, 0.0)
            wait, waiting_for = self._ask(key, configured, input_tokens, output_tokens, meter)
            if waiting_for is None:
                return Permit(self.feedback, key.connection_id, 0.0)
            _give_up(wait, waiting_for, deadline - self._monotonic())
            turnstile = self._turnstiles.setdefault(key, threading.Lock())
        # Those that wait stand in line, and only the first asks.
        if not turnstile.acquire(timeout=max(0.0, deadline - self._monotonic())):
            raise OverLimit(None, 1.0)
        try:
            self._wait(key, configured, input_tokens, output_tokens, deadline, meter)
        finally:
            turnstile.release()
        return Permit(self.feedback, key.connection_id, self._monotonic() - began)

    def _wait(
        self,
        key: LimitKey,
        configured: Configured,
        input_tokens: int,
        output_tokens: int,
        deadline: float,
        meter: Meter,
    ) -> None:
        poll = _FIRST_POLL_SECONDS
        while True:
            wait, waiting_for = self._ask(key, configured, input_tokens, output_tokens, meter)
            if waiting_for is None:
                return
            left = deadline - self._monotonic()
            _give_up(wait, waiting_for, left)
            if waiting_for == CONCURRENCY:
                wait, poll = poll, min(_ASK_AGAIN_SECONDS, poll * 1.5)
            self._sleep(max(0.001, min(wait, left, _ASK_AGAIN_SECONDS)))

    def _ask(
        self, key: LimitKey, configured: Configured, input_tokens: int, output_tokens: int, meter: Meter
    ) -> tuple[float, str | None]:
        process, held = self.feedback.asking(key.connection_id)
        granted = 0
        ahead = self.feedback.wanted_ahead(key)
        try:
            arguments = keys.arguments(key, configured, self._now())
            with _reachable():
                granted, wait, waiting_for, said = self._line.run(
                    ACQUIRE, keys.all_of(key), (*arguments, input_tokens, output_tokens, process, held, ahead)
                )
        finally:
            self.feedback.asked(key.connection_id, granted=int(granted))
        meter.said = _text(said)
        if granted > 1:
            self.feedback.keep_ahead(key, configured, input_tokens, output_tokens, int(granted) - 1, meter.said)
        return float(wait), None if granted else _text(waiting_for)

    def forget(self, connection_id: UUID) -> None:
        with _reachable():
            names = [_text(name) for name in self._client.smembers(keys.families(connection_id))]
            families = [keys.of_family(LimitKey(connection_id, name)) for name in names]
            self._client.delete(keys.of_connection(connection_id), *families)

    def state(self, connection_id: UUID) -> dict[str, Any]:
        with _reachable():
            names = sorted(_text(name) for name in self._client.smembers(keys.families(connection_id)))
            pipeline = self._client.pipeline(transaction=False)
            pipeline.time()
            pipeline.hgetall(keys.of_connection(connection_id))
            pipeline.hgetall(keys.live(connection_id))
            for name in names:
                pipeline.hgetall(keys.of_family(LimitKey(connection_id, name)))
            (seconds, microseconds), connection, live, *families = pipeline.execute()
        now = self._now()
        return _state(
            seconds + microseconds / 1e6 if now is None else now,
            _fields(connection),
            _fields(live),
            {name: _fields(found) for name, found in zip(names, families, strict=True)},
        )

    def _run(self, script: Script, key: LimitKey, arguments: Arguments) -> Any:
        with _reachable():
            return script.run(self._client, keys.all_of(key), arguments)

    def _now(self) -> float | None:
        return self._clock() if self._clock else None

    def _monotonic(self) -> float:
        return self._clock() if self._clock else time.monotonic()


def _give_up(wait: float, waiting_for: str, left: float) -> None:
    """Raise OverLimit if waiting is of no use."""
    if wait >= left or (waiting_for == PROVIDER_DOWN and wait > _PATIENCE_WITH_THE_DEAD_SECONDS):
        raise OverLimit(f"The provider's limits leave no room: {waiting_for}.", max(0.1, wait))


class _reachable:
    """Redis that is away is a part of the service that is not available."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, (redis.RedisError, OSError)):
            raise Unavailable("The limiter's store is not available.") from error


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _fields(found: dict[Any, Any]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in found.items()}


_NAMES = {"r": "requests", "t": "tokens", "i": "input_tokens", "o": "output_tokens"}


def _state(
    now: float, connection: dict[str, str], live: dict[str, str], families: dict[str, dict[str, str]]
) -> dict[str, Any]:
    def number(fields: dict[str, str], name: str) -> float:
        return float(fields.get(name, 0))

    slots = [held.split("|") for held in live.values()]
    found: dict[str, Any] = {
        "blocked_seconds": max(0.0, number(connection, "blocked_until") - now),
        "breaker": "closed",
        "live_in_flight": sum(int(count) for count, until in slots if float(until) >= now),
        "waiting_for": None,
        "families": {},
    }
    if number(connection, "trips") > 0:
        found["breaker"] = "open" if number(connection, "open_until") > now else "half-open"
    for name, fields in families.items():
        if not fields:
            continue
        limits = {
            word: int(number(fields, f"limit_{kind}")) for kind, word in _NAMES.items() if f"limit_{kind}" in fields
        }
        found["families"][name] = {
            "learned_per_minute": limits,
            "level": {word: number(fields, kind) for kind, word in _NAMES.items() if kind in fields},
            "starts_per_second": number(fields, "seen") / 5,
            "output_ratio": number(fields, "ratio") if "ratio" in fields else None,
            "waiting_for": fields.get("waiting_for") or None,
        }
        found["waiting_for"] = found["waiting_for"] or fields.get("waiting_for") or None
    return found
