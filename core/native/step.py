"""A shard in a worker's hands: kept while a step runs, changed under its fence, let go."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from core import db
from core.native import holds, shards
from core.native.holds import lease_seconds
from core.native.shards import Shard, Superseded
from core.native.states import ShardState

log = logging.getLogger(__name__)


class Stopping(Exception):
    """This process stops: the step is left to another."""


class Step:
    """What one worker does for one shard now.

    Parameters
    ----------
    stopping : True once this process is to stop.
    """

    def __init__(self, shard: Shard, stopping: Callable[[], bool]) -> None:
        self.shard = shard
        self.done = threading.Event()
        self._stopping = stopping
        self._lost = False

    def beat(self) -> None:
        """Keep the hold while the step runs."""
        while not self.done.wait(lease_seconds() / 4):
            try:
                self._lost = not holds.beat(self.shard)
            except db.DatabaseDown:
                log.warning("the database is away; a shard's lease is not extended")
            if self._lost:
                return

    def pause(self) -> None:
        """Between two pieces of a long step: the others' turn, and the place to stop."""
        time.sleep(0)
        if self._lost:
            raise Superseded
        if self._stopping():
            raise Stopping

    def change(self, **values: object) -> None:
        """Set columns of the shard, in a transaction of their own. Raises Superseded."""
        with db.connection() as transaction:
            shards.change(transaction, self.shard, **values)

    def let_go(self, why: str, *, refused: bool = False) -> float:
        """Hand all rows back that have no answer. `refused`: another round would end the same."""
        shard = self.shard
        log.warning("shard %s: %s", shard.id, why)
        with db.connection() as transaction:
            shards.change(
                transaction,
                shard,
                state=ShardState.TAKEN_IN,
                handing_back=True,
                refused=refused,
                last_error=shards.in_words(why),
                create_started_at=None,
                create_lost_at=None,
                taken_in_at=shard.now,
            )
            shards.wake_waiting(transaction, shard)
        return 0.0
