"""Two schedulers, while the lead passes from one to the other, claim the same rows once."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest

from core import db
from core.dispatch import claim
from launcher.client import wait_until
from tests.core.dispatch.world import World, batch_row, check_counters, finish, leases

pytestmark = pytest.mark.usefixtures("database_url")


def test_the_same_rows_claimed_at_the_same_time_are_claimed_once() -> None:
    # given: two schedulers that have read the same state of a lane
    world = World()
    batch_id = world.submit(4, max_cost_usd=Decimal("1"))
    with db.connection() as connection:
        held = claim.flight(connection)
        (one,), (other,) = claim.open_lanes(connection, held), claim.open_lanes(connection, held)
        tokens = claim.estimates(connection, one, 0, 4)
    reserved = [Decimal("0.01")] * 4
    claimed: list[tuple[int, int]] = []

    def second() -> None:
        with db.connection() as connection:
            claimed.extend(claim.claim_fresh(connection, other, tokens, reserved))

    # when: the second claims before the first has committed
    thread = threading.Thread(target=second)
    with db.connection() as connection:
        first = claim.claim_fresh(connection, one, tokens, reserved)
        thread.start()
        wait_until(_somebody_waits_for_a_lock, 10)
    thread.join()
    # then: only one has the rows, and the batch counts them once
    assert (len(first), claimed) == (4, [])
    assert len(leases()) == 4
    batch = batch_row(batch_id)
    assert (batch["dispatched"], batch["reserved_usd"]) == (4, Decimal("0.04"))
    finish(world.start(first))
    check_counters(batch_id)


def _somebody_waits_for_a_lock() -> bool:
    with db.connection() as connection:
        return bool(connection.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall())
