"""Starts a simulator as a process of its own and speaks to it: for tests and benchmarks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from simulator.ledger import key_label

__all__ = ["SimulatorHandle", "key_label"]

#: a hundred thousand rows may fall due in one leap, on a machine that has other things to do
_ADVANCE_SECONDS = 600.0
_READY = "simulator listening on "
#: the control endpoint is on this machine: a proxy from the environment has no business there
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class SimulatorHandle:
    """A running `python -m simulator`. Use it as a context manager, or call stop().

    `options` become the configuration it starts with, e.g. SimulatorHandle(latency=1.0, faults=[...]). Raises
    RuntimeError if it does not start. `port` 0 takes a free one. `within` is a command that runs its arguments
    elsewhere, such as in a network namespace.
    """

    def __init__(self, *, port: int = 0, host: str = "127.0.0.1", within: Sequence[str] = (), **options: Any) -> None:
        command = [*within, sys.executable, "-m", "simulator", "--host", host, "--port", str(port)]
        if options:
            command += ["--config", json.dumps(options)]
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own module
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line.startswith(_READY):
            self.stop()
            raise RuntimeError(f"the simulator did not start (exit code {self._process.returncode}): {line!r}")
        #: http://host:port, the base URL of the Anthropic surface
        self.url = line.removeprefix(_READY)

    @property
    def openai_url(self) -> str:
        """The base URL of the OpenAI surface, with /v1."""
        return f"{self.url}/v1"

    @property
    def compatible_url(self) -> str:
        """The base URL of a server that takes any model and knows no quirks, with /v1."""
        return f"{self.url}/compatible/v1"

    @property
    def pid(self) -> int:
        return self._process.pid

    def config(self, **changes: Any) -> dict[str, Any]:
        """Replace the named top-level fields; the whole configuration is answered. Raises ValueError."""
        return self._ask("POST", "/_sim/config", changes) if changes else self._ask("GET", "/_sim/config")

    def reset(self, *, config: bool = True) -> None:
        """Empty the ledger, fill the buckets; with `config`, return to the configuration of the start."""
        self._ask("POST", "/_sim/reset", {"config": config})

    def ledger(self) -> dict[str, Any]:
        """The counters."""
        return self._ask("GET", "/_sim/ledger")

    def nonces(self) -> dict[str, dict[str, int]]:
        """nonce -> {calls, executed}, and {native_calls, native_executed} where native batches had a part in them."""
        return self._ask("GET", "/_sim/ledger/nonces")

    def calls(self) -> list[dict[str, Any]]:
        """One record per call."""
        return [json.loads(line) for line in self._text("GET", "/_sim/ledger/calls").splitlines()]

    def native(self) -> dict[str, Any]:
        """Every native batch and file there is, whoever's: {now, behind, batches, files}."""
        return self._ask("GET", "/_sim/native")

    def advance(self, seconds: float) -> float:
        """Let so many seconds pass for native batches, files and caches; the new time, when all have caught up."""
        body = {"seconds": seconds}
        return json.loads(self._text("POST", "/_sim/native/advance", body, timeout_seconds=_ADVANCE_SECONDS))["now"]

    def wait_for(self, condition: Callable[[dict[str, Any]], bool], timeout_seconds: float = 10.0) -> dict[str, Any]:
        """Poll the ledger until `condition` holds for it. Raises TimeoutError with the last one seen."""
        deadline = time.monotonic() + timeout_seconds
        while not condition(ledger := self.ledger()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout_seconds} s: {ledger}")
            time.sleep(0.01)
        return ledger

    def stop(self) -> None:
        """End the process; it is gone when this returns."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> SimulatorHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return json.loads(self._text(method, path, body))

    def _text(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout_seconds: float = 30.0
    ) -> str:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)  # noqa: S310 - our own address
        try:
            with _opener.open(request, timeout=timeout_seconds) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            raise ValueError(error.read().decode()) from None
