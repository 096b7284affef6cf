"""What calls brought back, added up in the process and told to Redis a few times a second: no round trip per call."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import redis

from core.limits import keys
from core.limits.ahead import Ahead, Kept
from core.limits.scripts import FEEDBACK, SLOTS, Arguments, Script, run_all
from core.limits.tuning import SLOT_SECONDS
from core.limits.types import Configured, LimitKey, Meter, counts_produced_output
from core.providers.types import LimitReading, Usage

log = logging.getLogger(__name__)

#: Between two flushes; the first after a pause goes out at once.
FLUSH_SECONDS = 0.05
_BEAT_SECONDS = SLOT_SECONDS / 3
_KINDS = ("requests", "tokens", "input_tokens", "output_tokens")


@dataclass(slots=True)
class _Sum:
    """What came of a key's calls since the last flush."""

    requests_back: int = 0
    input_back: int = 0
    output_back: int = 0
    #: of each call that was charged and used no tokens, what it was estimated at
    unused: list[tuple[int, int]] = field(default_factory=list)
    input_beyond: int = 0
    output_reserved: int = 0
    output_used: int = 0
    output_beyond: int = 0
    good: int = 0
    #: in a row, since the last good answer
    failures: int = 0
    ended: int = 0
    refused: int = 0
    retry_after_seconds: float | None = None
    #: when the last of the refused calls began, by the process's clock
    refused_began: float = 0.0
    #: kind -> (limit, least that remained)
    readings: dict[str, tuple[int, int | None]] = field(default_factory=dict)


@dataclass(slots=True)
class _Slots:
    """Live calls of this process on one connection."""

    held: int = 0
    asking: int = 0
    ended: int = 0
    beaten_at: float = 0.0


