"""bin/up: from nothing to a working house, a second start, a process that is killed, a stop that leaves no process."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from launcher.client import Client, wait_until
from launcher.data_directory import read_exports
from launcher.ports import free_port
from launcher.services import ROOT

pytestmark = pytest.mark.e2e


class Up:
    """A running `bin/up` without its shell: the environment is there already."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        stores = ("DATABASE_URL", "REDIS_URL", "LLM_SERVICE_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(stores)}
        env |= {"PYTHONPATH": str(ROOT), **variables}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "launcher", *arguments],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._arrived: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for_line(self, text: str, timeout_seconds: float = 60) -> None:
        while True:
            try:
                line = self._arrived.get(timeout=timeout_seconds)
            except queue.Empty:
                line = None
            assert line is not None, f"no line with {text!r} in:\n{self.output}"
            if text in line:
                return

    def end(self, number: signal.Signals) -> int:
        """Send a signal; the exit status, after checking that no process is left."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        status = self.process.wait(30)
        left = [process for process in family if process.is_running()]
        assert left == [], self.output
        return status

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._arrived.put(line)
        self._arrived.put(None)


@pytest.fixture
def up() -> Iterator[Callable[..., Up]]:
    running: list[Up] = []

    def start(*arguments: str, **variables: str) -> Up:
        running.append(Up(*arguments, **variables))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.end(signal.SIGTERM)


def test_a_first_start_a_batch_a_stop_a_second_start_and_a_kill(up: Callable[..., Up], tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    options = ("--data", str(data), "--port", str(port), "--workers", "1")
    first = up(*options)
    first.wait_for_line(f"LLM Service is ready: http://127.0.0.1:{port}")

    assert requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
    exports = read_exports(data / "demo.env")
    assert exports["LLM_SERVICE_URL"] == f"http://127.0.0.1:{port}"
    for secret in ("demo.env", "kek", "admin-token", "operator.env"):
        assert (data / secret).stat().st_mode & 0o077 == 0
    command = [sys.executable, "-m", "app.manage", "tenant", "list", "--json"]
    env = os.environ | read_exports(data / "operator.env")
    listed = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, check=True)
    assert [tenant["id"] for tenant in json.loads(listed.stdout)] == [exports["LLM_SERVICE_TENANT_ID"]]
    client = Client(exports)
    rows = [
        {"custom_id": model, "model": model, "messages": [{"role": "user", "content": "hello"}]}
        for model in ("gpt-4o-mini", "claude-sonnet-4-5")
    ]
    batch = client.post("/v1/batch", {"requests": rows})
    assert batch.status_code == 201, batch.text
    assert client.wait_for_batch(batch.json()["id"])["request_counts"]["succeeded"] == 2
    client.session.close()
    kek = (data / "kek").read_text()
    assert first.end(signal.SIGINT) == 0

    second = up(*options, LLM_SERVICE_API_PROCESSES="1")
    second.wait_for_line("LLM Service is ready", 30)
    assert (data / "kek").read_text() == kek
    assert read_exports(data / "demo.env") == exports
    assert client.get(f"/v1/batch/{batch.json()['id']}").json()["status"] == "completed"
    client.session.close()

    refused = up(*options)
    assert refused.process.wait(20) == 1
    wait_until(lambda: "in use by another run" in refused.output, 5)
    assert len(refused.lines) == 1

    taken = up("--data", str(tmp_path / "other"), "--port", str(port))
    assert taken.process.wait(20) == 1
    wait_until(lambda: f"bin/up: port {port} is in use" in taken.output, 5)
    assert len(taken.lines) == 1

    for process in psutil.Process(second.process.pid).children():
        if "workers" in process.cmdline() or "app.wsgi:app" in process.cmdline():
            process.kill()
    second.wait_for_line("was ended by SIGKILL: starting it again")

    def answers() -> bool:
        try:
            return requests.get(f"{exports['LLM_SERVICE_URL']}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    wait_until(answers, 30, lambda: second.output)
    assert second.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("made_last", ["postgres/password", "kek", "metrics/*.db"])
def test_a_stop_while_it_starts_leaves_nothing(up: Callable[..., Up], tmp_path: Path, made_last: str) -> None:
    one = up("--data", str(tmp_path / "data"), "--port", str(free_port()), "--workers", "1")
    wait_until(lambda: any((tmp_path / "data").glob(made_last)), 30, lambda: one.output)
    assert one.end(signal.SIGTERM) == 0, one.output


def test_a_stop_before_anything_has_started_says_nothing(up: Callable[..., Up], tmp_path: Path) -> None:
    # given a package that takes its time to be imported
    (tmp_path / "psycopg.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    one = up("--data", str(tmp_path / "data"), PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    one.wait_for_line("importing")
    # when, then
    assert one.end(signal.SIGINT) == -signal.SIGINT
    assert one.lines == ["importing"]


def test_a_stop_while_a_python_is_looked_for_ends_the_script(tmp_path: Path) -> None:
    # given a Python that is interrupted while it starts, and calls that a failure of its own
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -INT $PPID\nexit 1\n")
    python.chmod(0o755)
    # when, then
    ended = subprocess.run(
        [ROOT / "bin" / "up", "--help"],
        env={**os.environ, "PYTHON": str(python)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (130, b"")


def test_a_store_that_does_not_answer_is_named(up: Callable[..., Up], tmp_path: Path) -> None:
    with socket.socket() as bound:
        # Bound but not listening: whoever connects is refused.
        bound.bind(("127.0.0.1", 0))
        url = f"postgresql://postgres@127.0.0.1:{bound.getsockname()[1]}/none"
        one = up("--data", str(tmp_path / "data"), "--port", str(free_port()), DATABASE_URL=url)
        assert one.process.wait(20) == 1
    wait_until(lambda: "bin/up: DATABASE_URL does not answer" in one.output, 5)
    assert len(one.lines) == 1
