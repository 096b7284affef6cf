"""After a gap in which the database did not answer, nobody is judged by heartbeats that could not arrive."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from core.dispatch import rescue
from scheduler import tasks
from scheduler.contact import GAP_SECONDS, Contact

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


@pytest.mark.parametrize(("steady", "asked"), [(True, 1), (False, 0)])
def test_the_rescue_judges_no_worker_after_a_gap(monkeypatch: pytest.MonkeyPatch, steady: bool, asked: int) -> None:
    judged: list[int] = []
    monkeypatch.setattr(rescue, "dead_workers", lambda: judged.append(1) or 0)
    monkeypatch.setattr(rescue, "overdue_calls", lambda: 0)
    monkeypatch.setattr(rescue, "missed_doorbells", list)
    monkeypatch.setattr(tasks.budgets, "reconcile", lambda connection: 0)
    contact: Any = SimpleNamespace(steady_for=lambda seconds: steady)
    task = tasks.Rescue(SimpleNamespace(), contact)  # type: ignore[arg-type]
    task._overdue_at = float("inf")
    task.tick()
    assert len(judged) == asked
