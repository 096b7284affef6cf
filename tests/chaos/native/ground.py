"""The ground of native trials: small batches go native there, and shards move quickly."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.process import ChildProcess
from tests.chaos.ground import Ground

MIN_ROWS = 20
POLL_SECONDS = 0.2


class NativeGround(Ground):
    """A house for native trials. `bent`: process -> what of native batches is taken out of it (native/sabotage.py)."""

    def __init__(self, directory: Path, *, bent: Mapping[str, str] | None = None, **options: Any) -> None:
        self._bent = dict(bent or {})
        # Receivers that refuse and many API processes are tests/chaos's affair: what is waited for here are shards.
        plain: dict[str, Any] = {"receiver_answers": (), "api_processes": 1}
        super().__init__(directory, **(plain | options))
        self._extra |= {
            "LLM_SERVICE_NATIVE_MIN_ROWS": str(MIN_ROWS),
            "LLM_SERVICE_NATIVE_POLL_SECONDS": str(POLL_SECONDS),
        }

    def _dress(self, name: str, process: ChildProcess) -> None:
        super()._dress(name, process)
        if name in self._bent:
            role = "scheduler" if name.startswith("scheduler") else "worker"
            process.command = [sys.executable, "-m", "tests.chaos.native.sabotage", role, self._bent[name]]
