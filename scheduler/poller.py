"""Runs the scheduler's tasks: each returns how long to sleep, and can be woken before."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import redis

from core.db import DatabaseDown
from core.errors import Unavailable

log = logging.getLogger(__name__)

#: After a failure, in seconds.
FAILURE_SECONDS = 0.5


class Poller:
    """One task in a thread of its own, run while `leading` is set.

    Parameters
    ----------
    task : does what is to be done now; returns the seconds until it wants to look again.
    """

    def __init__(self, name: str, task: Callable[[], float], leading: threading.Event) -> None:
        self.name = name
        self._task = task
        self._leading = leading
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._leading.wait()
            self._wake.clear()
            self._wake.wait(self._look())

    def _look(self) -> float:
        try:
            return self._task()
        except (DatabaseDown, Unavailable, redis.RedisError) as error:
            log.warning("%s: %s", self.name, error)
        except Exception:
            log.exception("%s failed", self.name)
        return FAILURE_SECONDS
