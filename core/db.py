"""The way to PostgreSQL: pools, and transactions that belong to a tenant or to the platform."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID
from weakref import WeakKeyDictionary

import orjson
import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from core.db_connection import LightConnection, is_quiet
from core.errors import Unavailable
from core.settings import settings

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

log = logging.getLogger(__name__)

#: Connections one process opens at the most for SQL of our own. Transactions are short, so few serve many greenlets.
POOL_SIZE = 16
#: How long a transaction waits for a connection, in seconds.
POOL_TIMEOUT_SECONDS = 5.0

#: How a connection is made, and how soon either end gives up the other when its host falls silent (libpq's names;
#: seconds, tcp_user_timeout in milliseconds). Without this a pulled cable would be noticed after a quarter of an hour.
CONNECT: dict[str, Any] = {
    "application_name": "llm-service",
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
#: The same for the server's end, where the locks of a host that fell silent are held; and a forgotten transaction must
#: not hold its locks for ever.
_SERVER_SIDE = """
SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3;
SET tcp_user_timeout = 15000; SET idle_in_transaction_session_timeout = '60s'; SET timezone = 'UTC'
"""

#: The role of tenant transactions: row-level security applies to it.
TENANT_ROLE = "llm_service_tenant"

RawConnection = psycopg.Connection[DictRow]


class DatabaseDown(Unavailable):
    """The database is not available; try again after the time in Retry-After."""


class DatabaseFull(DatabaseDown):
    """The database has no room left: make room on its disk, or give it a larger one. Try again after Retry-After."""


@dataclass
class Pools:
    """What this process has open to one database."""

    url: str
    raw: ConnectionPool[LightConnection]
    #: SQLAlchemy's, made with the first of core/sessions.py: whoever needs none does not load it
    engine: Engine | None = None

    def close(self) -> None:
        self.raw.close(timeout=1)
        if self.engine is not None:
            self.engine.dispose()


_lock = threading.Lock()
_pools: Pools | None = None
_after_commit: WeakKeyDictionary[RawConnection, list[Callable[[], None]]] = WeakKeyDictionary()


def name_connections(name: str) -> None:
    """What the server knows the connections of this process by (`application_name`); before the first is opened."""
    CONNECT["application_name"] = name


def configure(url: str | None) -> None:
    """Point this process at another database, or with None at the one of the settings; closes what is open."""
    global _pools
    with _lock:
        if _pools is not None:
            _pools.close()
        _pools = None if url is None else _open(url)


def pools() -> Pools:
    """The pools of this process, made at first use: after a fork, so that no connection is shared."""
    global _pools
    if _pools is None:
        with _lock:
            if _pools is None:
                _pools = _open(settings().database_url)
    return _pools


def _open(url: str) -> Pools:
    raw: ConnectionPool[LightConnection] = ConnectionPool(
        url,
        connection_class=LightConnection,
        min_size=1,
        max_size=POOL_SIZE,
        timeout=POOL_TIMEOUT_SECONDS,
        reconnect_timeout=5,
        kwargs={"row_factory": dict_row, **CONNECT},
        configure=configure_connection,
        open=True,
    )
    return Pools(url, raw)


def configure_connection(connection: psycopg.Connection[Any]) -> None:
    """What every connection of this service is told first."""
    connection.execute(_SERVER_SIDE)
    connection.commit()


def _take(pool: ConnectionPool[LightConnection]) -> LightConnection:
    """A connection of the pool's that the server has not ended while it was idle.

    So a server that was restarted costs no caller an error: nothing was sent yet, and a new connection does as well.
    """
    held = pool.getconn()
    if is_quiet(held):
        return held
    held.close()
    pool.putconn(held)
    # The other idle ones are as dead.
    pool.drain()
    return pool.getconn()


@contextmanager
def connection(tenant_id: UUID | None = None) -> Iterator[RawConnection]:
    """A psycopg connection in one transaction: committed at the end, rolled back on an error.

    With a tenant, row-level security shows only that tenant's rows; without, it is the platform's view (workers,
    scheduler, operator). Rows come as dicts.

    Raises
    ------
    DatabaseDown
        The database cannot be reached, or went away in the middle.
    DatabaseFull
        Its disk is full: reading goes on, writing waits for room.
    """
    with _after_commits() as held:
        if tenant_id is not None:
            held.execute(_SCOPE, (TENANT_ROLE, str(tenant_id)))
        yield held


@contextmanager
def one_trip() -> Iterator[RawConnection]:
    """A connection with the platform's view on which all statements of the block are sent together and are one
    transaction, committed at the block's end and rolled back on an error.

    It is the pipeline's own, implicit transaction: BEGIN and COMMIT would each be one more wait. Asking for a
    statement's rows in the block waits for them. Raises DatabaseDown, DatabaseFull as `connection` does.
    """
    with _after_commits() as held:
        held.autocommit = True
        try:
            with held.pipeline():
                try:
                    yield held
                except BaseException:
                    # The pipeline's end would commit what the server has run.
                    held.close()
                    raise
        finally:
            # A connection that was left in mid-statement by a killed greenlet is closed by the pool.
            if held.info.transaction_status is TransactionStatus.IDLE:
                held.autocommit = False


@contextmanager
def single_statement() -> Iterator[RawConnection]:
    """A connection with the platform's view on which each statement is a transaction: committed when it returns.

    For the statements of the hot path: one round trip instead of three. Raises DatabaseDown as `connection` does.
    """
    with _pooled() as held:
        held.autocommit = True
        try:
            yield held
        finally:
            # A connection that was left in mid-statement by a killed greenlet is closed by the pool.
            if held.info.transaction_status is TransactionStatus.IDLE:
                held.autocommit = False


@contextmanager
def _after_commits() -> Iterator[LightConnection]:
    """A connection of the pool's for one transaction; what `after_commit` was given is done when it has committed."""
    with _pooled() as held:
        actions = _after_commit[held] = []
        yield held
    for action in actions:
        try:
            action()
        except Exception:
            # The transaction stands; whoever asked for it must not hear of a failure and repeat it.
            log.exception("what follows a commit failed")


