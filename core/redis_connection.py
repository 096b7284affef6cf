"""A connection to Redis that looks whether it may be used without a turn of the event loop."""

from __future__ import annotations

import select

import redis

from core.db_connection import plain_poll


class LightConnection(redis.Connection):
    """redis-py's pools look before each command whether the connection has died or holds a reply that nobody read.

    Under gevent that look waits for the event loop's next turn: some 25 us of processor time a command, and where the
    loop is busy 5 to 20 ms. And while its notifications of maintenance are on, redis-py uses a connection with an
    unread reply all the same, so that the next command would get somebody else's: here it is an error, after which
    the pool connects anew.
    """

    def can_read(self, timeout: float = 0) -> bool:
        """False; redis.ConnectionError if the server has closed it or something unread is there."""
        # hiredis reads ahead; of another parser nothing is known here.
        reader = getattr(self._parser, "_reader", None)
        if timeout or self._sock is None or reader is None:
            return super().can_read(timeout)
        poll = plain_poll()
        poll.register(self._sock.fileno(), select.POLLIN)
        if reader.has_data() or poll.poll(0):
            raise redis.ConnectionError("The connection was closed, or holds a reply that nobody read.")
        return False
