"""Group commit: outcomes that arrive while a transaction is being written wait for the next, which takes them all."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from itertools import islice
from typing import Generic, TypeVar

from core.db import DatabaseDown, is_unstorable

log = logging.getLogger(__name__)

Outcome = TypeVar("Outcome")

#: Outcomes in one transaction, and bytes of their bodies: what is larger than a message of PostgreSQL's may be (1 GiB)
#: would never be taken.
MAX_FLUSH = 500
MAX_FLUSH_BYTES = 64 << 20
#: Wait after a failed flush, in seconds: the outcomes are paid for, so they are kept until the database takes them.
RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)


class Recorder(Generic[Outcome]):
    """Writes outcomes in the order they come, many at once. A flush starts when the last one ends: no timer.

    Parameters
    ----------
    write : commits a list of outcomes in one transaction. May raise; it is called again with the same list.
    key : outcomes of one key are never in two transactions at once; others need not wait for them. Rows of one batch
        lock the batch, so that nothing is won by writing them side by side, and another batch's should not stand
        behind that lock.
    threads : flushes at once, of different keys.
    size : bytes of an outcome's bodies.
    instead : what is written in the place of an outcome that the store refuses each time; None: nothing.
    """

    def __init__(
        self,
        write: Callable[[list[Outcome]], object],
        *,
        name: str = "recorder",
        key: Callable[[Outcome], Hashable] = lambda outcome: None,
        threads: int = 1,
        size: Callable[[Outcome], int] = lambda outcome: 0,
        instead: Callable[[Outcome], Outcome | None] = lambda outcome: None,
    ) -> None:
        self._write = write
        self._key = key
        self._size = size
        self._instead = instead
        self._waiting: dict[Hashable, list[tuple[Outcome, threading.Event | None]]] = {}
        self._busy: set[Hashable] = set()
        self._pending = 0
        self._changed = threading.Condition()
        for number in range(threads):
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True).start()

    def put(self, outcome: Outcome) -> None:
        """Hand over an outcome without waiting for its commit."""
        self._add(outcome, None)

    def commit(self, outcome: Outcome, *, timeout_seconds: float) -> bool:
        """Hand over an outcome and wait until it is committed; False if that took too long (it goes on being tried)."""
        done = threading.Event()
        self._add(outcome, done)
        return done.wait(timeout_seconds)

    def pending(self) -> int:
        """Outcomes handed over and not yet committed."""
        return self._pending

    def drain(self, timeout_seconds: float) -> bool:
        """Wait until everything is committed; False if some is left after the time."""
        deadline = time.monotonic() + timeout_seconds
        while self.pending():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _add(self, outcome: Outcome, done: threading.Event | None) -> None:
        key = self._key(outcome)
        with self._changed:
            self._pending += 1
            self._waiting.setdefault(key, []).append((outcome, done))
            if key not in self._busy:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (taken := self._take()):
                    self._changed.wait()
                self._busy |= taken.keys()
            outcomes = [item for items in taken.values() for item in items]
            self._flush(outcomes)
            with self._changed:
                self._busy -= taken.keys()
                self._pending -= len(outcomes)
                if self._waiting:
                    self._changed.notify()

    def _take(self) -> dict[Hashable, list[tuple[Outcome, threading.Event | None]]]:
        """What the next flush writes: of keys that no other flush has in hand, those first that waited longest."""
        taken: dict[Hashable, list[tuple[Outcome, threading.Event | None]]] = {}
        room, bytes_left = MAX_FLUSH, MAX_FLUSH_BYTES
        for key in [key for key in islice(self._waiting, MAX_FLUSH + len(self._busy)) if key not in self._busy]:
            items = self._waiting.pop(key)
            count = 0
            for outcome, _ in items[:room]:
                bytes_left -= self._size(outcome)
                if bytes_left < 0 and (count or taken):
                    break
                count += 1
            if count:
                taken[key] = items[:count]
            if len(items) > count:
                self._waiting[key] = items[count:]
            room -= count
            if not room or bytes_left <= 0:
                break
        return taken

    def _flush(self, taken: list[tuple[Outcome, threading.Event | None]]) -> None:
        outcomes = [outcome for outcome, _ in taken]
        # While the database is away nothing is said about the outcomes, however long that is.
        failures = refusals = 0
        while True:
            try:
                self._write(outcomes)
                break
            except DatabaseDown as error:
                log.warning("%d outcomes wait: %s", len(outcomes), error)
            except Exception as error:
                log.exception("could not record %d outcomes", len(outcomes))
                # What is not storable is not asked for again: meanwhile everybody else's outcomes would wait.
                tries = 0 if is_unstorable(error) else len(RETRY_SECONDS)
                if refusals >= tries and len(outcomes) > 1:
                    # One outcome that can never be written must not keep the others from being written.
                    for item in taken:
                        self._flush([item])
                    return
                if refusals >= 2 * tries:
                    other = self._instead(outcomes[0])
                    log.error("an outcome was dropped after %d tries", refusals + 1)
                    if other is None:
                        break
                    outcomes, failures, refusals = [other], 0, 0
                    continue
                refusals += 1
            time.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures += 1
        for _, done in taken:
            if done is not None:
                done.set()
