"""Claim, start, record: each row runs and ends once, whatever arrives twice, late or out of order."""

import threading
from decimal import Decimal

import pytest

from core import db
from core.aside import Aside
from core.batches import control
from core.dispatch import pauses, rescue, sweep, workers
from core.dispatch.record import Again, record
from core.settings import settings
from core.states import FailureReason
from launcher.client import wait_until
from tests.core.dispatch.world import (
    World,
    batch_row,
    check_counters,
    execute,
    failed,
    finish,
    leases,
    statuses,
    succeeded,
)

pytestmark = pytest.mark.usefixtures("database_url")


def test_a_batch_runs_to_its_end() -> None:
    world = World()
    batch_id = world.submit(5, webhook_url="https://example.com/hook")
    rows = world.run()
    assert [row.body for row in rows][:1] == ['{"model":"gpt-4o-mini","messages":[{"role":"user","content":"2 + 2?"}]}']
    assert batch_row(batch_id)["status"] == "processing"
    record([succeeded(row) for row in rows[:4]] + [failed(rows[4])])
    batch = batch_row(batch_id)
    assert (batch["status"], batch["succeeded"], batch["failed"]) == ("completed", 4, 1)
    assert batch["cost_usd"] == Decimal("0.004")
    check_counters(batch_id)
    assert not leases()


def test_a_batch_of_which_no_row_succeeded_has_failed() -> None:
    world = World()
    batch_id = world.submit(2)
    record([failed(row) for row in world.run()])
    assert batch_row(batch_id)["status"] == "failed"


def test_a_doorbell_followed_twice_starts_once() -> None:
    world = World()
    world.submit(3)
    claimed = world.claim()
    assert len(world.start(claimed)) == 3
    assert world.start(claimed) == []


def test_a_doorbell_of_an_older_claim_starts_nothing() -> None:
    world = World()
    world.submit(1)
    claimed = world.claim()
    row = world.start(claimed)[0]
    record([], [Again(id=row.id, fence=row.fence, delay_seconds=0.0, attempts=1, strike=True)])
    newer = world.claim()
    assert newer == [(row.id, 2)]
    assert world.start(claimed) == []
    assert len(world.start(newer)) == 1


def test_an_answer_whose_model_has_a_name_that_no_text_can_hold_is_recorded() -> None:
    world = World()
    batch_id = world.submit(1)
    answer = succeeded(world.run()[0])
    answer.model = "gpt\0" + "x" * 10_000
    assert len(record([answer])) == 1
    check_counters(batch_id)


def test_an_outcome_recorded_twice_counts_once() -> None:
    world = World()
    batch_id = world.submit(2)
    rows = world.run()
    assert len(record([succeeded(rows[0])])) == 1
    assert record([succeeded(rows[0])]) == set()
    assert record([failed(rows[0])]) == set()
    check_counters(batch_id)
    assert batch_row(batch_id)["succeeded"] == 1


def test_a_late_answer_of_a_row_that_runs_again_is_taken_and_the_second_is_not() -> None:
    # given: a worker that was taken for dead in the middle of a call
    world = World()
    batch_id = world.submit(1)
    late = world.run()[0]
    execute("UPDATE worker SET lease_expires_at = now() - interval '1 s', draining = true")
    assert rescue.dead_workers() == 1
    execute("UPDATE lease SET due_at = now()")
    world.worker_id = workers.register(10)
    second = world.run()[0]
    assert second.fence > late.fence
    # when: it answers after all
    assert record([succeeded(late)]) == {late.id}
    # then: that counts, and the answer of the second call does not
    assert record([succeeded(second)]) == set()
    check_counters(batch_id)
    assert batch_row(batch_id)["cost_usd"] == Decimal("0.001")


def test_a_late_failure_of_a_row_that_runs_again_is_dropped() -> None:
    world = World()
    world.submit(1)
    late = world.run()[0]
    execute("UPDATE worker SET lease_expires_at = now() - interval '1 s', draining = true")
    rescue.dead_workers()
    assert record([failed(late)]) == set()
    record([], [Again(id=late.id, fence=late.fence, delay_seconds=3600, attempts=1, strike=True)])
    assert leases()[0]["strikes"] == 0


