"""After a gap in which the database did not answer, nobody is judged by heartbeats that could not arrive."""

from __future__ import annotations

import time
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from core.dispatch import rescue
from core.native import fallback, handback, holds, plan
from scheduler import tasks
from scheduler.contact import GAP_SECONDS, Contact
from scheduler.native import Native

LEASE = 15.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_gap_counts_from_its_end() -> None:
    clock = Clock()
    contact = Contact(clock)
    assert not contact.steady_for(LEASE)
    # a process that is new knows of no gap
    contact.heard()
    assert contact.steady_for(LEASE)
    # not yet heard again after a silence, and then heard
    clock.now += GAP_SECONDS + 1
    assert not contact.steady_for(LEASE)
    contact.heard()
    assert not contact.steady_for(LEASE)
    # steady from then on
    while clock.now < 1000 + GAP_SECONDS + 1 + LEASE:
        assert not contact.steady_for(LEASE)
        clock.now += 1
        contact.heard()
    assert contact.steady_for(LEASE)


@pytest.mark.parametrize(("steady", "asked"), [(True, ["workers", "calls"]), (False, [])])
def test_the_rescue_judges_no_worker_and_no_call_after_a_gap(
    monkeypatch: pytest.MonkeyPatch, steady: bool, asked: list[str]
) -> None:
    judged: list[str] = []
    monkeypatch.setattr(rescue, "dead_workers", lambda: judged.append("workers") or 0)
    monkeypatch.setattr(rescue, "overdue_calls", lambda: judged.append("calls") or 0)
    monkeypatch.setattr(rescue, "missed_doorbells", list)
    monkeypatch.setattr(tasks.budgets, "reconcile", lambda connection: 0)
    monkeypatch.setattr(tasks.db, "connection", nullcontext)
    contact: Any = SimpleNamespace(steady_for=lambda seconds: steady)
    task = tasks.Rescue(SimpleNamespace(), contact)  # type: ignore[arg-type]
    # a process that is new knows nothing of a gap that has just ended
    assert task._overdue_at > time.monotonic()
    task._overdue_at = 0.0
    task.tick()
    assert judged == asked


@pytest.mark.parametrize("steady", [True, False])
def test_no_shard_is_judged_after_a_gap(monkeypatch: pytest.MonkeyPatch, steady: bool) -> None:
    judged: list[bool] = []
    for module, name in ((fallback, "stop_shards"), (fallback, "take_back"), (fallback, "give_up_waiting")):
        monkeypatch.setattr(module, name, lambda: 0)
    monkeypatch.setattr(plan, "form_shards", lambda: 0)
    monkeypatch.setattr(handback, "hand_back", lambda: 0)
    monkeypatch.setattr(holds, "claim_due", lambda *, judging: judged.append(judging) or [])
    contact: Any = SimpleNamespace(steady_for=lambda seconds: steady and seconds >= LEASE)
    Native(SimpleNamespace(), contact).tick()  # type: ignore[arg-type]
    assert judged == [steady]
