"""Steps of shards at a provider in memory: lost answers, workers taken for dead, batches of somebody else's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from core import db, loaded_connections
from core.aside import Aside
from core.dispatch.record import Ended
from core.errors import NotFound
from core.native import fallback, handback, holds, intake, plan, sending, shards
from core.native.drive import MAX_DEATHS
from core.native.sending import LOST, MAX_FAILURES
from core.providers.batches import RemoteBatch
from core.settings import settings
from core.states import Processing
from tests.core.dispatch.world import batch_row, check_counters, execute, leases, statuses
from tests.core.native.fake import FakeRemote, Provider, answer, gone, lost, stand_in
from tests.core.native.world import NativeWorld, all_shards, holder_dies, take_step, time_passes

#: After so long a batch whose answer was lost is made anew, in seconds.
PATIENCE = max(LOST * shards.pace(), holds.lease_seconds()) + 1

pytestmark = pytest.mark.usefixtures("database_url")


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    provider = Provider()
    stand_in(monkeypatch, provider)
    return provider


@pytest.fixture
def world() -> Iterator[NativeWorld]:
    return NativeWorld()


def test_a_doorbell_that_is_heard_twice_begins_one_step(world: NativeWorld, provider: Provider) -> None:
    world.submit_native()
    world.gather()
    ((shard_id, fence),) = world.claim_shards()
    # when: the second copy comes while the first one's step is under way, and a third after it
    provider.meanwhile["create"] = lambda: take_step(shard_id, fence)
    take_step(shard_id, fence)
    take_step(shard_id, fence)
    # then
    assert len(provider.batches) == 1
    assert provider.asked.count("upload") == 1
    assert provider.asked.count("get") == 0


def test_doorbells_that_nobody_follows_are_not_failures(world: NativeWorld, provider: Provider) -> None:
    world.submit_native()
    world.gather()
    for _ in range(MAX_FAILURES + 1):
        assert world.claim_shards()
        holder_dies()
    world.step()
    assert len(provider.batches) == 1


def test_a_shard_that_takes_its_workers_down_is_let_go(world: NativeWorld, provider: Provider) -> None:
    batch_id = world.submit_native()
    world.gather()
    for _ in range(MAX_FAILURES):
        ((shard_id, fence),) = world.claim_shards()
        assert holds.begin(shard_id, fence) is not None
        holder_dies()
    world.step()
    assert provider.batches == {}
    assert all_shards()[0]["handing_back"]
    assert batch_row(batch_id)["ended_at"] is None


def test_claims_that_could_not_be_rung_are_due_again_at_once(world: NativeWorld, provider: Provider) -> None:
    world.submit_native()
    world.gather()
    holds.unclaim(world.claim_shards(), after_seconds=0)
    assert len(holds.claim_due()) == 1


def test_a_worker_is_not_judged_for_the_time_the_database_stood_still(
    world: NativeWorld, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: a worker in the middle of a step, whose lease has run out, and a shard that nobody holds
    monkeypatch.setattr(settings(), "worker_lease_seconds", 0.0)
    world.submit_native()
    world.gather()
    ((held, fence),) = world.claim_shards()
    assert holds.begin(held, fence)
    execute("UPDATE native_shard SET lease_expires_at = now() - interval '1 second'")
    other = NativeWorld()
    other.submit_native()
    other.gather()
    # when: it is known that the database stood still
    first = holds.claim_due(judging=False)
    holds.unclaim(first, after_seconds=0)
    # or seen while asking
    with monkeypatch.context() as patch:
        patch.setattr(holds, "STALE_SECONDS", 0.0)
        second = holds.claim_due()
        holds.unclaim(second, after_seconds=0)
    # then
    assert [len(first), len(second)] == [1, 1]
    assert held not in {first[0][0], second[0][0]}
    assert [shard["deaths"] for shard in all_shards() if shard["id"] == held] == [0]
    assert held in {shard_id for shard_id, _ in holds.claim_due()}


def test_a_batch_whose_answer_was_lost_is_looked_for_after_the_answer_was_given_up(
    world: NativeWorld, provider: Provider
) -> None:
    # given: an answer that is given up long after it was asked for, to a batch that is not in the provider's list yet
    world.submit_native()
    world.gather()
    provider.before["create"] = lost()
    world.step()
    time_passes(3600)
    world.step()
    assert provider.asked.count("create") == 1
    # when: it appears
    shard = all_shards()[0]
    made = provider.make([1, 2, 3, 4], tag=f"{shard['id'].hex}-1")
    world.step()
    # then: it is ours, and no second one is made
    assert all_shards()[0]["remote_id"] == made.batch.remote_id
    assert len(provider.batches) == 1


def test_a_batch_that_was_never_made_is_made_in_the_end(world: NativeWorld, provider: Provider) -> None:
    world.submit_native()
    world.gather()
    provider.before["create"] = lost()
    world.step()
    world.step()
    time_passes(PATIENCE)
    world.step()
    assert len(provider.batches) == 1
    assert all_shards()[0]["state"] == "sent"


def test_a_second_batch_made_by_a_worker_taken_for_dead_is_cancelled(
    world: NativeWorld, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.submit_native()
    world.gather()
    ((shard_id, fence),) = world.claim_shards()

    def another_makes_it() -> None:
        holder_dies()
        world.step()
        time_passes(PATIENCE)
        world.step()
        time_passes(PATIENCE)
        world.step()

    provider.meanwhile["create"] = another_makes_it
    # (and the provider does not answer to the first try)
    provider.before["cancel"] = lost()
    monkeypatch.setattr(sending, "CANCEL_AGAIN", 0.0)
    take_step(shard_id, fence)
    assert len(provider.batches) == 2
    ours = all_shards()[0]["remote_id"]
    assert [made.batch.remote_id for made in provider.working if made.batch.status == "in_progress"] == [ours]


@pytest.mark.parametrize("uploads", [True, False])
@pytest.mark.parametrize("patient", [True, False])
def test_a_batch_that_is_made_just_after_its_successors_look_does_not_run_beside_another(
    world: NativeWorld, provider: Provider, monkeypatch: pytest.MonkeyPatch, uploads: bool, patient: bool
) -> None:
    # given: a worker that waits for the answer to its create, and was taken for dead
    provider.uploads = uploads
    world.submit_native()
    world.gather()
    ((shard_id, fence),) = world.claim_shards()
    asked, answered, looked = threading.Event(), threading.Event(), threading.Event()
    provider.meanwhile["create"] = lambda: (asked.set(), answered.wait(30))
    slow = threading.Thread(target=take_step, args=(shard_id, fence))
    slow.start()
    assert asked.wait(30)
    holder_dies()
    if not patient:
        # its successor has looked in vain, and loses patience with its next look
        world.step()
        time_passes(PATIENCE)
    # when: the answer comes in the moment after that look
    find = FakeRemote.find

    def find_just_before(remote: FakeRemote, **sought: Any) -> list[RemoteBatch]:
        found = find(remote, **sought)
        if not looked.is_set():
            looked.set()
            answered.set()
            slow.join(30)
        return found

    monkeypatch.setattr(FakeRemote, "find", find_just_before)
    world.step()
    assert looked.is_set()
    # then: whatever its successor does next, one batch runs, and the shard knows it
    for _ in range(4):
        world.step()
        time_passes(PATIENCE)
    running = [made.batch.remote_id for made in provider.working if made.batch.status == "in_progress"]
    assert running == [all_shards()[0]["remote_id"]]
    assert all_shards()[0]["state"] == "sent"


def test_a_batch_that_may_be_somebody_elses_is_neither_cancelled_nor_deleted(
    world: NativeWorld, provider: Provider
) -> None:
    # given: a provider whose batches carry no tag, and a batch of as many rows that another program made in this moment
    provider.uploads = False
    batch_id = world.submit_native()
    world.gather()
    provider.before["create"] = lost()
    world.step()
    foreign = provider.make([-1, -2, -3, -4], created_at=datetime.now(UTC) + timedelta(seconds=1))
    world.step()
    assert all_shards()[0]["remote_id"] == foreign.batch.remote_id
    # when: ours is not wanted any more
    execute("UPDATE batch SET status = 'cancelled', status_reason = 'cancelled' WHERE id = %s", (batch_id,))
    fallback.stop_shards()
    world.step()
    assert "cancel" not in provider.asked
    # and: the other one ends
    provider.end(foreign)
    for _ in range(4):
        world.step()
        handback.hand_back()
    # then
    assert foreign.batch.remote_id in provider.batches
    assert all_shards()[0]["state"] == "cleaned"
    assert batch_row(batch_id)["ended_at"] is not None
    check_counters(batch_id)


def test_a_batch_found_again_by_its_size_is_ours_when_its_results_say_so(
    world: NativeWorld, provider: Provider
) -> None:
    provider.uploads = False
    batch_id = world.submit_native()
    world.gather()
    provider.after["create"] = lost()
    world.step()
    world.step()
    (made,) = provider.batches.values()
    provider.end(made)
    for _ in range(3):
        world.step()
    assert provider.batches == {}
    assert statuses(batch_id) == {"succeeded": 4}


def test_two_batches_of_one_size_are_never_in_doubt_together(world: NativeWorld, provider: Provider) -> None:
    provider.uploads = False
    world.submit_native()
    world.submit_native()
    world.gather()
    provider.before["create"] = lost()
    first, second = world.claim_shards()
    take_step(*first)
    take_step(*second)
    assert provider.asked.count("create") == 1
    # when: the first one's is found or made anew
    time_passes(PATIENCE)
    for _ in range(4):
        time_passes(PATIENCE)
        world.step()
    assert len(provider.batches) == 2


def test_a_provider_that_does_not_know_its_batch_for_a_moment_is_asked_again(
    world: NativeWorld, provider: Provider
) -> None:
    world.submit_native()
    world.gather()
    world.step()
    provider.before["get"] = gone()
    world.step()
    assert all_shards()[0]["state"] == "sent"
    # when: it is gone for good
    provider.batches.clear()
    for _ in range(3):
        world.step()
    assert all_shards()[0]["handing_back"]


def test_a_removed_provider_leaves_no_shard_going_round(
    world: NativeWorld, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = world.submit_native()
    world.gather()
    world.step()

    def removed(connection_id: object) -> None:
        raise NotFound("no such provider")

    monkeypatch.setattr(loaded_connections, "load", removed)
    execute("UPDATE batch SET status = 'cancelled', status_reason = 'cancelled' WHERE id = %s", (batch_id,))
    for _ in range(3):
        world.step()
        handback.hand_back()
    assert world.step() == 0
    assert all_shards()[0]["state"] == "cleaned"
    check_counters(batch_id)


@pytest.mark.parametrize("processing", [Processing.NATIVE, Processing.AUTO])
def test_rows_of_a_removed_provider_do_not_wait_for_their_window(
    world: NativeWorld, provider: Provider, monkeypatch: pytest.MonkeyPatch, processing: Processing
) -> None:
    # given: a shard that waits to be sent, and rows of another batch that no shard holds yet
    gathered = world.submit_native()
    world.gather()
    fresh = world.submit_native()
    execute("UPDATE batch SET processing = %s", (processing,))

    def removed(connection_id: object) -> None:
        raise NotFound("no such provider")

    # when
    execute("DELETE FROM connection WHERE tenant_id = %s", (world.principal.tenant_id,))
    monkeypatch.setattr(loaded_connections, "load", removed)
    for _ in range(3):
        fallback.take_back()
        world.gather()
        world.step()
        handback.hand_back()
    # then: those that no provider was asked for go to workers, which fail them
    waiting = {lease["batch_id"] for lease in leases()} | {row.batch_id for row in world.run()}
    if processing is Processing.NATIVE:
        assert statuses(gathered) == {"failed": 4}
        check_counters(gathered)
        assert waiting == {fresh}
    else:
        assert waiting == {gathered, fresh}


def test_a_shard_whose_rows_ended_before_it_was_sent_is_done(world: NativeWorld, provider: Provider) -> None:
    world.submit_native()
    world.gather()
    execute("UPDATE native_shard SET remaining = 0")
    execute("UPDATE completion SET status = 'failed', ended_at = now()")
    execute("UPDATE batch SET failed = total, status = 'failed', ended_at = now()")
    fallback.give_up_waiting()
    handback.hand_back()
    assert all_shards()[0]["state"] == "cleaned"


def test_results_that_take_their_workers_down_are_left(
    world: NativeWorld, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given results that have come in, of which one takes down whoever reads it
    batch_id = world.submit_native(3)
    world.gather()
    world.step()
    (made,) = provider.batches.values()
    provider.end(made)
    killed, honest, poison = [], intake.answered, made.row_ids[1]

    def answered(*arguments: Any, row_id: int, **options: Any) -> Ended:
        if row_id == poison:
            killed.append(poison)
            raise SystemExit
        return honest(*arguments, row_id=row_id, **options)

    monkeypatch.setattr(intake, "answered", answered)
    monkeypatch.setattr(intake, "CHUNK_ROWS", 1)
    # when worker after worker reads them
    for _ in range(10):
        try:
            world.step()
        except SystemExit:
            holder_dies()
    # then three did, and what they could not read is handed back
    assert len(killed) == MAX_DEATHS
    (shard,) = all_shards()
    assert shard["handing_back"]
    assert "died" in shard["last_error"]
    assert statuses(batch_id) == {"succeeded": 1, "pending": 2}


def test_rows_whose_outcome_is_unknown_are_not_repeated_where_the_project_says_so(provider: Provider) -> None:
    # given a batch at a provider that has been asked to stop and goes on
    world = NativeWorld(on_unknown_outcome="fail")
    batch_id = world.submit_native()
    world.gather()
    world.step()
    execute("UPDATE batch SET processing = 'auto'")
    execute(
        "UPDATE native_shard SET cancel_reason = 'window', cancel_sent_at = now(),"
        " cancel_asked_at = now() - interval '1 day'"
    )
    # when its time is up
    fallback.give_up_waiting()
    while handback.hand_back():
        pass
    # then its rows end, and none runs a second time
    assert statuses(batch_id) == {"failed": 4}
    with db.connection() as connection:
        reasons = connection.execute("SELECT DISTINCT error_type FROM completion").fetchall()
        assert connection.execute("SELECT count(*) AS n FROM lease").fetchone() == {"n": 0}
    assert [row["error_type"] for row in reasons] == ["outcome_unknown"]
    check_counters(batch_id)


def test_rows_of_a_provider_that_does_not_stop_are_repeated_otherwise(world: NativeWorld, provider: Provider) -> None:
    batch_id = world.submit_native()
    world.gather()
    world.step()
    execute("UPDATE batch SET processing = 'auto'")
    execute("UPDATE native_shard SET cancel_reason = 'window', cancel_asked_at = now() - interval '1 day'")
    fallback.give_up_waiting()
    handback.hand_back()
    assert statuses(batch_id) == {"pending": 4}
    with db.connection() as connection:
        assert connection.execute("SELECT count(*) AS n FROM lease").fetchone() == {"n": 4}


def test_an_answer_that_cannot_be_stored_does_not_keep_the_others(
    world: NativeWorld, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = world.submit_native(5)
    world.gather()
    world.step()
    (made,) = provider.batches.values()
    bad = made.row_ids[2]
    honest = intake.answered

    def answered(*arguments: Any, **options: Any) -> Ended:
        ended = honest(*arguments, **options)
        if ended.id == bad:
            ended.cost_usd = None
            ended.usage = answer(bad, output_tokens=1 << 40).outcome.usage  # type: ignore[union-attr]
        return ended

    monkeypatch.setattr(intake, "answered", answered)
    provider.end(made)
    world.step()
    assert statuses(batch_id) == {"succeeded": 4, "pending": 1}
    assert all_shards()[0]["handing_back"]
    check = all_shards()[0]
    assert (check["answered"], check["remaining"]) == (4, 1)


def test_a_lane_of_which_no_shard_can_be_formed_does_not_hold_up_the_others(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    # (other tests' lanes have the same ids)
    monkeypatch.setattr(plan, "_aside", Aside("native batches", "lane"))
    worlds = [NativeWorld(), NativeWorld()]
    for world in worlds:
        world.submit_native()
    _refuse_for(worlds[0], "native_shard", "INSERT")
    worlds[0].gather()
    assert [shard["tenant_id"] for shard in all_shards()] == [worlds[1].principal.tenant_id]


def test_a_shard_that_cannot_be_handed_back_does_not_hold_up_the_others(provider: Provider) -> None:
    # given: two shards that were never sent and are wanted back, of one of which no row can be run
    worlds = [NativeWorld(), NativeWorld()]
    for world in worlds:
        world.submit_native(processing=Processing.AUTO)
    execute("UPDATE lane SET processing = 'native'")
    worlds[0].gather()
    execute("UPDATE native_shard SET cancel_reason = 'window', cancel_asked_at = now()")
    assert fallback.give_up_waiting() == 2
    _refuse_for(worlds[0], "lease", "INSERT")
    # when
    while handback.hand_back():
        pass
    # then
    assert {row["tenant_id"] for row in leases()} == {worlds[1].principal.tenant_id}


def _refuse_for(world: NativeWorld, table: str, event: str) -> None:
    """Have the database refuse what is done to a table's rows of one tenant."""
    execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$no$$; END'")
    execute(
        f"CREATE TRIGGER refuse BEFORE {event} ON {table} FOR EACH ROW"
        f" WHEN (NEW.tenant_id = '{world.principal.tenant_id}') EXECUTE FUNCTION refuse()"
    )


