"""Batches that come in bit by bit: each holds a database connection from its first row to its last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gevent.lock

from core import db
from core.errors import OverLimit

#: Such submissions that one process takes in at once: half of its connections, for whoever reads the rows out of the
#: database itself needs a second one meanwhile, and so does everybody else.
AT_ONCE = db.POOL_SIZE // 2

_room = gevent.lock.BoundedSemaphore(AT_ONCE)


@contextmanager
def one_of_few() -> Iterator[None]:
    """Take in one such submission. Raises OverLimit, at once, while there are too many."""
    if not _room.acquire(blocking=False):
        raise OverLimit("Too many batches are being taken in at once; try again in a moment.", 2.0)
    try:
        yield
    finally:
        _room.release()