@contextmanager
def _pooled() -> Iterator[LightConnection]:
    pool = pools().raw
    try:
        held = _take(pool)
        try:
            # Its own context commits and rolls back; the pool drops one left in mid-statement by a killed greenlet.
            with held:
                yield held
        finally:
            pool.putconn(held)
    except PoolTimeout as error:
        raise DatabaseDown from error
    except psycopg.Error as error:
        _without_values(error)
        if is_gone(error):
            # The other idle connections are as dead as this one.
            pool.drain()
            raise DatabaseDown from error
        if is_full(error):
            raise DatabaseFull from error
        raise


def after_commit(connection: RawConnection, action: Callable[[], None]) -> None:
    """Have `action` called once the transaction of a `connection()` has committed, and not if it is rolled back."""
    _after_commit[connection].append(action)


def pool_statistics() -> dict[str, int]:
    """Sizes and counters of this process's pool, as psycopg_pool names them; empty before its first use."""
    opened = _pools
    return opened.raw.get_stats() if opened is not None else {}


_SCOPE = "SELECT set_config('role', %s, true), set_config('app.tenant_id', %s, true)"


def is_gone(error: BaseException | None) -> bool:
    """True for a lost or refused connection and for a server that starts or stops (SQLSTATE classes 08 and 57P)."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def _without_values(error: psycopg.Error) -> None:
    """Leave only the first sentence: the server's DETAIL and CONTEXT quote rows, and prompts must not reach a log."""
    error.args = (error.diag.message_primary or str(error).partition("\n")[0],)


def is_unstorable(error: BaseException) -> bool:
    """True for a value that the database cannot hold, or not so large: asked again, it refuses it once more."""
    unwritable = (psycopg.DataError, psycopg.errors.ProgramLimitExceeded, UnicodeEncodeError, orjson.JSONEncodeError)
    return isinstance(error, unwritable)


def is_full(error: BaseException | None) -> bool:
    """True when the server's disk, or the quota of its account, is full (SQLSTATE 53100)."""
    return isinstance(error, psycopg.errors.DiskFull)
