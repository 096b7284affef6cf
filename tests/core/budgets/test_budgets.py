"""Budgets: every cost counted once, warned of once, and no spending beyond what was let in."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from core import budgets, db
from core.batches import control
from core.budgets import gate, plans, spending
from core.dispatch import claim, live
from core.dispatch.record import record
from core.errors import BudgetExhausted, InvalidInput, NotFound
from core.providers.types import Usage
from core.states import RowStatus
from tests.core.dispatch.world import World, batch_row, execute, succeeded

CENT = Decimal("0.01")


def put(world: World, limit: str, period: str = "month", **fields: Any) -> dict[str, Any]:
    return plans.put(world.principal, period, {"limit_usd": limit, **fields})[0]


def spend(world: World, cost: str) -> None:
    """A batch of one row that costs so much."""
    world.submit(1)
    record([succeeded(row, cost=cost) for row in world.run()])


def live_row(world: World, cost: str) -> live.LiveRow:
    now = datetime.now(UTC)
    return live.LiveRow(
        tenant_id=world.principal.tenant_id,
        project_id=world.principal.project_id,
        status=RowStatus.SUCCEEDED,
        model_requested="gpt-4o-mini",
        model="gpt-4o-mini",
        provider="openai",
        connection_id=world.connections["openai"],
        request_id="req_1",
        request_sha256=b"1" * 32,
        request="{}",
        response="{}",
        usage=Usage(input_tokens=1, output_tokens=1),
        cost_usd=Decimal(cost),
        list_cost_usd=Decimal(cost),
        price_version="test",
        attempts=1,
        reason=None,
        message=None,
        provider_status=200,
        started_at=now,
        ended_at=now,
    )


def hook(world: World) -> None:
    execute(
        "INSERT INTO webhook_endpoint (id, tenant_id, project_id, url) VALUES (gen_random_uuid(), %s, %s, 'https://x.example')",
        (world.principal.tenant_id, world.principal.project_id),
    )


def warned(world: World) -> list[tuple[str, float]]:
    with db.connection() as connection:
        rows = connection.execute(
            "SELECT payload::jsonb -> 'data' ->> 'period' AS period,"
            " (payload::jsonb -> 'data' ->> 'threshold')::float8 AS threshold FROM webhook_delivery"
            " WHERE event_type = 'budget.threshold' AND project_id = %s ORDER BY id",
            (world.principal.project_id,),
        ).fetchall()
    return [(row["period"], row["threshold"]) for row in rows]


def room_of(batch_id: Any) -> budgets.Room | None:
    with db.connection() as connection:
        return budgets.rooms(connection).get(batch_id)


def next_period() -> None:
    """As if the budgets' counters were of the period before this one."""
    execute(
        "UPDATE budget SET"
        " period_start = period_start - CASE period WHEN 'day' THEN interval '1 day' ELSE interval '1 month' END"
    )


def test_costs_are_counted_in_every_budget_from_what_was_spent_before_on(world: World) -> None:
    # given a row that cost something before there was a budget, and another project's
    spend(world, "0.25")
    other = World()
    put(other, "10")
    assert put(world, "10")["spent_usd"] == "0.25"
    put(world, "5", "day")
    # when more is spent
    spend(world, "0.5")
    # then both have it and the other project has none
    assert [each["spent_usd"] for each in plans.every(world.principal)] == ["0.75", "0.75"]
    assert plans.get(world.principal, "month")["remaining_usd"] == "9.25"
    assert plans.get(other.principal, "month")["spent_usd"] == "0"
    with pytest.raises(NotFound):
        plans.get(other.principal, "day")


def test_an_outcome_recorded_twice_is_charged_once(world: World) -> None:
    put(world, "10")
    world.submit(1)
    [row] = world.run()
    record([succeeded(row, cost="0.5")])
    record([succeeded(row, cost="0.5")])
    assert plans.get(world.principal, "month")["spent_usd"] == "0.5"


