"""One scheduler leads: whoever holds an advisory lock over a connection that the others can see die."""

from __future__ import annotations

import logging
import threading
import time

import psycopg

from core import db
from core.settings import settings

log = logging.getLogger(__name__)

#: Any fixed number, different from the migrations' lock.
LEADER_LOCK = 0x6C6C73
CHECK_SECONDS = 1.0
#: The server drops a leader whose host fell silent after six seconds: idle + interval x count where the leader owed the
#: next word, tcp_user_timeout where the host fell silent between a question and its answer.
_KEEPALIVE = """
SET tcp_keepalives_idle = 3; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 6000
"""


def lead(leading: threading.Event) -> None:
    """Try to become and stay the leader, for ever; `leading` says whether this process is.

    A leader that lost its connection may finish a statement while another begins to lead. That is harmless: every
    statement of the scheduler names the state it expects.
    """
    while True:
        try:
            with psycopg.connect(settings().database_url, autocommit=True, **db.CONNECT) as connection:
                connection.execute(_KEEPALIVE)
                _hold(connection, leading)
        except psycopg.OperationalError:
            log.warning("the database is away; nobody leads until it is back")
        finally:
            leading.clear()
        time.sleep(CHECK_SECONDS)


def _hold(connection: psycopg.Connection[tuple[bool]], leading: threading.Event) -> None:
    while True:
        if not leading.is_set():
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (LEADER_LOCK,)).fetchone()
            if row and row[0]:
                log.info("this scheduler leads")
                leading.set()
        else:
            connection.execute("SELECT 1")
        time.sleep(CHECK_SECONDS)