class Feedback:
    """Adds up outcomes by key; `flush` tells Redis. A thread flushes by itself once `start` was called."""

    def __init__(self, client: redis.Redis, *, clock: Callable[[], float] | None = None) -> None:
        self._client = client
        self._clock = clock
        self._process = uuid4().hex
        self._sums: dict[LimitKey, _Sum] = {}
        self._slots: dict[UUID, _Slots] = {}
        self._ahead = Ahead()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    # Outcomes

    def settle(self, key: LimitKey, reserved: tuple[int, int], used: Usage | None) -> None:
        with self._lock:
            self._settle(self._sum(key), counts_produced_output(key.family), reserved, used)
        self._soon()

    def settle_many(self, settlements: Sequence[tuple[LimitKey, tuple[int, int], Usage | None]]) -> None:
        with self._lock:
            for key, reserved, used in settlements:
                self._settle(self._sum(key), counts_produced_output(key.family), reserved, used)
        self._soon()

    @staticmethod
    def _settle(sums: _Sum, produced: bool, reserved: tuple[int, int], used: Usage | None) -> None:
        if used is None:
            sums.requests_back += 1
            sums.unused.append(reserved)
            return
        # On most of Anthropic's models tokens read from the cache do not count (PROVIDERS.md 4.4).
        sums.input_beyond += used.input_tokens - (used.cached_tokens if produced else 0) - reserved[0]
        sums.output_reserved += reserved[1]
        sums.output_used += used.output_tokens
        sums.output_beyond += max(0, used.output_tokens - reserved[1])

    def refused(self, key: LimitKey, reserved: tuple[int, int]) -> None:
        with self._lock:
            self._sum(key).unused.append(reserved)
        self._soon()

    def observe(self, key: LimitKey, readings: Sequence[LimitReading]) -> None:
        kinds = {reading.kind for reading in readings}
        with self._lock:
            sums = self._sum(key)
            for reading in readings:
                if not reading.limit or (reading.kind == "tokens" and kinds & {"input_tokens", "output_tokens"}):
                    # Anthropic's `tokens` repeats whichever of the other two is tighter.
                    continue
                known = sums.readings.get(reading.kind)
                left = reading.remaining
                if known and known[0] == reading.limit and known[1] is not None:
                    left = known[1] if left is None else min(left, known[1])
                sums.readings[reading.kind] = (reading.limit, left)
        self._soon()

    def success(self, key: LimitKey) -> None:
        with self._lock:
            sums = self._sum(key)
            sums.good += 1
            sums.ended += 1
            sums.failures = 0
        self._soon()

    def answered(self, key: LimitKey, reserved: tuple[int, int], used: Usage) -> None:
        with self._lock:
            sums = self._sum(key)
            self._settle(sums, counts_produced_output(key.family), reserved, used)
            sums.good += 1
            sums.ended += 1
            sums.failures = 0
        self._soon()

    def failure(self, key: LimitKey) -> None:
        self._give_back(self._ahead.of(key.connection_id))
        with self._lock:
            sums = self._sum(key)
            sums.failures += 1
            sums.ended += 1
        self._soon()

    def penalise(self, key: LimitKey, retry_after_seconds: float | None, took_seconds: float = 0.0) -> None:
        began = self._monotonic() - took_seconds
        self._give_back(self._ahead.of(key.connection_id))
        with self._lock:
            sums = self._sum(key)
            sums.refused_began = began if not sums.refused else max(sums.refused_began, began)
            sums.refused += 1
            sums.ended += 1
            if retry_after_seconds is not None:
                sums.retry_after_seconds = max(retry_after_seconds, sums.retry_after_seconds or 0.0)
        self._soon()

    # Live slots

    def asking(self, connection_id: UUID) -> tuple[str, int]:
        """A live call is about to ask for a slot: the process's name and the calls it holds."""
        with self._lock:
            slots = self._slots.setdefault(connection_id, _Slots(beaten_at=time.monotonic()))
            slots.asking += 1
            return self._process, slots.held

    def asked(self, connection_id: UUID, *, granted: int) -> None:
        """It was told; it holds as many slots as were granted, until `ended` or given back."""
        with self._lock:
            slots = self._slots[connection_id]
            slots.asking -= 1
            slots.held += granted

    def ended(self, connection_id: UUID) -> None:
        with self._lock:
            slots = self._slots[connection_id]
            slots.held -= 1
            slots.ended += 1
        self._soon()

    # Permits taken ahead

    def use_ahead(
        self, key: LimitKey, configured: Configured, input_tokens: int, output_tokens: int, meter: Meter
    ) -> bool:
        """Start a call on a permit that was taken ahead, if there is one for it. It holds a slot until `ended`."""
        used = self._ahead.use(key, configured, input_tokens, output_tokens)
        if used is None:
            return False
        meter.said = used.said
        if (input_tokens, output_tokens) != (used.input_tokens, used.output_tokens):
            with self._lock:
                sums = self._sum(key)
                sums.input_back += used.input_tokens - input_tokens
                sums.output_back += used.output_tokens - output_tokens
            self._soon()
        return True

    def wanted_ahead(self, key: LimitKey) -> int:
        """How many permits to take ahead; none unless a thread gives back those that are not used."""
        return 0 if self._thread is None else self._ahead.wanted(key)

    def keep_ahead(
        self, key: LimitKey, configured: Configured, input_tokens: int, output_tokens: int, count: int, said: str
    ) -> None:
        """Keep permits for the next calls; they have been granted, and hold their slots."""
        if not self._ahead.keep(key, configured, input_tokens, output_tokens, count, said):
            self._give_back([(key, Kept(configured, input_tokens, output_tokens, count, 0.0, said))])
        self._soon()

    def _give_back(self, unused: Sequence[tuple[LimitKey, Kept]]) -> None:
        if not unused:
            return
        with self._lock:
            for key, kept in unused:
                sums = self._sum(key)
                sums.requests_back += kept.count
                sums.unused += [(kept.input_tokens, kept.output_tokens)] * kept.count
                slots = self._slots[key.connection_id]
                slots.held -= kept.count
                slots.ended += kept.count
        self._soon()

    # Telling Redis

    def flush(self) -> None:
        """Tell Redis what there is to tell, in one round trip. Without Redis it is lost, and lost it may be."""
        self._give_back(self._ahead.expired())
        now = self._clock() if self._clock else None
        calls = self._drain(now)
        if not calls:
            return
        try:
            run_all(self._client, calls)
        except (redis.RedisError, OSError) as error:
            log.warning("Redis is away: the outcomes of calls do not reach the limiter (%s)", type(error).__name__)

    def _drain(self, now: float | None) -> list[tuple[Script, Sequence[str], Arguments]]:
        calls: list[tuple[Script, Sequence[str], Arguments]] = []
        monotonic = time.monotonic()
        with self._lock:
            sums, self._sums = self._sums, {}
            for key, found in sums.items():
                ended = 0 if key.connection_id in self._slots else found.ended
                calls.append((FEEDBACK, keys.all_of(key), _arguments(key, found, ended, self._monotonic(), now)))
            for connection_id, slots in list(self._slots.items()):
                beat = monotonic - slots.beaten_at >= _BEAT_SECONDS
                if not slots.ended and not (beat and (slots.held or slots.asking)):
                    continue
                exact = "1" if beat and not slots.asking else "0"
                arguments = ("" if now is None else repr(now), self._process, slots.ended, slots.held, exact)
                calls.append((SLOTS, (keys.live(connection_id),), arguments))
                slots.ended = 0
                if beat:
                    slots.beaten_at = monotonic
        return calls

    def _sum(self, key: LimitKey) -> _Sum:
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = _Sum()
        return found

    def _monotonic(self) -> float:
        return self._clock() if self._clock else time.monotonic()

    def start(self) -> None:
        """Flush from a thread from now on."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="limits feedback", daemon=True)
            self._thread.start()

    def _soon(self) -> None:
        if self._thread is not None and not self._wake.is_set():
            self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait(_BEAT_SECONDS / 2)
            self._wake.clear()
            try:
                self.flush()
            except Exception:
                log.exception("outcomes of calls did not reach the limiter")
            if self._ahead.any():
                self._wake.set()
            time.sleep(FLUSH_SECONDS)


def _arguments(key: LimitKey, sums: _Sum, ended: int, monotonic: float, now: float | None) -> Arguments:
    readings: list[str | int] = []
    for kind in _KINDS:
        limit, remaining = sums.readings.get(kind, ("", None))
        readings += [limit, "" if remaining is None else remaining]
    return (
        *keys.arguments(key, None, now),
        sums.requests_back,
        sums.input_back,
        sums.output_back,
        sums.input_beyond,
        sums.output_reserved,
        sums.output_used,
        sums.output_beyond,
        sums.good,
        sums.failures,
        sums.refused,
        "" if sums.retry_after_seconds is None else repr(sums.retry_after_seconds),
        ended,
        *readings,
        repr(max(0.0, monotonic - sums.refused_began)) if sums.refused else 0,
        " ".join([f"{input_tokens} {output_tokens}" for input_tokens, output_tokens in sums.unused]),
    )
