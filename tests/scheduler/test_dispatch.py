"""A tick of dispatch against a real database and Redis: whose doorbells are rung, and on which queue."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import dramatiq
import pytest

from core import db, limits
from core.batches import ingest
from core.batches.options import BatchOptions
from core.dispatch.doorbell import FIRST_QUEUE, QUEUE, make_broker
from core.dispatch.record import record
from core.ids import BLOCK_BITS
from core.metrics_dispatch import TASK_FAILURES
from core.settings import settings
from scheduler.dispatch import Dispatcher
from tests.core.dispatch.world import PROMPT, World, batch_row, execute, leases, succeeded

pytestmark = pytest.mark.usefixtures("database_url")


@pytest.fixture
def dispatcher(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dispatcher]:
    monkeypatch.setenv("REDIS_URL", redis_url)
    settings.cache_clear()
    yield Dispatcher(make_broker())
    settings.cache_clear()


def test_a_tenant_with_few_rows_passes_one_with_many(dispatcher: Dispatcher) -> None:
    # given: a tenant of whose batch as many rows are rung as its new key allows, and nobody starts them
    huge = World()
    huge.submit(300)
    dispatcher.tick()
    rung = len(leases())
    # when: another comes with a few rows
    small = World()
    small.submit(rung // 4)
    dispatcher.tick()
    # then: its rows do not stand behind the others
    lanes = {row["lane_id"]: row["tenant_id"] for row in leases()}
    assert {lanes[lane] for lane in _lanes_on(FIRST_QUEUE)} == {small.principal.tenant_id}
    assert {lanes[lane] for lane in _lanes_on(QUEUE)} == {huge.principal.tenant_id}


def test_a_tenant_with_few_rows_passes_one_whose_calls_run(dispatcher: Dispatcher) -> None:
    # given: a tenant whose rows have all been started, so that nothing of it is rung
    huge = World()
    huge.submit(300)
    dispatcher.tick()
    huge.start([(row["completion_id"], row["fence"]) for row in leases()])
    few = len(leases()) // 4
    # when: another comes with a few rows
    small = World()
    small.submit(few)
    dispatcher.tick()
    # then: they go past what is rung next, in one message
    (message,) = _messages_on(FIRST_QUEUE)
    assert len(message.args[1]) == few
    lanes = {row["lane_id"]: row["tenant_id"] for row in leases()}
    assert {lanes[lane] for lane in _lanes_on(FIRST_QUEUE)} == {small.principal.tenant_id}


def test_a_tenant_alone_stands_in_line(dispatcher: Dispatcher) -> None:
    World().submit(3)
    dispatcher.tick()
    assert len(_lanes_on(QUEUE)) == 1
    assert _lanes_on(FIRST_QUEUE) == set()


def test_a_batch_whose_first_row_is_too_dear_is_paused(dispatcher: Dispatcher) -> None:
    batch_id = World().submit(3, max_cost_usd=Decimal("0.000001"))
    dispatcher.tick()
    batch = batch_row(batch_id)
    assert (batch["status"], batch["status_reason"], leases()) == ("paused", "cost_limit", [])


def test_a_batch_is_not_paused_while_rows_in_flight_hold_money_that_may_come_back(dispatcher: Dispatcher) -> None:
    # given: a batch with room for the rows of one model, or of the other
    world = World()
    rows = [
        {"custom_id": f"{model}-{n}", "model": model, "messages": PROMPT, "max_tokens": 100}
        for model in ("gpt-4o-mini", "claude-sonnet-4-5")
        for n in range(2)
    ]
    batch_id = ingest.submit(world.principal, rows, BatchOptions(max_cost_usd=Decimal("0.0017")))
    dispatcher.tick()
    first = world.start([(row["completion_id"], row["fence"]) for row in leases()])
    assert 0 < len(first) < 4
    # when: nothing more finds room
    execute("UPDATE lease SET due_at = now() + interval '1 hour', rung_at = NULL, call_started_at = NULL")
    dispatcher.tick()
    # then: it waits for what they cost
    assert batch_row(batch_id)["status"] == "processing"
    # and goes on when that was less
    execute("UPDATE lease SET due_at = NULL, rung_at = now(), call_started_at = now()")
    record([succeeded(row, cost="0.00001") for row in first])
    dispatcher.tick()
    assert batch_row(batch_id)["status"] == "processing"
    assert leases()


def test_rows_of_a_removed_provider_are_dispatched_to_their_failure(dispatcher: Dispatcher) -> None:
    world = World()
    batch_id = world.submit(3)
    execute("DELETE FROM connection WHERE id = %s", (world.connections["openai"],))
    dispatcher.tick()
    assert len(leases()) == 3
    assert batch_row(batch_id)["status"] == "processing"


@pytest.mark.parametrize("what", ["fresh", "due"])
def test_a_lane_that_cannot_be_claimed_does_not_hold_up_the_others(
    dispatcher: Dispatcher, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    # given: the oldest lane of all, of which the database takes no claim, another of its tenant's, and another tenant's
    bad = World()
    bad.submit(2)
    if what == "due":
        bad.run()
        execute("UPDATE lease SET due_at = now(), rung_at = NULL, call_started_at = NULL, worker_id = NULL")
    execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$no$$; END'")
    (lane,) = _lane_ids()
    execute(
        "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON lease FOR EACH ROW"
        f" WHEN (NEW.lane_id = {lane}) EXECUTE FUNCTION refuse()"
    )
    bad.submit(2, model="claude-sonnet-4-5")
    good = World()
    good.submit(2)
    counted = TASK_FAILURES.labels("dispatch")._value
    failed_before = counted.get()
    # when
    dispatcher.tick()
    dispatcher.tick()
    # then
    rung = [row["lane_id"] for row in leases() if row["rung_at"]]
    assert sorted(rung) == sorted([*_lane_ids() - {lane}] * 2)
    # and it is said once, not fifty times a second
    assert counted.get() == failed_before + 1
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        f"lane {lane} failed, and is set aside for 1 s"
    ]


def test_a_lane_that_can_be_claimed_again_goes_on_with_its_whole_limit(dispatcher: Dispatcher) -> None:
    # given: a lane of a connection that allows one request a minute, which could not be claimed
    world = World()
    world.submit(1)
    execute("UPDATE connection SET requests_per_minute = 1")
    execute("ALTER TABLE lease ADD CONSTRAINT none CHECK (false)")
    dispatcher.tick()
    assert dispatcher._aside.waits(next(iter(_lane_ids())))
    # when: that has passed
    execute("ALTER TABLE lease DROP CONSTRAINT none")
    dispatcher._aside._until.clear()
    limits.flush()
    dispatcher.tick()
    # then: the one request was not used up by it
    assert len(leases()) == 1


def _lane_ids() -> set[int]:
    with db.connection() as connection:
        return {row["id"] for row in connection.execute("SELECT id FROM lane")}


def _lanes_on(queue: str) -> set[int]:
    """The lanes of the rows whose doorbells wait on a queue."""
    return {row[0] >> BLOCK_BITS for message in _messages_on(queue) for row in message.args[1]}


def _messages_on(queue: str) -> list[dramatiq.Message]:
    broker = dramatiq.get_broker()
    messages = broker.client.hvals(f"llm:{queue}.msgs")  # type: ignore[attr-defined]
    return [dramatiq.Message.decode(message) for message in messages]
