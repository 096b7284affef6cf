"""Migrated, empty databases: cloned from a template, emptied when a test is done with them, and lent to the next."""

from __future__ import annotations

import itertools
import time
from typing import Any

import psycopg
from psycopg import sql

from launcher.postgres import DATABASE, Postgres

_TEMPLATE = "template_migrated"
#: So many databases that cannot be lent again are dropped at a time: each drop waits for what was written meanwhile.
_DROPPED_AT_ONCE = 8
#: PostgreSQL plans for a table that was never vacuumed as if it had ten pages, if it has fewer: so a database with no
#: larger one, dead rows or not, is planned for like a new one.
_MOST_PAGES = 10

#: What a database is like: the files and statistics of its tables and indexes, and what other catalogues say of them.
_SHAPE = """
SELECT sum(hashtextextended(pg_class::text, 0)) FROM pg_class
WHERE relnamespace = 'public'::regnamespace OR relnamespace = 'pg_toast'::regnamespace
UNION ALL SELECT count(*) FROM pg_statistic JOIN pg_class ON oid = starelid AND relnamespace = 'public'::regnamespace
""" + "".join(
    f"UNION ALL SELECT hashtextextended((count(*), max(xmin::text::bigint))::text, 0) FROM pg_{catalogue}\n"
    for catalogue in ("attrdef", "attribute", "constraint", "index", "policy", "proc", "trigger")
)
_WRITTEN = """
SELECT relname, pg_relation_size(oid) / 8192 FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
  AND pg_relation_size(oid) > 0
"""
_SEQUENCES = """
SELECT setval(seqrelid, seqstart, false) FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid
WHERE relnamespace = 'public'::regnamespace
"""
_END_CONNECTIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"


class Databases:
    """Those of one server, whose database DATABASE is at this version's schema."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._numbers = itertools.count(1)
        #: what a database was like when it was made, by name
        self._shapes: dict[str, Any] = {}
        self._empty: list[str] = []
        self._left: list[str] = []
        self._execute("CREATE DATABASE {} TEMPLATE {}", _TEMPLATE, DATABASE)
        # Nobody can connect, so that a forgotten connection never stands in the way of a clone.
        self._execute("ALTER DATABASE {} ALLOW_CONNECTIONS false", _TEMPLATE)

    def new(self) -> str:
        """The URL of a database that nobody has had before."""
        name = f"test_{next(self._numbers)}"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, _TEMPLATE)
        url = self._server.url_of(name)
        with psycopg.connect(url) as connection:
            self._shapes[name] = _shape(connection)
        return url

    def lend(self) -> str:
        """The URL of a database that is like a new one, until `take_back`."""
        return self._server.url_of(self._empty.pop()) if self._empty else self.new()

    def take_back(self, url: str) -> None:
        """End its connections and empty it; if its tables are not as they were, or large, it is dropped."""
        name = _name(url)
        with psycopg.connect(self._server.url_of("postgres"), autocommit=True) as connection:
            # What one of them commits in its last moment is emptied too.
            while connection.execute(_END_CONNECTIONS, (name,)).rowcount:
                time.sleep(0.002)
        if self._emptied(url):
            self._empty.append(name)
            return
        del self._shapes[name]
        self._left.append(name)
        if len(self._left) == _DROPPED_AT_ONCE:
            while self._left:
                self._execute("DROP DATABASE {} WITH (FORCE)", self._left.pop())

    def _emptied(self, url: str) -> bool:
        with psycopg.connect(url) as connection:
            written = connection.execute(_WRITTEN).fetchall()
            if any(pages > _MOST_PAGES for _, pages in written) or _shape(connection) != self._shapes[_name(url)]:
                return False
            # Without triggers, foreign keys among them: all of it goes.
            connection.execute("SET session_replication_role = replica")
            for table, _ in written:
                connection.execute(sql.SQL("DELETE FROM ONLY {}").format(sql.Identifier(table)))
            connection.execute(_SEQUENCES)
        return True

    def _execute(self, statement: str, *names: str) -> None:
        with psycopg.connect(self._server.url_of("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def _shape(connection: psycopg.Connection[Any]) -> Any:
    return connection.execute(_SHAPE).fetchall()
