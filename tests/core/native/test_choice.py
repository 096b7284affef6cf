"""The rule of `processing: auto`, as a table."""

from __future__ import annotations

import pytest

from core import catalogue
from core.native.choice import CANCEL_SECONDS, USEFUL_SECONDS, choose, names_tier, obstacle_to
from core.states import Processing

DAY = 86400.0


def given(asked: str = "auto", **changes: object) -> Processing:
    facts = {"rows": 5000, "min_rows": 1000, "window_seconds": DAY, "realtime_seconds": 60.0} | changes
    return choose(Processing(asked), "gpt-4o-mini", **facts).processing  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "changes", "expected"),
    [
        ("auto", {}, "native"),
        ("auto", {"rows": 999}, "realtime"),
        ("auto", {"rows": 1000}, "native"),
        ("native", {"rows": 1}, "native"),
        ("realtime", {}, "realtime"),
        ("auto", {"window_seconds": 3600.0}, "realtime"),
        ("native", {"window_seconds": 3600.0}, "native"),
        ("auto", {"window_seconds": 7200.0}, "native"),
        # The fall-back would take longer than the window leaves.
        ("auto", {"realtime_seconds": 20 * 3600.0}, "realtime"),
        ("native", {"realtime_seconds": 20 * 3600.0}, "native"),
        ("auto", {"obstacle": "none to be had"}, "realtime"),
        ("native", {"obstacle": "none to be had"}, "realtime"),
    ],
)
def test_the_rule(asked, changes, expected):
    assert given(asked, **changes) == expected


def test_the_window_must_leave_the_provider_a_useful_time():
    just = USEFUL_SECONDS + CANCEL_SECONDS + 1.5 * 100
    assert given(window_seconds=just, realtime_seconds=100.0) == "native"
    assert given(window_seconds=just - 1, realtime_seconds=100.0) == "realtime"


def test_reasons_are_words_for_the_owner():
    few = choose(
        Processing.AUTO, "gpt-4o", rows=3, min_rows=1000, window_seconds=DAY, realtime_seconds=1.0, obstacle=None
    )
    assert "3 rows" in few.reason
    assert "1,000" in few.reason


@pytest.mark.parametrize(
    ("asked", "model", "provider", "tier", "obstacle"),
    [
        ("auto", "gpt-4o-mini", "openai", False, False),
        ("auto", "claude-sonnet-4-5", "anthropic", False, False),
        ("auto", "gpt-4o-mini", "openai", True, True),
        ("native", "gpt-4o-mini", "openai", True, True),
        ("auto", "llama-3", "openai_compatible", False, True),
        ("native", "llama-3", "openai_compatible", False, True),
        ("auto", "gpt-99-unheard-of", "openai", False, True),
        ("native", "gpt-99-unheard-of", "openai", False, False),
    ],
)
def test_obstacles(asked, model, provider, tier, obstacle):
    found = obstacle_to(Processing(asked), catalogue.find(model, provider), tier_of_its_own=tier)
    assert (found is not None) is obstacle


@pytest.mark.parametrize(("tier", "named"), [(None, False), ("auto", False), ("default", False), ("flex", True)])
def test_tiers(tier, named):
    assert names_tier({"service_tier": tier}) is named
