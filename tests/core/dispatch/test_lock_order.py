"""What changes several batches at once locks them in the order of their ids, as the transactions do that end rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from core import db
from core.budgets import gate
from core.dispatch import pauses, sweep
from tests.core.dispatch.world import World, execute

_WAITS = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def _closed() -> None:
    execute("UPDATE batch SET expires_at = now()")


def _stopped() -> None:
    execute("UPDATE connection SET state = 'stopped', stop_reason = 'authentication_failed', stop_message = 'no'")


def _mended() -> None:
    execute("UPDATE batch SET status = 'paused', status_reason = 'authentication_failed'")


def _funded() -> None:
    execute("UPDATE batch SET status = 'paused', status_reason = 'budget'")


@pytest.mark.parametrize(
    ("given", "change"),
    [
        (_closed, sweep.expire_batches),
        (_stopped, pauses.pause_stopped_connections),
        (_mended, pauses.resume_mended_connections),
        (_funded, gate.resume_funded),
    ],
)
def test_batches_are_locked_in_the_order_of_their_ids(
    database_url: str, given: Callable[[], None], change: Callable[[], int]
) -> None:
    # given: two batches, the older of which lies behind the other in the table, and a plan that goes through the table
    name = database_url.rpartition("/")[2]
    for plan in ("indexscan", "indexonlyscan", "bitmapscan"):
        execute(f"ALTER DATABASE {name} SET enable_{plan} = off")
    db.configure(database_url)
    world = World()
    first, second = sorted((world.submit(1), world.submit(1)))
    given()
    execute("UPDATE batch SET name = 'moved' WHERE id = %s", (first,))
    with psycopg.connect(database_url) as ending, ThreadPoolExecutor(1) as beside:
        # when: rows of both end in one transaction while all batches are changed
        ending.execute("UPDATE batch SET retries = 1 WHERE id = %s", (first,))
        changed = beside.submit(change)
        while not changed.done() and not ending.execute(_WAITS).fetchall():
            time.sleep(0.01)
        ending.execute("UPDATE batch SET retries = 1 WHERE id = %s", (second,))
        ending.commit()
        # then: one went after the other
        assert changed.result(10) == 2
