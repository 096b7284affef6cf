"""SQLModel's sessions, for what an API call changes of tenants, projects, keys, connections and mappings.

Apart from core/db.py, because loading SQLAlchemy takes half of a process's start, and workers and schedulers never ask
for a session.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import create_engine, event, text
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import Engine
from sqlmodel import Session

from core import db

#: Connections one process opens at the most for sessions.
POOL_SIZE = 8

_lock = threading.Lock()


def driver_url(url: str) -> str:
    """postgresql://... as SQLAlchemy wants it for psycopg 3."""
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return "postgresql+psycopg://" + url.removeprefix(scheme)
    return url


def _engine() -> Engine:
    """The engine beside this process's pool, made at first use and closed with it."""
    opened = db.pools()
    if opened.engine is None:
        with _lock:
            if opened.engine is None:
                opened.engine = _open(opened.url)
    return opened.engine


def _open(url: str) -> Engine:
    engine = create_engine(
        driver_url(url),
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=db.POOL_TIMEOUT_SECONDS,
        pool_pre_ping=True,
        connect_args=dict(db.CONNECT),
        # An error that is logged names its statement, and must not quote what was to be stored.
        hide_parameters=True,
    )
    event.listen(engine, "connect", lambda connection, _record: db.configure_connection(connection))
    return engine


@contextmanager
def tenant_session(tenant_id: UUID) -> Iterator[Session]:
    """A SQLModel session in one transaction that sees only this tenant's rows."""
    with system_session() as session:
        session.connection().execute(
            text("SELECT set_config('role', :role, true), set_config('app.tenant_id', :tenant, true)"),
            {"role": db.TENANT_ROLE, "tenant": str(tenant_id)},
        )
        yield session


@contextmanager
def system_session() -> Iterator[Session]:
    """A SQLModel session in one transaction with the platform's view of all tenants."""
    engine = _engine()
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session
    except sa_exc.TimeoutError as error:
        raise db.DatabaseDown from error
    except sa_exc.OperationalError as error:
        if db.is_gone(error.orig):
            engine.dispose()
            raise db.DatabaseDown from error
        if db.is_full(error.orig):
            raise db.DatabaseFull from error
        raise
