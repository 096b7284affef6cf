"""One connection to Redis over which scripts run, those that are wanted at the same moment in one round trip.

Each live call runs one script before it may go out. Through redis-py's client that cost a quarter of the whole call:
a connection taken from the pool, looked at whether it is alive, a command, and back. Here whoever comes while a trip
is under way joins the next, so one connection does, and the trips get larger as the load does.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import NoScriptError

from core.limits.scripts import Arguments, Script

#: Scripts in one trip: the server answers nobody else meanwhile.
MAX_TOGETHER = 64


class _Ask:
    """One script that somebody waits for."""

    __slots__ = ("arguments", "done", "keys", "reply", "script", "turn")

    def __init__(self, script: Script, keys: Sequence[str], arguments: Arguments) -> None:
        self.script = script
        self.keys = keys
        self.arguments = arguments
        #: set when it is done, or when it is this one's turn to go; None for one who goes at once
        self.turn: threading.Event | None = None
        self.done = False
        self.reply: Any = None


class Line:
    """The line of one process, on the server of a client of redis-py's."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._connection: Any = None
        self._lock = threading.Lock()
        self._waiting: list[_Ask] = []
        self._busy = False

    def run(self, script: Script, keys: Sequence[str], arguments: Arguments) -> Any:
        """The script's reply. Raises redis.RedisError, OSError."""
        ask = _Ask(script, keys, arguments)
        with self._lock:
            self._waiting.append(ask)
            if self._busy:
                ask.turn = threading.Event()
            self._busy = True
        if ask.turn is not None:
            self._stand(ask, ask.turn)
        if not ask.done:
            self._go()
        if isinstance(ask.reply, NoScriptError):
            return self._client.eval(script.text, len(keys), *keys, *arguments)
        if isinstance(ask.reply, BaseException):
            raise ask.reply
        return ask.reply

    def _stand(self, ask: _Ask, turn: threading.Event) -> None:
        """Wait until it is done, or to go. Who is called away before leaves the line in order."""
        try:
            turn.wait()
        except BaseException:
            with self._lock:
                if ask in self._waiting:
                    self._waiting.remove(ask)
                leads = turn.is_set() and not ask.done
            if leads:
                self._hand_on()
            raise

    def _go(self) -> None:
        """Take everybody who waits on a trip, and then have the next one go."""
        with self._lock:
            taken, self._waiting = self._waiting[:MAX_TOGETHER], self._waiting[MAX_TOGETHER:]
        try:
            replies = self._trip(taken)
        except Exception as error:
            replies = [error] * len(taken)
        except BaseException:
            # Only the one who went was called away; what the others asked for may have been done.
            replies = [redis.ConnectionError("the trip to Redis was broken off")] * len(taken)
            raise
        finally:
            for ask, reply in zip(taken, replies, strict=True):
                ask.reply, ask.done = reply, True
                if ask.turn is not None:
                    ask.turn.set()
            self._hand_on()

    def _hand_on(self) -> None:
        with self._lock:
            self._busy = bool(self._waiting)
            if self._waiting:
                turn = self._waiting[0].turn
                assert turn is not None
                turn.set()

    def _trip(self, asks: Sequence[_Ask]) -> list[Any]:
        """The replies in order, errors of scripts among them. A connection that died idle is replaced, once."""
        used = self._connection is not None
        try:
            return self._exchange(asks)
        except redis.TimeoutError:
            raise
        except redis.ConnectionError:
            if not used:
                raise
            # If it was only the replies that were lost, a little of the limit goes unused.
            return self._exchange(asks)

    def _exchange(self, asks: Sequence[_Ask]) -> list[Any]:
        connection, self._connection = self._connection, None
        if connection is None:
            pool = self._client.connection_pool
            connection = pool.connection_class(**pool.connection_kwargs)
        whole = False
        try:
            commands = [("EVALSHA", ask.script.digest, len(ask.keys), *ask.keys, *ask.arguments) for ask in asks]
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            replies: list[Any] = []
            for _ in asks:
                try:
                    replies.append(connection.read_response())
                except redis.ResponseError as error:
                    replies.append(error)
            whole = True
        finally:
            if not whole:
                connection.disconnect()
        self._connection = connection
        return replies
