"""A project in the test's database, with a key-encryption key and loopback open for its receivers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core import crypto
from core.egress import resolve
from core.settings import settings
from tests.core.dispatch.world import World


@pytest.fixture
def world(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("LLM_SERVICE_KEK", crypto.new_kek_text().reveal())
    monkeypatch.setenv("LLM_SERVICE_EGRESS_ALLOW", "127.0.0.0/8")
    settings.cache_clear()
    resolve.forget()
    yield World()
    settings.cache_clear()