def test_a_worker_that_is_taken_for_dead_starts_nothing() -> None:
    world = World()
    world.submit(1)
    claimed = world.claim()
    execute("UPDATE worker SET lease_expires_at = now() - interval '1 s'")
    assert world.start(claimed) == []


def test_nothing_starts_after_a_cancel() -> None:
    world = World()
    batch_id = world.submit(10)
    claimed = world.claim(4)
    running = world.start(claimed[:2])
    control.cancel(world.principal, batch_id)
    assert world.start(claimed) == []
    assert world.claim() == []
    # then: what runs comes home, the rest is swept
    while sweep.stopped_batches():
        pass
    assert batch_row(batch_id)["ended_at"] is None
    finish(running)
    batch = batch_row(batch_id)
    assert (batch["status"], batch["succeeded"], batch["cancelled"]) == ("cancelled", 2, 8)
    check_counters(batch_id)
    assert not leases()


def test_a_row_that_started_while_it_was_being_swept_is_left_alone() -> None:
    world = World()
    batch_id = world.submit(2)
    claimed = world.claim()
    started = world.start(claimed[:1])
    execute("UPDATE batch SET status = 'cancelled', status_reason = 'cancelled'")
    sweep.stopped_batches()
    assert statuses(batch_id) == {"pending": 1, "cancelled": 1}
    finish(started)
    check_counters(batch_id)


def test_lost_doorbells_are_rung_again_under_the_same_fence() -> None:
    world = World()
    world.submit(3)
    claimed = world.claim()
    assert rescue.missed_doorbells() == []
    execute("UPDATE lease SET rung_at = now() - interval '10 s'")
    again = [tuple(row) for part in rescue.missed_doorbells() for row in part.rows]
    assert sorted(again) == sorted(claimed)
    assert rescue.missed_doorbells() == []
    assert len(world.start(claimed)) == 3


def test_doorbells_do_not_pile_up_while_no_worker_lives() -> None:
    world = World()
    world.submit(3)
    world.claim()
    execute("UPDATE lease SET rung_at = now() - interval '10 s'")
    execute("UPDATE worker SET lease_expires_at = now() - interval '1 s'")
    assert rescue.missed_doorbells() == []
    workers.register(10)
    assert len(rescue.missed_doorbells()) == 1


def test_a_row_that_takes_its_workers_down_ends_as_worker_crashed() -> None:
    world = World()
    batch_id = world.submit(1)
    for _ in range(rescue.MAX_CRASHES):
        world.worker_id = workers.register(10)
        execute("UPDATE lease SET due_at = now()")
        assert len(world.run()) == 1
        execute("UPDATE worker SET lease_expires_at = now() - interval '1 s', draining = true")
        rescue.dead_workers()
    assert batch_row(batch_id)["status"] == "failed"
    with_reason = statuses(batch_id)
    assert with_reason == {"failed": 1}
    check_counters(batch_id)


def test_a_row_that_was_not_in_hand_at_the_crash_before_is_not_blamed_for_the_next() -> None:
    world = World()
    world.submit(2)
    claimed = world.claim()
    world.start(claimed[:1])
    execute("UPDATE worker SET lease_expires_at = now() - interval '1 s', draining = true")
    rescue.dead_workers()
    # when: the suspect runs again, beside another row, and its worker dies again
    execute("UPDATE lease SET due_at = now() WHERE due_at IS NOT NULL")
    world.worker_id = workers.register(10)
    world.start(claimed[1:])
    world.run()
    execute("UPDATE worker SET lease_expires_at = now() - interval '1 s', draining = true")
    rescue.dead_workers()
    assert [lease["crashes"] for lease in leases()] == [2, 0]


def test_a_project_may_ask_not_to_repeat_calls_of_unknown_outcome() -> None:
    world = World(on_unknown_outcome="fail")
    batch_id = world.submit(3)
    claimed = world.claim()
    world.start(claimed[:1])
    execute("UPDATE worker SET lease_expires_at = now() - interval '1 s', draining = true")
    rescue.dead_workers()
    assert batch_row(batch_id)["failed"] == 1
    assert len(leases()) == 2


