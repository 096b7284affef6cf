"""Any order of gathering, steps, deaths, lost answers, stops and hand-backs: no row is lost or ended twice.

Hypothesis plays scheduler, workers, provider and the batches' owner against a real database. Workers die inside calls
to the provider, before they had an effect or after; any doorbell can be followed again.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from decimal import Decimal
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
from core.dispatch import rescue, sweep, workers
from core.dispatch.record import Again, record
from core.dispatch.start import Started
from core.errors import Conflict
from core.ids import BLOCK_BITS
from core.native import fallback, handback, intake, plan
from core.native.states import CancelReason
from core.providers.types import Failure
from core.states import FailureReason
from tests.core.dispatch.test_state_machine import TABLES
from tests.core.dispatch.world import check_counters, execute, failed, leases, succeeded
from tests.core.native.fake import Made, Provider, gone, lost, stand_in
from tests.core.native.world import NativeWorld, all_shards, holder_dies, make_due, take_step, time_passes

MAX_BATCHES = 3
CALLS = ("upload", "create", "get", "cancel", "results")

pick = st.integers(0, 63)


class Killed(BaseException):
    """The worker is no more."""


class WayOfAShard(RuleBasedStateMachine):
    """The state of the database is the system's; here is what the world outside remembers."""

    provider: Provider

    @initialize(uploads=st.booleans())
    def empty(self, uploads: bool) -> None:
        with db.connection() as connection:
            for table in ("native_shard", *TABLES):
                connection.execute(f"DELETE FROM {table}")
        self.provider.__init__(uploads=uploads)  # type: ignore[misc]
        self.world = NativeWorld()
        self.batches: list[UUID] = []
        self.doorbells: list[tuple[UUID, int]] = []
        self.calls: list[Started] = []
        self.foreign: list[Made] = []
        self.ends: dict[int, str] = {}
        #: the provider once said that it did not know a batch that it had
        self.lied = False
        self.submit(4, True, False)
        plan.form_shards()

    # What its owner does.

    @precondition(lambda self: len(self.batches) < MAX_BATCHES)
    @rule(count=st.integers(1, 5), auto=st.booleans(), limited=st.booleans())
    def submit(self, count: int, auto: bool, limited: bool) -> None:
        limit = Decimal("0.0001") * count if limited else None
        self.batches.append(self.world.submit_native(count, max_cost_usd=limit))
        if auto:
            execute("UPDATE batch SET processing = 'auto' WHERE id = %s", (self.batches[-1],))

    @rule(which=pick, action=st.sampled_from([control.cancel, control.pause, control.resume, control.resume]))
    def control(self, which: int, action: Any) -> None:
        with suppress(Conflict):
            action(self.world.principal, self.batches[which % len(self.batches)])

    @rule(which=pick)
    def window_closes(self, which: int) -> None:
        execute("UPDATE batch SET expires_at = now() WHERE id = %s", (self.batches[which % len(self.batches)],))
        sweep.expire_batches()

    # What the scheduler does.

    @rule()
    def gather(self) -> None:
        plan.form_shards()

    @rule()
    def take_back(self) -> None:
        execute(
            "UPDATE native_shard SET cancel_reason = %s, cancel_asked_at = now(), due_at = now() FROM batch"
            " WHERE batch.id = batch_id AND cancel_reason IS NULL AND state IN ('waiting', 'sent')"
            " AND batch.processing = 'auto' AND batch.status IN ('pending', 'processing')",
            (CancelReason.WINDOW,),
        )

    @rule()
    def look_after_stops(self) -> None:
        fallback.stop_shards()
        fallback.give_up_waiting()
        sweep.stopped_batches()

    @rule()
    def hand_back(self) -> None:
        handback.hand_back()

    @rule(seconds=st.sampled_from([60.0, 7200.0]))
    def time_passes(self, seconds: float) -> None:
        make_due()
        time_passes(seconds)
        execute("UPDATE lease SET due_at = now() WHERE due_at > now()")

    @rule()
    def ring(self) -> None:
        self.doorbells += self.world.claim_shards()

    # What workers do.

    @rule()
    def step(self) -> None:
        before = len(self.doorbells)
        self.ring()
        for doorbell in self.doorbells[before:]:
            self._follow(doorbell)

    @precondition(lambda self: self.doorbells)
    @rule(which=pick)
    def follow_late(self, which: int) -> None:
        self._follow(self.doorbells[-1 - which % len(self.doorbells)])

    @rule(call=st.sampled_from(CALLS), done=st.booleans(), how=st.sampled_from(["killed", "killed", "lost", "gone"]))
    def step_goes_wrong(self, call: str, done: bool, how: str) -> None:
        problem: BaseException = {"killed": Killed(), "lost": lost(), "gone": gone()}[how]
        (self.provider.after if done and how != "gone" else self.provider.before)[call] = problem
        self.step()
        self.provider.before.clear()
        self.provider.after.clear()
        self.lied |= how == "gone"

    @rule(call=st.sampled_from(["upload", "create", "results"]), killed=st.booleans())
    def an_answer_is_lost_and_time_passes(self, call: str, killed: bool) -> None:
        self.step_goes_wrong(call, True, "killed" if killed else "lost")
        for _ in range(2):
            self.time_passes(60.0)
            self.step()

    def _follow(self, doorbell: tuple[UUID, int]) -> None:
        try:
            take_step(*doorbell)
        except Killed:
            holder_dies()

    @rule()
    def rows_run_in_real_time(self) -> None:
        self.calls += self.world.run(3)

    @precondition(lambda self: self.calls)
    @rule(which=pick, outcome=st.sampled_from(["succeeds", "fails", "again"]))
    def a_call_ends(self, which: int, outcome: str) -> None:
        row = self.calls[-1 - which % len(self.calls)]
        if outcome == "again":
            record([], [Again(id=row.id, fence=row.fence, delay_seconds=0.0, attempts=1, strike=True)])
        else:
            record([succeeded(row, cost="0.000001") if outcome == "succeeds" else failed(row)])

    @rule()
    def worker_dies(self) -> None:
        execute("UPDATE worker SET lease_expires_at = now() - interval '1 second', draining = true")
        rescue.dead_workers()
        self.world.worker_id = workers.register(100)

    # What the provider does.

    @precondition(lambda self: self.provider.working)
    @rule(which=pick, share=st.sampled_from([0.0, 0.5, 1.0, 1.0]), twice=st.booleans())
    def batch_ends(self, which: int, share: float, twice: bool) -> None:
        made = self.provider.working[which % len(self.provider.working)]
        self.provider.end(made, share=share)
        if twice:
            made.copies = dict.fromkeys(made.row_ids, 2)

    @precondition(lambda self: self.provider.working)
    @rule(which=pick, crowded=st.booleans())
    def batch_is_refused(self, which: int, crowded: bool) -> None:
        made = self.provider.working[which % len(self.provider.working)]
        reason = FailureReason.RATE_LIMITED if crowded else FailureReason.INVALID_REQUEST
        if made not in self.foreign:
            self.provider.refuse(made, Failure(reason=reason, message="token_limit_exceeded"))

    @rule(size=st.integers(1, 5))
    def somebody_else_makes_a_batch(self, size: int) -> None:
        self.foreign.append(self.provider.make([-1 - n for n in range(size)], tag="theirs"))

    # What must hold.

    @invariant()
    def everything_adds_up(self) -> None:
        with db.connection() as connection:
            rows = connection.execute(_ROWS).fetchall()
            batches = connection.execute(_BATCHES).fetchall()
        shards = all_shards()
        for row in rows:
            if row["status"] != "pending":
                assert self.ends.setdefault(row["id"], row["status"]) == row["status"], "an outcome was overwritten"
            assert row["answers"] == (row["status"] == "succeeded"), row
            own = [shard for shard in shards if _holds(shard, row)]
            if row["status"] == "pending" and not row["leased"] and row["n"] < row["next_n"]:
                assert [shard["state"] for shard in own] in (["waiting"], ["sent"], ["taken_in"]), (row, own)
        for shard in shards:
            members = [row for row in rows if _holds(shard, row) and row["status"] == "pending" and not row["leased"]]
            assert shard["remaining"] == len(members), (shard, members)
            assert shard["reserved_usd"] >= 0, shard
            assert shard["remaining"] or not shard["reserved_usd"], shard
        for batch in batches:
            own_rows = [row for row in rows if row["batch_id"] == batch["id"]]
            counted = Counter(row["status"] for row in own_rows)
            for status in ("succeeded", "failed", "cancelled", "expired"):
                assert batch[status] == counted[status], (status, batch, counted)
            assert batch["cost_usd"] == sum(row["cost_usd"] or 0 for row in own_rows)
            assert batch["ended"] == (counted["pending"] == 0), (batch, counted)
            assert batch["dispatched"] == batch["moved"], batch
            assert batch["reserved_usd"] == batch["held"], batch
            if batch["max_cost_usd"] is not None:
                assert batch["cost_usd"] + batch["reserved_usd"] <= batch["max_cost_usd"], batch

    @invariant()
    def what_is_somebody_elses_is_left_alone(self) -> None:
        for made in self.foreign:
            assert self.provider.batches.get(made.batch.remote_id) is made, "deleted"
            assert made.batch.status != "cancelling", "cancelled"

    @invariant()
    def no_row_is_at_the_provider_twice(self) -> None:
        if self.provider.uploads:
            at_work = Counter(row_id for made in self.provider.working for row_id in made.row_ids if row_id >= 0)
            assert all(count == 1 for count in at_work.values()), at_work

    def teardown(self) -> None:
        """Once nothing more goes wrong, every batch ends and nothing is left."""
        if not hasattr(self, "batches"):
            return
        self.provider.before.clear()
        self.provider.after.clear()
        for batch_id in self.batches:
            with suppress(Conflict):
                control.resume(self.world.principal, batch_id, max_cost_usd=Decimal(100))
        self.worker_dies()
        holder_dies()
        for _ in range(40):
            self.time_passes(7200.0)
            plan.form_shards()
            self.look_after_stops()
            self.step()
            for made in self.provider.working:
                self.provider.end(made)
            handback.hand_back()
            record([succeeded(row, cost="0.000001") for row in self.world.run()])
            if not leases() and all(shard["state"] == "cleaned" for shard in all_shards()) and self._all_ended():
                break
        self.everything_adds_up()
        assert not leases()
        assert [shard for shard in all_shards() if shard["state"] != "cleaned"] == []
        ours = {shard["id"].hex for shard in all_shards()}
        # One that was turned down holds nothing.
        left = [
            made
            for made in self.provider.batches.values()
            if (made.batch.tag or "")[:32] in ours and made.batch.status != "failed"
        ]
        assert self.lied or not left, left
        for batch_id in self.batches:
            check_counters(batch_id)

    def _all_ended(self) -> bool:
        with db.connection() as connection:
            return connection.execute("SELECT 1 FROM batch WHERE ended_at IS NULL").fetchone() is None


