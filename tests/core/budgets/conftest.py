"""A project in the test's database, without what a process remembers of budgets of other tests."""

from __future__ import annotations

import pytest

from tests.core.dispatch.world import World


@pytest.fixture
def world(database_url: str) -> World:
    return World()