@pytest.mark.parametrize(("lease_seconds", "rescued"), [(1e6, 0), (0.0, 1)])
def test_leases_are_not_judged_for_the_time_the_database_was_down(
    monkeypatch: pytest.MonkeyPatch, lease_seconds: float, rescued: int
) -> None:
    # given: a heartbeat that stopped, and a database that has been up for less, or more, than a lease
    world = World()
    world.submit(1)
    world.run()
    execute("UPDATE worker SET lease_expires_at = now() - interval '1 s'")
    monkeypatch.setattr(settings(), "worker_lease_seconds", lease_seconds)
    assert rescue.dead_workers() == rescued


def test_a_worker_that_drains_is_not_judged_for_that_time_either_until_it_says_goodbye(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given: a worker that finishes its calls, and a database that has been up for less than a lease
    world = World()
    world.submit(1)
    world.run()
    workers.heartbeat(world.worker_id, 1, draining=True)
    execute("UPDATE worker SET lease_expires_at = now() - interval '1 s'")
    monkeypatch.setattr(settings(), "worker_lease_seconds", 1e6)
    assert rescue.dead_workers() == 0
    # when: it ends with a call left
    workers.retire(world.worker_id)
    # then
    assert rescue.dead_workers() == 1


def test_who_is_dead_is_not_believed_of_a_database_that_stood_still(monkeypatch: pytest.MonkeyPatch) -> None:
    # given: a heartbeat that stopped, and an answer that takes long
    world = World()
    world.submit(1)
    world.run()
    execute("UPDATE worker SET lease_expires_at = now() - interval '1 s', draining = true")
    monkeypatch.setattr(rescue, "STALE_SECONDS", 0.05)
    found: list[int] = []
    asking = threading.Thread(target=lambda: found.append(rescue.dead_workers()))
    with db.connection() as connection:
        connection.execute("LOCK TABLE worker")
        asking.start()
        wait_until(_somebody_has_waited_for_a_lock, 10)
    asking.join()
    # then: it counts when the answer comes at once
    monkeypatch.setattr(rescue, "STALE_SECONDS", 5.0)
    assert (found, rescue.dead_workers()) == ([0], 1)


@pytest.mark.parametrize("how", ["worker", "deadline"])
def test_a_row_that_cannot_be_given_up_does_not_keep_those_of_others_from_their_rescue(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    # given: two tenants' rows in the hands of one worker, of which the database does not let the first one's end
    monkeypatch.setattr(rescue, "_aside", Aside("rescue", "rows of tenant"))
    bad, good = World(on_unknown_outcome="fail"), World()
    bad_id = bad.submit(1)
    good.submit(1)
    good.run()
    execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$no$$; END'")
    execute(
        "CREATE TRIGGER refuse BEFORE UPDATE ON completion FOR EACH ROW"
        f" WHEN (NEW.batch_id = '{bad_id}') EXECUTE FUNCTION refuse()"
    )
    monkeypatch.setattr(settings(), "worker_lease_seconds", 0.0)
    if how == "worker":
        execute("UPDATE worker SET lease_expires_at = now() - interval '1 s', draining = true")
        rescued = rescue.dead_workers
    else:
        execute("UPDATE lease SET call_started_at = now() - interval '1 hour'")
        rescued = rescue.overdue_calls
    # when
    assert rescued() == 1
    # then: the other one's stays where it was, is set aside, and is not forgotten
    held = {row["tenant_id"]: row["worker_id"] for row in leases()}
    assert held == {bad.principal.tenant_id: good.worker_id, good.principal.tenant_id: None}
    assert rescued() == 0
    execute("DROP TRIGGER refuse ON completion")
    rescue._aside._until.clear()
    assert rescued() == 1
    assert statuses(bad_id) == {"failed": 1}
    assert {row["tenant_id"] for row in leases()} == {good.principal.tenant_id}


def _call_begun(seconds_ago: float) -> World:
    """A world with one call that began so long ago."""
    world = World()
    world.submit(1)
    world.run()
    execute(
        "UPDATE lease SET call_started_at = now() - make_interval(secs => %s) WHERE tenant_id = %s",
        (seconds_ago, world.principal.tenant_id),
    )
    return world


def test_a_call_that_outlived_its_deadline_is_run_again_and_a_younger_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deadline = settings().call_timeout_seconds + rescue.OVERDUE_GRACE_SECONDS
    _call_begun(deadline - 10)
    old = _call_begun(deadline + 10)
    monkeypatch.setattr(settings(), "worker_lease_seconds", 0.0)
    assert rescue.overdue_calls() == 1
    (again,) = [row for row in leases() if row["call_started_at"] is None]
    assert (again["tenant_id"], again["fence"], again["attempts"]) == (old.principal.tenant_id, 2, 1)


def test_no_call_is_overdue_for_the_time_the_database_was_down(monkeypatch: pytest.MonkeyPatch) -> None:
    _call_begun(1e6)
    monkeypatch.setattr(settings(), "worker_lease_seconds", 1e6)
    assert rescue.overdue_calls() == 0
    monkeypatch.setattr(settings(), "worker_lease_seconds", 0.0)
    assert rescue.overdue_calls() == 1


def test_which_calls_are_overdue_is_not_believed_of_a_database_that_stood_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _call_begun(1e6)
    monkeypatch.setattr(settings(), "worker_lease_seconds", 0.0)
    monkeypatch.setattr(rescue, "STALE_SECONDS", 0.05)
    found: list[int] = []
    asking = threading.Thread(target=lambda: found.append(rescue.overdue_calls()))
    with db.connection() as connection:
        connection.execute("LOCK TABLE lease")
        asking.start()
        wait_until(_somebody_has_waited_for_a_lock, 10)
    asking.join()
    monkeypatch.setattr(rescue, "STALE_SECONDS", 5.0)
    assert (found, rescue.overdue_calls()) == ([0], 1)


def test_rows_whose_start_was_committed_after_their_worker_was_taken_for_dead_are_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given: a start that waits for a lock for so long that its worker is taken for dead
    monkeypatch.setattr(settings(), "worker_lease_seconds", 0.0)
    monkeypatch.setattr(rescue, "STALE_SECONDS", 0.05)
    world = World()
    world.submit(1)
    workers.heartbeat(world.worker_id, 0, draining=False)
    execute("UPDATE worker SET lease_expires_at = now() + interval '1 hour'")
    claimed = world.claim()
    starting = threading.Thread(target=lambda: world.start(claimed))
    with db.connection() as connection:
        connection.execute("SELECT FROM lease FOR UPDATE")
        starting.start()
        wait_until(_somebody_has_waited_for_a_lock, 10)
        execute("UPDATE worker SET lease_expires_at = now() - interval '1 s', draining = true")
        monkeypatch.setattr(rescue, "STALE_SECONDS", 5.0)
        assert rescue.dead_workers() == 0
    starting.join()
    assert [row["call_started_at"] is not None for row in leases()] == [True]
    # then: it is not left to the deadline of calls
    assert rescue.overdue_calls() == 1
    assert [row["call_started_at"] for row in leases()] == [None]


def _somebody_has_waited_for_a_lock() -> bool:
    """For longer than the answer may take."""
    with db.connection() as connection:
        return bool(
            connection.execute(
                "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND clock_timestamp() - query_start > make_interval(secs => %s)",
                (2 * rescue.STALE_SECONDS,),
            ).fetchall()
        )


def test_a_closed_window_expires_what_has_not_started() -> None:
    world = World()
    batch_id = world.submit(5)
    running = world.start(world.claim(2)[:1])
    execute("UPDATE batch SET expires_at = now()")
    assert sweep.expire_batches() == 1
    while sweep.stopped_batches():
        pass
    finish(running)
    batch = batch_row(batch_id)
    assert (batch["status"], batch["succeeded"], batch["expired"]) == ("expired", 1, 4)
    check_counters(batch_id)


def test_a_stopped_batch_that_cannot_be_swept_does_not_hold_up_the_others() -> None:
    # given: two batches that were cancelled, and rows of the first that the database does not let end
    first, second = World(), World()
    batches = [first.submit(2), second.submit(2)]
    execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$no$$; END'")
    execute(
        "CREATE TRIGGER refuse BEFORE UPDATE ON completion FOR EACH ROW"
        f" WHEN (NEW.batch_id = '{batches[0]}') EXECUTE FUNCTION refuse()"
    )
    for world, batch_id in zip((first, second), batches, strict=True):
        control.cancel(world.principal, batch_id)
    # when
    while sweep.stopped_batches():
        pass
    # then
    assert [batch_row(batch_id)["ended_at"] is None for batch_id in batches] == [True, False]
    # and the first is not forgotten
    execute("DROP TRIGGER refuse ON completion")
    sweep._aside._until.clear()
    while sweep.stopped_batches():
        pass
    assert batch_row(batches[0])["ended_at"] is not None


def test_too_many_errors_stop_a_batch() -> None:
    world = World()
    batch_id = world.submit(100, max_error_rate=0.5)
    rows = world.run(40)
    record([failed(row) for row in rows[:15]] + [succeeded(row) for row in rows[15:20]])
    assert batch_row(batch_id)["status"] == "failed"
    assert world.claim() == []
    while sweep.stopped_batches():
        pass
    finish(rows[20:])
    check_counters(batch_id)
    assert batch_row(batch_id)["status_reason"] == FailureReason.ERROR_LIMIT


def test_reserved_cost_is_released_when_rows_end() -> None:
    world = World()
    batch_id = world.submit(4, max_cost_usd=Decimal("1"))
    rows = world.start(world.claim(reserved=Decimal("0.1")))
    assert batch_row(batch_id)["reserved_usd"] == Decimal("0.4")
    finish(rows[:1])
    assert batch_row(batch_id)["reserved_usd"] == Decimal("0.3")
    check_counters(batch_id)
    finish(rows[1:])
    assert batch_row(batch_id)["reserved_usd"] == 0


def test_pause_and_resume() -> None:
    world = World()
    batch_id = world.submit(4)
    claimed = world.claim(2)
    control.pause(world.principal, batch_id)
    assert world.claim() == []
    assert world.start(claimed) == []
    rescue.missed_doorbells()
    assert all(lease["due_at"] is not None for lease in leases())
    control.resume(world.principal, batch_id)
    finish(world.run())
    assert batch_row(batch_id)["status"] == "completed"
    check_counters(batch_id)


def test_retry_runs_the_failed_rows_again_as_a_linked_batch() -> None:
    world = World()
    batch_id = world.submit(4)
    rows = world.run()
    record([succeeded(row) for row in rows[:2]] + [failed(row) for row in rows[2:]])
    second = control.retry(world.principal, batch_id)
    assert batch_row(second)["retry_of"] == batch_id
    assert [row.body for row in world.run()] == [row.body for row in rows[2:]]


def test_a_retry_keeps_its_owners_options() -> None:
    world = World()
    options = {"max_cost_usd": Decimal("0.5"), "max_error_rate": 0.9, "prompt_caching": False, "priority": 3}
    batch_id = world.submit(2, window_seconds=7200, **options)
    record([failed(row) for row in world.run()])
    batch = batch_row(control.retry(world.principal, batch_id))
    assert {name: batch[name] for name in options} == options
    assert (batch["expires_at"] - batch["created_at"]).total_seconds() == 7200


def test_delete_removes_rows_and_bodies() -> None:
    world = World()
    batch_id = world.submit(2)
    finish(world.run())
    control.delete(world.principal, batch_id)
    with db.connection() as connection:
        for table in ("batch", "lane", "completion", "completion_request", "completion_response"):
            row = connection.execute(f"SELECT count(*) AS n FROM {table}").fetchone()
            assert row == {"n": 0}, table


def test_a_stopped_connection_pauses_its_batches_and_a_mended_one_resumes_them() -> None:
    world = World()
    batch_id = world.submit(2)
    other = world.submit(2, model="claude-sonnet-4-5")
    execute(
        "UPDATE connection SET state = 'stopped', stop_reason = 'authentication_failed', stop_message = 'Bad key.'"
        " WHERE provider_type = 'openai'"
    )
    assert pauses.pause_stopped_connections() == 1
    batch = batch_row(batch_id)
    assert (batch["status"], batch["status_reason"]) == ("paused", "authentication_failed")
    assert "the openai key stopped working: Bad key." in batch["status_message"]
    assert batch_row(other)["status"] == "pending"
    assert pauses.resume_mended_connections() == 0
    execute("UPDATE connection SET state = 'active'")
    assert pauses.resume_mended_connections() == 1
    finish(world.run())
    assert batch_row(batch_id)["status"] == "completed"
    check_counters(batch_id)
