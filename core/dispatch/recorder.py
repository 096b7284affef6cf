"""Group commit: outcomes that arrive while a transaction is being written wait for the next, which takes them all."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from core.db import DatabaseDown

log = logging.getLogger(__name__)

Outcome = TypeVar("Outcome")

#: Outcomes in one transaction.
MAX_FLUSH = 500
#: Wait after a failed flush, in seconds: the outcomes are paid for, so they are kept until the database takes them.
RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)


class Recorder(Generic[Outcome]):
    """Writes outcomes in the order they come, many at once. A flush starts when the last one ends: no timer.

    Parameters
    ----------
    write : commits a list of outcomes in one transaction. May raise; it is called again with the same list.
    """

    def __init__(self, write: Callable[[list[Outcome]], object], *, name: str = "recorder") -> None:
        self._write = write
        self._waiting: list[tuple[Outcome, threading.Event | None]] = []
        self._changed = threading.Condition()
        self._busy = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

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
        with self._changed:
            return len(self._waiting) + self._busy

    def drain(self, timeout_seconds: float) -> bool:
        """Wait until everything is committed; False if some is left after the time."""
        deadline = time.monotonic() + timeout_seconds
        while self.pending():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _add(self, outcome: Outcome, done: threading.Event | None) -> None:
        with self._changed:
            self._waiting.append((outcome, done))
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                taken, self._waiting = self._waiting[:MAX_FLUSH], self._waiting[MAX_FLUSH:]
                self._busy = len(taken)
            self._flush(taken)
            with self._changed:
                self._busy = 0

    def _flush(self, taken: list[tuple[Outcome, threading.Event | None]]) -> None:
        outcomes = [outcome for outcome, _ in taken]
        failures = 0
        while True:
            try:
                self._write(outcomes)
                break
            except DatabaseDown as error:
                log.warning("%d outcomes wait: %s", len(outcomes), error)
            except Exception:
                log.exception("could not record %d outcomes", len(outcomes))
                if failures >= len(RETRY_SECONDS) and len(outcomes) > 1:
                    # One outcome that can never be written must not keep the others from being written.
                    for item in taken:
                        self._flush([item])
                    return
                if failures >= 2 * len(RETRY_SECONDS):
                    log.error("an outcome was dropped after %d tries; its lease will run out", failures)
                    break
            time.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures += 1
        for _, done in taken:
            if done is not None:
                done.set()
