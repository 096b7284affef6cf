"""A lane, batch or shard whose turn fails is set aside for a while: one tenant's must not hold up the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import redis

from core.errors import Unavailable
from core.metrics_dispatch import TASK_FAILURES

log = logging.getLogger(__name__)

#: How long, in seconds: doubled with each failure in a row, up to the second.
FIRST_SECONDS, MOST_SECONDS = 1.0, 60.0

Name = TypeVar("Name", bound=Hashable)


class Aside(Generic[Name]):
    """What one of the scheduler's tasks has set aside.

    Parameters
    ----------
    task : of the scheduler's tasks, for `llm_service_scheduler_task_failures_total`: a failed turn counts as a look.
    what : names in the log what has turns: a lane, a batch.
    clock : monotonic seconds.
    """

    def __init__(self, task: str, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures = TASK_FAILURES.labels(task)
        self._what = what
        self._clock = clock
        #: until when, and after how many failures in a row
        self._until: dict[Name, tuple[float, int]] = {}

    def waits(self, name: Name) -> bool:
        """True while it is set aside."""
        return bool(self._until) and self._until.get(name, (0.0, 0))[0] > self._clock()

    def names(self) -> list[Name]:
        """All that is set aside now."""
        return [name for name in self._until if self.waits(name)]

    @contextmanager
    def turn(self, name: Name) -> Iterator[None]:
        """One turn: what goes wrong in it is logged and counted. A store that is away is everybody's, and is raised."""
        try:
            yield
        except (Unavailable, redis.RedisError):
            raise
        except Exception:
            now = self._clock()
            failures = self._until.get(name, (0.0, 0))[1] + 1
            seconds = min(MOST_SECONDS, FIRST_SECONDS * 2 ** min(failures - 1, 10))
            # (those that ended meanwhile have no further turn)
            self._until = {other: held for other, held in self._until.items() if held[0] > now - MOST_SECONDS}
            self._until[name] = now + seconds, failures
            self._failures.inc()
            log.exception("%s %s failed, and is set aside for %.0f s", self._what, name, seconds)
        else:
            if self._until:
                self._until.pop(name, None)
