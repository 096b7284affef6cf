"""What the tests of native batches share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.egress import pool, resolve
from core.settings import settings


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Servers of this machine may be called."""
    monkeypatch.setenv("LLM_SERVICE_EGRESS_ALLOW", "127.0.0.0/8")
    settings.cache_clear()
    resolve.forget()
    yield
    pool.close_all()
    settings.cache_clear()
    resolve.forget()
