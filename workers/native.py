"""Takes steps of native shards, a few at a time: each may stream hundreds of megabytes."""

from __future__ import annotations

from uuid import UUID

import gevent.lock
import structlog

from core.ids import public
from core.native.drive import drive
from workers.execute import Executor

#: Steps under way at once in one process; further ones wait, and are another worker's if they wait too long.
AT_ONCE = 4

_room = gevent.lock.BoundedSemaphore(AT_ONCE)


def take_step(executor: Executor, shard_id: UUID, fence: int) -> None:
    """Take one step of one shard; cut short when the worker is to stop, and gone on with elsewhere."""
    structlog.contextvars.bind_contextvars(shard_id=public("shard", shard_id))
    with _room:
        if not executor.draining:
            drive(shard_id, fence, stopping=lambda: executor.draining)