def test_each_threshold_is_announced_once_in_a_period(world: World) -> None:
    hook(world)
    put(world, "1", thresholds=[0.5, 0.8, 1.0], on_limit="warn")
    for cost in ("0.4", "0.2", "0.1", "0.15", "0.5", "0.5"):
        spend(world, cost)
    assert warned(world) == [("month", 0.5), ("month", 0.8), ("month", 1.0)]
    # and again in the next period
    next_period()
    spend(world, "0.5")
    assert warned(world)[3:] == [("month", 0.5)]
    assert plans.get(world.principal, "month")["spent_usd"] == "0.5"


def test_a_changed_limit_announces_what_is_reached_under_it(world: World) -> None:
    hook(world)
    put(world, "1", thresholds=[0.5, 1.0])
    spend(world, "0.6")
    assert warned(world) == [("month", 0.5)]
    put(world, "10", thresholds=[0.5, 1.0])
    put(world, "0.6", thresholds=[0.5, 1.0])
    assert warned(world)[1:] == [("month", 0.5), ("month", 1.0)]


def test_a_batch_without_room_is_paused_once_and_goes_on_when_there_is(world: World) -> None:
    hook(world)
    put(world, "1")
    batch_id = world.submit(3)
    room = room_of(batch_id)
    assert room == budgets.Room(Decimal(1), Decimal(1))
    assert room.closed_to(Decimal("1.01"))
    # when it is paused for a row that may cost more than there is
    assert budgets.pause(batch_id, room, Decimal("1.01"))
    assert not budgets.pause(batch_id, room, Decimal("1.01"))
    batch = batch_row(batch_id)
    assert (batch["status"], batch["status_reason"]) == ("paused", "budget")
    # then it waits until the limit is high enough for that row
    assert budgets.resume_funded() == 0
    put(world, "1.005")
    assert budgets.resume_funded() == 0
    put(world, "1.01")
    assert budgets.resume_funded() == 1
    batch = batch_row(batch_id)
    assert (batch["status"], batch["status_reason"], batch["needs_usd"]) == ("pending", None, None)


@pytest.mark.parametrize("way", ["next period", "raised", "deleted", "warn only"])
def test_a_batch_at_a_used_up_limit_goes_on(world: World, way: str) -> None:
    put(world, "0.5", "day")
    spend(world, "0.5")
    batch_id = world.submit(1)
    room = room_of(batch_id)
    assert room is not None
    assert room.closed_to(Decimal(0))
    budgets.pause(batch_id, room, Decimal(0))
    assert budgets.resume_funded() == 0
    if way == "next period":
        next_period()
    elif way == "raised":
        put(world, "0.6", "day")
    elif way == "deleted":
        plans.delete(world.principal, "day")
    else:
        put(world, "0.5", "day", on_limit="warn")
    assert budgets.resume_funded() == 1


@pytest.mark.parametrize("paused_before", [False, True])
def test_a_batch_paused_by_its_owner_is_left_alone(world: World, paused_before: bool) -> None:
    # given: the budget may have paused it before its owner did
    put(world, "0.5")
    batch_id = world.submit(1)
    if paused_before:
        room = room_of(batch_id)
        assert room is not None
        assert budgets.pause(batch_id, room, Decimal(1))
    control.pause(world.principal, batch_id)
    # then room in the budget does not let it go on
    put(world, "2")
    assert budgets.resume_funded() == 0
    assert batch_row(batch_id)["status_message"] == "paused by its owner"
    control.resume(world.principal, batch_id)
    assert batch_row(batch_id)["status"] == "pending"


