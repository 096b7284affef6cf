"""Counts what the vendors' packages send, and lets them wait for nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest


class Attempts:
    """The requests of a client that was made with `http`, and how long it would have waited between them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, client_class: Any) -> None:
        self.sent = 0
        self.waits: list[float] = []
        self.http = client_class(event_hooks={"request": [self._count]}, timeout=20)
        self._monkeypatch = monkeypatch

    def _count(self, request: Any) -> None:
        # The package says by itself which try it is.
        assert int(request.headers["x-stainless-retry-count"]) == self.sent
        self.sent += 1

    def hurry(self) -> None:
        """From now on the package waits in no time; so does everything else in this process."""
        self._monkeypatch.setattr(time, "sleep", self.waits.append)
