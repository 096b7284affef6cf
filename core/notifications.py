"""Hears what other processes announce with NOTIFY, over a connection of its own that is made anew when it breaks."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Iterator, Sequence

import psycopg
from psycopg import sql

from core import db
from core.settings import settings

log = logging.getLogger(__name__)

#: No channel: what was heard before may be out of date.
CONNECTED = "connected"


def listen(channels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(channel, payload) of each notification, for ever.

    What is announced while the connection is away is missed; (CONNECTED, "") says that it is there, again or at first.
    """
    while True:
        try:
            with psycopg.connect(settings().database_url, autocommit=True, **db.CONNECT) as connection:
                for channel in channels:
                    connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                yield CONNECTED, ""
                while True:
                    for found in connection.notifies(timeout=0):
                        yield found.channel, found.payload
                    _wait_readable(connection)
        except psycopg.OperationalError:
            log.warning("the database is away; notifications are missed until it is back")
        time.sleep(1)


def _wait_readable(connection: psycopg.Connection) -> None:
    """Wait for the server's next word, or its end; psycopg's own waiting looks ten times a second."""
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    poll.poll()
