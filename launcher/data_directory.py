"""What one installation keeps on this machine: its data, its keys, and the lock that lets one run use it at a time."""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from launcher.private_file import write_private


class InUse(Exception):
    """Another run uses the data directory."""


class DataDirectory:
    """The directory given as --data.

    Parameters
    ----------
    path
        Made when missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.demo_file = self.path / "demo.env"
        self.operator_file = self.path / "operator.env"
        self.kek_file = self.path / "kek"
        self.metrics = self.path / "metrics"
        self._lock: int | None = None

    def lock(self) -> None:
        """Take the directory for this process until it ends, however it ends.

        Raises
        ------
        InUse
            Another process has it.
        OSError
            It cannot be made or written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode().strip()
            os.close(descriptor)
            raise InUse(f"the data directory {self.path} is in use by another run (process {holder})") from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._lock = descriptor

    def unlock(self) -> None:
        """Give the directory to others."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def ensure_kek(self) -> Path:
        """The file with the key-encryption key; made at first, never replaced: with it every stored key would go."""
        if not self.kek_file.exists():
            write_private(self.kek_file, f"1:{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
        return self.kek_file

    def ensure_admin_token(self) -> str:
        """The token that guards /v1/admin."""
        file = self.path / "admin-token"
        if not file.exists():
            write_private(file, secrets.token_urlsafe(32) + "\n")
        return file.read_text().strip()

    def write_operator(self, env: Mapping[str, str]) -> None:
        """What `python -m app.manage` needs to reach this installation, without what the caller's environment gave."""
        names = ("DATABASE_URL", "REDIS_URL", "LLM_SERVICE_KEK_FILE", "LLM_SERVICE_ADMIN_TOKEN")
        write_exports(self.operator_file, {name: env[name] for name in names if name in env and name not in os.environ})

    def empty_metrics(self) -> Path:
        """The directory that all processes count in; what earlier processes counted is gone."""
        shutil.rmtree(self.metrics, ignore_errors=True)
        self.metrics.mkdir()
        return self.metrics

    def read_demo(self) -> dict[str, str]:
        """The demo's names and values; empty before the first start."""
        if not self.demo_file.exists():
            return {}
        return read_exports(self.demo_file)


def read_exports(file: Path) -> dict[str, str]:
    """The `export NAME=value` lines of a shell file."""
    values = {}
    for line in file.read_text().splitlines():
        words = shlex.split(line, comments=True)
        if len(words) == 2 and words[0] == "export":
            name, _, value = words[1].partition("=")
            values[name] = value
    return values


def write_exports(file: Path, values: dict[str, str]) -> None:
    """Write shell exports that only their owner can read."""
    write_private(file, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items()))