def test_room_is_what_neither_is_spent_nor_reserved_by_the_tightest_budget(world: World) -> None:
    put(world, "10")
    put(world, "3", "day")
    put(World(), "0.01")
    spend(world, "0.5")
    batch_id, other_id = world.submit(2), world.submit(1)
    world.claim(1, reserved=Decimal("0.4"))
    with budgets.hold(world.principal, lambda: Decimal("0.25"), seconds=10):
        found = room_of(batch_id)
        assert found is not None
        assert found.unspent == Decimal("2.5")
        assert found.left == Decimal("2.5") - 2 * Decimal("0.4") - Decimal("0.25")
        shown = plans.get(world.principal, "day")
        assert (shown["reserved_usd"], shown["remaining_usd"]) == ("1.05", "1.45")
    assert room_of(other_id) == budgets.Room(Decimal("2.5"), Decimal("1.7"))
    with db.connection() as connection:
        shared = budgets.rooms(connection)
    assert shared[batch_id] is shared[other_id]


def test_live_calls_reserve_what_they_can_cost(world: World) -> None:
    put(world, "1")
    with budgets.hold(world.principal, lambda: Decimal("0.7"), seconds=10):
        # when another one finds no room beside it
        with (
            pytest.raises(BudgetExhausted) as caught,
            budgets.hold(world.principal, lambda: Decimal("0.4"), seconds=10),
        ):
            pass
        assert caught.value.retry_after_seconds < 60
    # then it does afterwards
    with budgets.hold(world.principal, lambda: Decimal("0.4"), seconds=10):
        pass
    # and what can cost more than is left must wait for the next period
    spend(world, "0.7")
    with pytest.raises(BudgetExhausted) as caught, budgets.hold(world.principal, lambda: Decimal("0.4"), seconds=10):
        pass
    end = spending.period_end("month", datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    assert caught.value.retry_after_seconds == pytest.approx((end - datetime.now(UTC)).total_seconds(), abs=60)
    assert "PUT /v1/budgets/month" in caught.value.detail


def test_a_reservation_is_given_back_when_the_call_fails_and_runs_out_when_its_process_dies(world: World) -> None:
    put(world, "1")
    with pytest.raises(ValueError, match="broken"), budgets.hold(world.principal, lambda: Decimal(1), seconds=10):
        raise ValueError("broken")
    killed = budgets.hold(world.principal, lambda: Decimal(1), seconds=10)
    killed.__enter__()
    execute("UPDATE budget_hold SET expires_at = now() - interval '1 s'")
    with budgets.hold(world.principal, lambda: Decimal(1), seconds=10):
        pass


def test_projects_without_a_limit_reserve_nothing(world: World) -> None:
    put(world, "0.01", on_limit="warn")
    spend(world, "1")

    def ceiling() -> Decimal:
        raise AssertionError("nobody asks")

    with budgets.hold(world.principal, ceiling, seconds=10):
        pass
    assert room_of(world.submit(1)) is None


def test_a_claim_that_passes_the_limit_together_with_live_calls_does_not_fit(world: World) -> None:
    put(world, "1")
    batch_id = world.submit(2)
    with budgets.hold(world.principal, lambda: Decimal("0.7"), seconds=10):
        for reserved, expected in ((Decimal("0.2"), False), (Decimal("0.15"), True)):
            with db.connection() as connection:
                [lane] = claim.open_lanes(connection, claim.flight(connection))
                claim.claim_fresh(connection, lane, [(1, 1)] * 2, [reserved] * 2)
                assert budgets.fits(connection, batch_id) is expected
                connection.rollback()


def test_many_live_calls_at_once_never_reserve_more_than_the_limit(world: World) -> None:
    put(world, "1")
    let_in, done = [], threading.Event()

    def call() -> None:
        try:
            with budgets.hold(world.principal, lambda: Decimal("0.3"), seconds=10):
                let_in.append(1)
                done.wait(20)
        except BudgetExhausted:
            refused.release()

    refused = threading.Semaphore(0)
    threads = [threading.Thread(target=call) for _ in range(10)]
    for thread in threads:
        thread.start()
    for _ in range(7):
        assert refused.acquire(timeout=20)
    done.set()
    for thread in threads:
        thread.join()
    assert len(let_in) == 3


def test_concurrent_charges_lose_nothing(world: World) -> None:
    put(world, "100")
    put(world, "100", "day")
    world.submit(40)
    rows = world.run()

    def write(own: list[Any]) -> None:
        for row in own:
            record([succeeded(row, cost="0.01")])

    threads = [threading.Thread(target=write, args=(rows[at::4],)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each["spent_usd"] for each in plans.every(world.principal)] == ["0.4", "0.4"]


def test_a_new_budget_finds_what_was_being_recorded_while_it_was_made(world: World) -> None:
    spend(world, "0.5")
    put(world, "10")
    execute("UPDATE budget SET spent_usd = 0.2")
    for changed in (1, 0):
        with db.connection() as connection:
            assert budgets.reconcile(connection) == changed
    assert plans.get(world.principal, "month")["spent_usd"] == "0.5"


def test_what_live_calls_spend_before_a_process_hears_of_a_new_budget_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a process that has just seen that the project has no budget, where another one makes one
    with budgets.hold(world.principal, lambda: CENT, seconds=10):
        pass
    assert budgets.none_of([world.principal.project_id])
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(gate, "forget", lambda project_id: None)
        put(world, "10")
    # when a live call ends there
    live._write([live_row(world, cost="0.25")])
    # then it is found by the sums, once, and the next is charged as it ends
    assert plans.get(world.principal, "month")["spent_usd"] == "0"
    for changed in (1, 0):
        with db.connection() as connection:
            assert budgets.reconcile(connection) == changed
    put(world, "20")
    live._write([live_row(world, cost="0.5")])
    assert plans.get(world.principal, "month")["spent_usd"] == "0.75"


def test_live_calls_that_end_together_are_charged_and_added_up_once_although_a_reply_was_lost(world: World) -> None:
    other = World()
    put(other, "10")
    for budget_known in (False, True):
        with budgets.hold(world.principal, lambda: CENT, seconds=10):
            pass
        assert budgets.none_of([world.principal.project_id])
        rows = [live_row(each, cost="0.25") for each in ((world, other) if budget_known else (world, world))]
        # when the same rows are written again, and one that is new with them
        live._write(rows)
        live._write([*rows, live_row(world, cost="0.25")])
    assert plans.get(other.principal, "month")["spent_usd"] == "0.25"
    assert put(world, "10")["spent_usd"] == "1.25"


def test_a_claim_keeps_what_it_reserved_until_the_row_ends(world: World) -> None:
    put(world, "1")
    batch_id = world.submit(1)
    rows = world.start(world.claim(reserved=CENT))
    assert batch_row(batch_id)["reserved_usd"] == CENT
    record([succeeded(rows[0], cost="0.002")])
    assert plans.get(world.principal, "month")["remaining_usd"] == "0.998"
    with db.connection() as connection:
        assert claim.open_lanes(connection, claim.flight(connection)) == []


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, {"/limit_usd"}),
        ({"limit_usd": "0"}, {"/limit_usd"}),
        ({"limit_usd": "1e400"}, {"/limit_usd"}),
        (
            {"limit_usd": True, "thresholds": [0], "on_limit": "halt", "x": 1},
            {"/limit_usd", "/thresholds", "/on_limit", "/x"},
        ),
        ({"limit_usd": 5, "thresholds": [0.5] * 11}, {"/thresholds"}),
        ({"limit_usd": 5, "thresholds": ["0.5"], "on_limit": []}, {"/thresholds", "/on_limit"}),
    ],
)
def test_all_that_is_wrong_is_said_at_once(world: World, given: dict[str, Any], wrong: set[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        plans.put(world.principal, "month", given)
    assert {error.pointer for error in caught.value.errors} == wrong


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("day", datetime(2026, 2, 28, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)),
        ("month", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)),
        ("month", datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_periods_are_of_the_calendar_in_utc(period: str, start: datetime, end: datetime) -> None:
    assert spending.period_end(period, start) == end
