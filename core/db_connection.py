"""A connection to PostgreSQL that asks the event loop only for what it has to wait for, not for what is there."""

from __future__ import annotations

import select
import sys
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import DictRow
from psycopg.waiting import Ready, Wait

_Result = TypeVar("_Result")


class LightConnection(psycopg.Connection[DictRow]):
    """Before each command of a pipeline psycopg waits until the socket takes it, which it nearly always does at once.

    Under gevent every such wait is a turn of the event loop: there were ten in one flush of live completions.
    """

    def wait(self, gen: PQGen[_Result], *arguments: Any, **options: Any) -> _Result:
        if under_gevent():
            gen = _without_turns(gen, self.pgconn.socket)
        return super().wait(gen, *arguments, **options)


def _without_turns(gen: PQGen[_Result], fileno: int) -> PQGen[_Result]:
    """The same generator, going on by itself when it wants to send and can."""
    try:
        state = next(gen)
        while True:
            ready = _ready(fileno) if state == Wait.RW else 0
            state = gen.send(ready or (yield state))
    except StopIteration as ended:
        result: _Result = ended.value
        return result


def _ready(fileno: int) -> int:
    """What a socket can do right now, as psycopg has it. A broken one can be read: that tells how it broke."""
    poll = plain_poll()
    poll.register(fileno, select.POLLIN | select.POLLOUT)
    ready = 0
    for _, events in poll.poll(0):
        if events & ~select.POLLOUT:
            ready |= Ready.R
        if events & select.POLLOUT:
            ready |= Ready.W
    return ready


def is_quiet(connection: psycopg.Connection[Any]) -> bool:
    """True if there is nothing to read on an idle connection; a look without waiting, some microseconds."""
    poll = plain_poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return not poll.poll(0)


def under_gevent() -> bool:
    """True if this process waits by gevent's event loop."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("select"))


def plain_poll() -> select.poll:
    """The system's own poll object: gevent's goes by way of its event loop, which a look without waiting need not."""
    if not under_gevent():
        return select.poll()
    plain: select.poll = sys.modules["gevent.monkey"].get_original("select", "poll")()
    return plain
