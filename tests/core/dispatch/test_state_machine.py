"""Any order of claims, starts, outcomes, stops, deaths and lost doorbells: I1 to I3 hold after every step.

Hypothesis plays scheduler, workers and the batch's owner against a real database. Nothing that a worker was ever told
is forgotten: any doorbell can be followed again and any call can answer again, late, twice, or beside another in one
commit.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from core import db
from core.batches import control
from core.dispatch import pauses, rescue, sweep, workers
from core.dispatch.record import Again, Ended, record
from core.dispatch.start import Started
from core.errors import Conflict
from core.ids import BLOCK_BITS
from core.states import FailureReason
from tests.core.dispatch.world import World, batch_row, check_counters, execute, failed, leases, succeeded

MAX_BATCHES = 4
#: emptied between examples, referring tables first
TABLES = (
    "batch_error", "lease", "worker", "webhook_delivery", "completion_response", "completion_request", "completion",
    "lane", "batch",
)  # fmt: skip

#: which of the things at hand a rule takes: numbers that are taken modulo their count
picks = st.lists(st.integers(0, 63), min_size=1, max_size=4)
pick = st.integers(0, 63)
stops = st.sampled_from([control.cancel, control.pause])
outcomes = st.lists(
    st.tuples(pick, st.sampled_from(["succeeds", "fails", "again", "again later"])), min_size=1, max_size=4
)


class WayOfARow(RuleBasedStateMachine):
    """The state of the database is the system's; here is only what the world outside remembers."""

    @initialize()
    def empty(self) -> None:
        with db.connection() as connection:
            for table in TABLES:
                connection.execute(f"DELETE FROM {table}")
        self.world = World()
        self.workers = [self.world.worker_id, workers.register(100)]
        self.batches: list[UUID] = []
        self.doorbells: list[tuple[int, int]] = []
        self.calls: list[Started] = []
        self.started: set[tuple[int, int]] = set()
        #: how each row was first seen to have ended
        self.ends: dict[int, str] = {}
        self.submit(3, None, True)

    # What its owner does.

    @precondition(lambda self: len(self.batches) < MAX_BATCHES)
    @rule(count=st.integers(1, 4), max_error_rate=st.sampled_from([None, 0.5]), webhook=st.booleans())
    def submit(self, count: int, max_error_rate: float | None, webhook: bool) -> None:
        url = "https://example.com/hook" if webhook else None
        self.batches.append(self.world.submit(count, max_error_rate=max_error_rate, webhook_url=url))

    @precondition(lambda self: self.batches)
    @rule(which=pick, action=st.sampled_from([control.cancel, control.pause, control.resume, control.resume]))
    def control(self, which: int, action: Any) -> None:
        with suppress(Conflict):
            action(self.world.principal, self.batches[which % len(self.batches)])

    @precondition(lambda self: self.batches)
    @rule(which=pick)
    def window_closes(self, which: int) -> None:
        execute("UPDATE batch SET expires_at = now() WHERE id = %s", (self.batches[which % len(self.batches)],))
        sweep.expire_batches()

    @precondition(lambda self: self.batches)
    @rule()
    def key_stops_working(self) -> None:
        execute("UPDATE connection SET state = 'stopped', stop_reason = 'quota_exhausted', stop_message = 'No credit.'")
        pauses.pause_stopped_connections()

    # What the scheduler does.

    @precondition(lambda self: self.batches)
    @rule(count=st.integers(1, 3))
    def claim(self, count: int) -> None:
        self.doorbells += self.world.claim(count)

    @rule()
    def sweep(self) -> None:
        sweep.stopped_batches()

    @rule()
    def doorbells_are_missed(self) -> None:
        execute("UPDATE lease SET rung_at = now() - interval '1 hour' WHERE rung_at IS NOT NULL")
        self.doorbells += [row for part in rescue.missed_doorbells() for row in part.rows]

    @rule()
    def time_passes(self) -> None:
        execute("UPDATE lease SET due_at = now() WHERE due_at > now()")

    # What workers do.

    @precondition(lambda self: self.batches)
    @rule(count=st.integers(1, 3), worker=st.integers(0, 1))
    def claim_and_start(self, count: int, worker: int) -> None:
        before = len(self.doorbells)
        self.claim(count)
        self._follow(self.doorbells[before:], worker)
        # Each rings once more, at the other one.
        self._follow(self.doorbells[before:], 1 - worker)

    @precondition(lambda self: self.batches)
    @rule(which=pick, action=stops, worker=st.integers(0, 1))
    def claim_stop_and_start(self, which: int, action: Any, worker: int) -> None:
        before = len(self.doorbells)
        self.claim(3)
        self.control(which, action)
        self._follow(self.doorbells[before:], worker)

    @precondition(lambda self: self.calls)
    @rule(answers=st.booleans())
    def run_twice(self, answers: bool) -> None:
        """A call that is under way is taken back and made again by the other worker; then the first one ends."""
        held = {lease["completion_id"]: lease["worker_id"] for lease in leases()}
        at = next((n for n, row in enumerate(self.calls) if held.get(row.id) in self.workers), None)
        if at is None:
            return
        worker = self.workers.index(held[self.calls[at].id])
        self.worker_dies(worker)
        self.time_passes()
        self.claim_and_start(100, 1 - worker)
        for outcome in ("again", "fails", *(["succeeds"] if answers else [])):
            self.calls_end([(len(self.calls) - 1 - at, outcome)])

    @precondition(lambda self: self.doorbells)
    @rule(which=picks, worker=st.integers(0, 1))
    def follow_doorbells(self, which: list[int], worker: int) -> None:
        self._follow(sorted({self.doorbells[-1 - n % len(self.doorbells)] for n in which}), worker)

    def _follow(self, rows: list[tuple[int, int]], worker: int) -> None:
        for row in self.world.start(rows, self.workers[worker]):
            assert (row.id, row.fence) not in self.started, "a claim was started twice"
            self.started.add((row.id, row.fence))
            self.calls.append(row)
            assert self.ends.get(row.id) is None, "a row that has ended was started"
            assert self._status(row.batch_id) == "processing", "a row of a stopped batch was started"

    @precondition(lambda self: self.calls)
    @rule(found=outcomes)
    def calls_end(self, found: list[tuple[int, str]]) -> None:
        ended: list[Ended] = []
        again: list[Again] = []
        for n, outcome in found:
            row = self.calls[-1 - n % len(self.calls)]
            if outcome == "succeeds":
                ended.append(succeeded(row))
            elif outcome == "fails":
                ended.append(failed(row, FailureReason.INVALID_REQUEST))
            else:
                delay = 0.0 if outcome == "again" else 3600.0
                again.append(Again(id=row.id, fence=row.fence, delay_seconds=delay, attempts=1, strike=True))
        before = {row["completion_id"]: row for row in leases()}
        record(ended, again)
        self._check_stale({(row.id, row.fence) for row in (*ended, *again)}, {row.id for row in ended}, before)

    def _check_stale(self, told: set[tuple[int, int]], ended: set[int], before: dict[int, dict[str, Any]]) -> None:
        """A failure, and a wish to try again, of an earlier claim changes nothing; an answer of any claim counts."""
        after = {row["completion_id"]: row for row in leases()}
        for row_id in {row_id for row_id, _ in told} & before.keys():
            lease = before[row_id]
            if (row_id, lease["fence"]) in told:
                continue
            if row_id in after:
                assert after[row_id] == lease, "an earlier claim's outcome moved a row"
            else:
                assert row_id in ended
                assert self._row_status(row_id) == "succeeded", "an earlier claim's failure ended a row"

    @rule(worker=st.integers(0, 1))
    def worker_dies(self, worker: int) -> None:
        execute(
            "UPDATE worker SET lease_expires_at = now() - interval '1 second', draining = true WHERE id = %s",
            (self.workers[worker],),
        )
        rescue.dead_workers()
        dead, self.workers[worker] = self.workers[worker], workers.register(100)
        before = len(self.doorbells)
        self.claim(1)
        assert not self.world.start(self.doorbells[before:], dead), "a worker that is taken for dead started a row"

    # What must hold.

    @invariant()
    def everything_adds_up(self) -> None:
        with db.connection() as connection:
            rows = connection.execute(_ROWS).fetchall()
            batches = connection.execute(_BATCHES).fetchall()
        for row in rows:
            dispatched = row["id"] - (row["lane_id"] << BLOCK_BITS) < row["next_n"]
            assert row["leased"] == (row["status"] == "pending" and dispatched), row
            assert row["answers"] == (row["status"] == "succeeded"), row
            if row["status"] != "pending":
                assert self.ends.setdefault(row["id"], row["status"]) == row["status"], "an outcome was overwritten"
        for batch in batches:
            own = [row for row in rows if row["batch_id"] == batch["id"]]
            counted = Counter(row["status"] for row in own)
            for status in ("succeeded", "failed", "cancelled", "expired"):
                assert batch[status] == counted[status], (status, batch, counted)
            assert batch["cost_usd"] == sum(row["cost_usd"] or 0 for row in own)
            assert batch["ended"] == (counted["pending"] == 0), (batch, counted)
            assert batch["dispatched"] == batch["moved"], batch
            assert batch["announced"] == int(batch["ended"] and batch["wanted"]), batch

    def teardown(self) -> None:
        """Once nothing more goes wrong, every batch ends and no lease is left."""
        if not hasattr(self, "batches"):
            return
        self.worker_dies(0)
        self.worker_dies(1)
        # What a dead worker held waits for a key that stopped meanwhile, until its owner resumes.
        pauses.pause_stopped_connections()
        for batch_id in self.batches:
            if self._status(batch_id) == "paused":
                control.resume(self.world.principal, batch_id)
        self.world.worker_id = self.workers[0]
        for _ in range(3):
            self.time_passes()
            self.doorbells_are_missed()
            record([succeeded(row) for row in self.world.start({*self.doorbells, *self.world.claim()})])
            while sweep.stopped_batches():
                pass
        assert not leases()
        for batch_id in self.batches:
            check_counters(batch_id)
            assert self._status(batch_id) in ("completed", "failed", "cancelled", "expired")

    def _row_status(self, row_id: int) -> str:
        with db.connection() as connection:
            row = connection.execute("SELECT status FROM completion WHERE id = %s", (row_id,)).fetchone()
        assert row is not None
        return str(row["status"])

    def _status(self, batch_id: UUID) -> str:
        with db.connection() as connection:
            row = connection.execute("SELECT status FROM batch WHERE id = %s", (batch_id,)).fetchone()
        assert row is not None
        return str(row["status"])


