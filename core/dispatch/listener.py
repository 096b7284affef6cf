"""How a worker waits for doorbells: blocked in Redis until one is there. Dramatiq's own consumer looks again and again.

An idle worker that looked fifty times a second into each queue used a twelfth of a core; one that waits hears of a
message sooner, too.
"""

from __future__ import annotations

import time
from typing import Any

import redis
from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import _RedisConsumer
from dramatiq.errors import ConnectionClosed

#: Between two looks while as many messages as may be are in hand, in seconds.
_FULL_SECONDS = 0.02


class Listener(_RedisConsumer):
    """Dramatiq's consumer of one queue, with another way to wait. `timeout` is how long it waits, in milliseconds."""

    def __next__(self) -> Any:
        try:
            if not self.message_cache:
                room = self.prefetch - self.outstanding_message_count
                if room <= 0:
                    time.sleep(_FULL_SECONDS)
                    return None
                self.message_cache = self.broker.do_fetch(self.queue_name, room)
                if not self.message_cache:
                    self._wait()
                    return None
            data = self.message_cache.pop(0)
        except redis.ConnectionError as error:
            raise ConnectionClosed(error) from None
        if data is None:
            # The id without its message: Redis was emptied in between. The row is rung again.
            return None
        message: Message[Any] = Message.decode(data)
        self.queued_message_ids.add(message.message_id)
        return MessageProxy(message)

    def _wait(self) -> None:
        """Return once the queue holds a message, or after the time.

        BLMOVE from the head of the list to its head takes nothing away: if this process dies in the middle, nothing is
        lost, and whoever else waits is woken as well.
        """
        key = f"{self.broker.namespace}:{self.queue_name}"
        self.broker.client.blmove(key, key, self.timeout / 1000, "LEFT", "LEFT")
