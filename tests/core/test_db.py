"""What becomes of a server that cannot take a write, and of one whose host falls silent."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import text

from core import db, sessions

FULL = "DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"

pytestmark = pytest.mark.usefixtures("database_url")


def by_psycopg(statement: str) -> None:
    with db.connection() as connection:
        connection.execute(statement)  # type: ignore[call-overload]


def by_sqlmodel(statement: str) -> None:
    with sessions.system_session() as session:
        session.connection().execute(text(statement))


@pytest.mark.parametrize("execute", [by_psycopg, by_sqlmodel])
def test_a_full_disk_is_the_store_being_away_for_writing(execute: Callable[[str], None]) -> None:
    # what is Unavailable is answered 503 with Retry-After, and kept by whoever has something to write
    with pytest.raises(db.DatabaseFull) as found:
        execute(FULL)
    assert isinstance(found.value, db.DatabaseDown)
    # and: reading goes on, over the same connections
    execute("SELECT 1")


def test_another_fault_of_a_statement_stays_what_it_is() -> None:
    with pytest.raises(psycopg.errors.OutOfMemory):
        by_psycopg(FULL.replace("disk_full", "out_of_memory"))


def test_both_ends_give_up_a_host_that_fell_silent_within_a_quarter_of_a_minute() -> None:
    with db.connection() as connection:
        assert connection.execute("SHOW tcp_user_timeout").fetchone() == {"tcp_user_timeout": "15000"}
        parameters = psycopg.conninfo.conninfo_to_dict(connection.info.dsn)
    assert int(parameters["tcp_user_timeout"] or 0) <= 15_000
    assert int(parameters["keepalives_idle"] or 0) <= 15


def test_one_trip_is_one_transaction() -> None:
    # given a table, and a trip that ends well
    with db.connection() as connection:
        connection.execute("CREATE TABLE trip (n int PRIMARY KEY)")
    done: list[str] = []
    with db.one_trip() as connection:
        connection.execute("INSERT INTO trip VALUES (1)")
        counted = connection.execute("SELECT count(*) AS n FROM trip")
        connection.execute("INSERT INTO trip VALUES (2)")
        db.after_commit(connection, lambda: done.append("one"))
        assert counted.fetchone() == {"n": 1}
        assert done == []
    assert (_numbers(), done) == ([1, 2], ["one"])

    # when others fail: by a statement, by a statement whose rows nobody asked for, and by code after all went well
    def refused() -> None:
        with db.one_trip() as connection:
            connection.execute("INSERT INTO trip VALUES (3)")
            connection.execute("INSERT INTO trip VALUES (1) RETURNING n").fetchone()

    def refused_at_the_end() -> None:
        with db.one_trip() as connection:
            connection.execute("INSERT INTO trip VALUES (4)")
            connection.execute("INSERT INTO trip VALUES (1)")
            db.after_commit(connection, lambda: done.append("two"))

    def given_up() -> None:
        with db.one_trip() as connection:
            connection.execute("INSERT INTO trip VALUES (5)")
            connection.execute("SELECT 1").fetchone()
            raise ZeroDivisionError

    def given_up_elsewhere() -> None:
        with db.connection() as connection:
            connection.execute("INSERT INTO trip VALUES (6)")
            raise ZeroDivisionError

    for fail, error in (
        (refused, psycopg.errors.UniqueViolation),
        (refused_at_the_end, psycopg.errors.UniqueViolation),
        (given_up, ZeroDivisionError),
        # then connections are what they were
        (given_up_elsewhere, ZeroDivisionError),
    ):
        with pytest.raises(error):
            fail()
        assert (_numbers(), done) == ([1, 2], ["one"])
    with db.connection() as connection:
        connection.execute("DROP TABLE trip")


def _numbers() -> list[int]:
    with db.connection() as connection:
        return [row["n"] for row in connection.execute("SELECT n FROM trip ORDER BY n")]
