"""A tenant with native batches in the test's database, and shorthands for what scheduler and workers do with shards."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from core import db
from core.native import drive, holds, plan
from core.states import Processing
from tests.core.dispatch.world import World, execute

MODEL = "gpt-4o-mini"


class NativeWorld(World):
    """A world whose batches go native."""

    def submit_native(self, count: int = 4, *, model: str = MODEL, **options: Any) -> UUID:
        return self.submit(count, model=model, **({"processing": Processing.NATIVE} | options))

    def gather(self) -> None:
        while plan.form_shards():
            pass

    def claim_shards(self) -> list[tuple[UUID, int]]:
        """Doorbells of all shards that have something to do, whatever they wait for."""
        make_due()
        return holds.claim_due()

    def step(self) -> int:
        """One step of every shard; returns how many."""
        claimed = self.claim_shards()
        for shard_id, fence in claimed:
            take_step(shard_id, fence)
        return len(claimed)


def take_step(shard_id: UUID, fence: int) -> None:
    drive.drive(shard_id, fence, stopping=lambda: False)


def make_due() -> None:
    execute("UPDATE native_shard SET due_at = now() WHERE due_at > now()")


def holder_dies() -> None:
    """Whoever holds a shard is gone, and its lease has run out."""
    execute("UPDATE native_shard SET lease_expires_at = NULL")


def time_passes(seconds: float) -> None:
    """For what shards remember."""
    names = ("create_started_at", "create_lost_at", "cancel_asked_at", "sent_at", "formed_at")
    moved = ", ".join(f"{name} = {name} - make_interval(secs => %(s)s)" for name in names)
    with db.connection() as connection:
        connection.execute(f"UPDATE native_shard SET {moved}", {"s": seconds})


def all_shards() -> list[dict[str, Any]]:
    with db.connection() as connection:
        return connection.execute("SELECT * FROM native_shard ORDER BY first_n, formed_at").fetchall()
