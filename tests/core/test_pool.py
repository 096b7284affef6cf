"""The pool: a server that ends idle connections costs nobody an error."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from core import db


def test_connections_that_the_server_ended_while_idle_are_not_used(database_url: str) -> None:
    # given: some idle connections, all of them ended by the server as a restart would
    together = Barrier(4)

    def hold(_: int) -> int:
        with db.connection() as connection:
            pid = connection.info.backend_pid
            together.wait(10)
        return pid

    with ThreadPoolExecutor(4) as threads:
        pids = set(threads.map(hold, range(4)))
    assert len(pids) == 4
    with db.connection() as connection:
        own = connection.info.backend_pid
        connection.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s::int[]) pid", (list(pids - {own}),))
    # when: every connection of the pool is used again, the killer's own last
    pids_now = set()
    for _ in range(6):
        with db.connection() as connection:
            pids_now.add(connection.execute("SELECT pg_backend_pid() AS pid").fetchone()["pid"])  # type: ignore[index]
    # then: nobody heard of it
    assert not pids_now & (pids - {own})


def test_a_connection_that_breaks_in_mid_transaction_is_an_error_of_that_transaction(database_url: str) -> None:
    try:
        with db.connection() as connection:
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    except db.DatabaseDown:
        pass
    else:
        raise AssertionError("the transaction went on")
    with db.connection() as connection:
        assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}