def test_no_lock_is_waited_for_to_wake_other_shards(world: NativeWorld, provider: Provider) -> None:
    world.submit_native()
    world.submit_native()
    world.gather()
    first, second = world.claim_shards()
    held = holds.begin(*first)
    assert held is not None
    holds.unclaim([second], after_seconds=60)
    with db.connection() as other, db.connection() as connection:
        other.execute("SELECT FROM native_shard WHERE id = %s FOR UPDATE", (second[0],))
        connection.execute("SET LOCAL lock_timeout = '200ms'")
        try:
            shards.wake_waiting(connection, held)
        except psycopg.errors.LockNotAvailable:
            pytest.fail("waited for another shard's lock")


def test_a_provider_that_is_away_for_days_is_asked_on(world: NativeWorld, provider: Provider) -> None:
    # given: a shard at its provider, of which more looks have failed than twice as long each time could be counted for
    batch_id = world.submit_native()
    world.gather()
    world.step()
    execute("UPDATE native_shard SET failures = 1100")
    # when
    provider.before["get"] = lost()
    world.step()
    # then: its hold is given up, as after any failure, and it goes on when the provider is back
    assert [(shard["failures"], shard["lease_expires_at"]) for shard in all_shards()] == [(1101, None)]
    (made,) = provider.working
    provider.end(made)
    while batch_row(batch_id)["ended_at"] is None:
        assert world.step()
    assert statuses(batch_id) == {"succeeded": 4}