def _holds(shard: dict[str, Any], row: dict[str, Any]) -> bool:
    return bool(shard["lane_id"] == row["lane_id"] and 0 <= row["n"] - shard["first_n"] < shard["rows"])


_ROWS = f"""
SELECT c.id, c.batch_id, c.status, c.cost_usd, lane.id AS lane_id, lane.next_n, c.id - (lane.id << {BLOCK_BITS}) AS n,
       EXISTS (SELECT FROM lease WHERE lease.completion_id = c.id) AS leased,
       EXISTS (SELECT FROM completion_response r WHERE r.completion_id = c.id) AS answers
FROM completion c JOIN lane ON lane.id = c.id >> {BLOCK_BITS}
"""

_BATCHES = """
SELECT batch.id, ended_at IS NOT NULL AS ended, dispatched, cost_usd, reserved_usd, max_cost_usd, succeeded, failed,
       cancelled, expired, (SELECT sum(next_n) FROM lane WHERE lane.batch_id = batch.id) AS moved,
       (SELECT coalesce(sum(reserved_usd), 0) FROM lease WHERE lease.batch_id = batch.id)
       + (SELECT coalesce(sum(reserved_usd), 0) FROM native_shard shard WHERE shard.batch_id = batch.id) AS held
FROM batch
"""


@pytest.mark.usefixtures("database_url")
def test_any_order_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CANCEL_WAIT_SECONDS", 0.0)
    # Results are written in more than one piece.
    monkeypatch.setattr(intake, "CHUNK_ROWS", 2)
    provider = Provider()
    stand_in(monkeypatch, provider)
    machine = type("Machine", (WayOfAShard,), {"provider": provider})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=35,
            deadline=None,
            derandomize=True,
            # A failure is shown as it was found: to shrink it would take minutes.
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        ),
    )
