"""One scheduler leads: whoever holds an advisory lock over a connection that the others can see die, or fall silent."""

from __future__ import annotations

import logging
import secrets
import threading
import time

import psycopg

from core import db
from core.settings import settings
from scheduler.contact import Contact

log = logging.getLogger(__name__)

#: Any fixed number, different from the migrations' lock.
LEADER_LOCK = 0x6C6C73
CHECK_SECONDS = 1.0
#: A leader that has not asked the server anything for so long, by the server's clock, is frozen: others end its
#: connections, and one of them leads. It asks every CHECK_SECONDS.
SILENT_SECONDS = 5.0
#: How the names begin that schedulers give their connections; each process has its own.
PROCESS = "llm-service scheduler "
#: The server drops a leader whose host fell silent after six seconds: idle + interval x count where the leader owed the
#: next word, tcp_user_timeout where the host fell silent between a question and its answer.
_KEEPALIVE = """
SET tcp_keepalives_idle = 3; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 6000
"""


def name_connections() -> None:
    """Make this process's connections known as its own: if it freezes while it leads, all of them are ended."""
    db.name_connections(PROCESS + secrets.token_hex(8))


def lead(leading: threading.Event, contact: Contact | None = None) -> None:
    """Try to become and stay the leader, for ever; `leading` says whether this process is, `contact` hears of answers.

    A leader that lost its connection, or was frozen and goes on, may finish a statement while another begins to lead.
    That is harmless: every statement of the scheduler names the state it expects.
    """
    while True:
        try:
            with psycopg.connect(settings().database_url, autocommit=True, **db.CONNECT) as connection:
                connection.execute(_KEEPALIVE)
                _hold(connection, leading, contact or Contact())
        except psycopg.Error:
            log.warning("the database is away; nobody leads until it is back")
        finally:
            leading.clear()
        time.sleep(CHECK_SECONDS)


def _hold(connection: psycopg.Connection[tuple[bool]], leading: threading.Event, contact: Contact) -> None:
    while True:
        if not leading.is_set():
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (LEADER_LOCK,)).fetchone()
            if row and row[0]:
                log.info("this scheduler leads")
                leading.set()
            elif connection.execute(_END_SILENT, _silent()).rowcount:
                log.warning("the leader was silent for %.0f s: its connections were ended", SILENT_SECONDS)
                contact.heard()
                continue
        else:
            connection.execute("SELECT 1")
        contact.heard()
        time.sleep(CHECK_SECONDS)


def _silent() -> dict[str, object]:
    return {"lock": LEADER_LOCK, "silent": SILENT_SECONDS, "process": f"{PROCESS}%"}


# All connections of the leader's process, for a transaction that it was frozen in holds locks. When it last asked for
# anything is the server's own knowledge (track_activities): nothing is written for it. A name that is not one
# process's own ends the leader's connection alone.
_END_SILENT = """
WITH leader AS MATERIALIZED (
    SELECT activity.pid, activity.application_name AS name
    FROM pg_locks held JOIN pg_stat_activity activity ON activity.pid = held.pid
    WHERE held.locktype = 'advisory' AND held.granted AND held.database = activity.datid
      AND activity.datname = current_database()
      AND held.classid = 0 AND held.objid = %(lock)s::bigint::oid AND held.objsubid = 1
      AND activity.query_start < clock_timestamp() - make_interval(secs => %(silent)s)
)
SELECT pg_terminate_backend(activity.pid)
FROM leader JOIN pg_stat_activity activity
  ON activity.pid = leader.pid OR (activity.application_name = leader.name AND leader.name LIKE %(process)s
                                   AND activity.datname = current_database())
"""