_ROWS = """
SELECT c.id, c.batch_id, c.status, c.cost_usd, lane.id AS lane_id, lane.next_n,
       EXISTS (SELECT FROM lease WHERE lease.completion_id = c.id) AS leased,
       EXISTS (SELECT FROM completion_response r WHERE r.completion_id = c.id) AS answers
FROM completion c JOIN lane ON lane.id = c.id >> 24
"""

_BATCHES = """
SELECT batch.id, batch.ended_at IS NOT NULL AS ended, webhook_url IS NOT NULL AS wanted, dispatched, cost_usd,
       succeeded, failed, cancelled, expired,
       (SELECT sum(next_n) FROM lane WHERE lane.batch_id = batch.id) AS moved,
       (SELECT count(*) FROM webhook_delivery AS event
        WHERE event.batch_id = batch.id AND event_type <> 'batch.paused') AS announced
FROM batch
"""


@pytest.mark.usefixtures("database_url")
def test_any_order_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    # A cancel waits a moment for calls in flight; here nothing ends by itself.
    monkeypatch.setattr(control, "CANCEL_WAIT_SECONDS", 0.0)
    run_state_machine_as_test(
        WayOfARow,
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            # A failure is shown as it was found: to shrink it would take minutes.
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize("second", [succeeded, failed])
@pytest.mark.parametrize("first", [succeeded, failed])
def test_two_outcomes_of_one_row_in_one_commit_count_once(first: Any, second: Any) -> None:
    # given: a row that its first worker, taken for dead, still runs, and that was started again
    world = World()
    batch_id = world.submit(1)
    late = world.run()[0]
    execute("UPDATE worker SET lease_expires_at = now() - interval '1 s', draining = true")
    rescue.dead_workers()
    execute("UPDATE lease SET due_at = now()")
    world.worker_id = workers.register(10)
    newer = world.run()[0]
    # when: both calls end at the same moment
    assert record([first(late), second(newer)]) == {late.id}
    # then: it is one row, and an answer goes before a failure
    check_counters(batch_id)
    assert batch_row(batch_id)["succeeded"] == int(succeeded in (first, second))
