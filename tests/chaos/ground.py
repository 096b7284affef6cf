"""The ground of the trials: a house whose processes can be replaced by variants, and that tells what they held."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from launcher import services
from launcher.house import House
from launcher.postgres import Postgres
from launcher.process import ChildProcess
from scheduler.leader import LEADER_LOCK
from tests.chaos.disks import MIB, SmallDisk
from tests.chaos.wires import Wire
from tests.e2e.receiver import Receiver

#: Calls one worker holds: few, so that a batch of some hundred rows lasts long enough to be disturbed.
WORKER_CONCURRENCY = 60
#: A call is given up after this, so that silent and dripping providers fit into a trial.
CALL_TIMEOUT_SECONDS = 8
#: An answer that came this long before a kill may not have been committed.
UNCOMMITTED_SECONDS = 1.0
#: Room for what some dozen trials write, and for the write-ahead log between two checkpoints.
DATA_BYTES, WAL_BYTES = 400 * MIB, 320 * MIB


class Ground(House):
    """A house for trials.

    Parameters
    ----------
    lease_seconds
        How long a worker that is silent is taken to be alive.
    instead
        Process -> what is taken out of it or bent (tests/chaos/sabotage.py), such as {"scheduler": "no-rescue"}.
    durable
        Servers wait for the disk, as in production.
    receiver_answers
        What the receiver of webhooks answers to the first attempts of each event.
    wired
        Between the service and the stores are `wires`, which can lose replies.
    small_disks
        PostgreSQL's data and its write-ahead log lie on `disks` of their own, which can be filled (root only).
    migrated
        As a House has it.
    api_processes
        How many serve the API.
    """

    def __init__(
        self,
        directory: Path,
        *,
        lease_seconds: float = 15.0,
        workers: int = 2,
        instead: Mapping[str, str] | None = None,
        durable: bool = True,
        receiver_answers: Sequence[int] = (500,),
        wired: bool = False,
        small_disks: bool = False,
        migrated: bool = False,
        api_processes: int = 2,
    ) -> None:
        self.lease_seconds = lease_seconds
        self.instead = dict(instead or {})
        #: process -> settings that it alone has, from its next start on
        self.alone: dict[str, dict[str, str]] = {}
        self.wires: dict[str, Wire] = {}
        self.disks: dict[str, SmallDisk] = {}
        self._wired, self._small_disks = wired, small_disks
        super().__init__(
            directory,
            workers=workers,
            fast=not durable,
            migrated=migrated,
            environment={
                "LLM_SERVICE_API_PROCESSES": str(api_processes),
                "LLM_SERVICE_WORKER_CONCURRENCY": str(WORKER_CONCURRENCY),
                "LLM_SERVICE_WORKER_LEASE_SECONDS": str(lease_seconds),
                "LLM_SERVICE_CALL_TIMEOUT_SECONDS": str(CALL_TIMEOUT_SECONDS),
            },
        )
        self.receiver = Receiver(receiver_answers)

    @property
    def workers(self) -> list[str]:
        return [name for name in self._processes if name.startswith("worker")]

    def _start(self, timeout_seconds: float) -> None:
        self.receiver.__enter__()
        self._prepare_stores()
        super()._start(timeout_seconds)

    def _prepare_stores(self) -> None:
        """What lies under the stores, and what between them and the service."""
        if self._small_disks:
            self._mount_disks()
        if self._wired:
            for name, server in self._servers.items():
                self.wires[name] = wire = Wire(server.port).__enter__()
                variable = {"postgres": "DATABASE_URL", "redis": "REDIS_URL"}[name]
                self._extra[variable] = server.url.replace(f":{server.port}/", f":{wire.port}/")

    def _mount_disks(self) -> None:
        postgres = self._servers["postgres"]
        assert isinstance(postgres, Postgres)
        postgres.wal_directory = self.directory / "wal" / "pg_wal"
        self.disks = {
            "data": SmallDisk(postgres.directory, DATA_BYTES),
            "wal": SmallDisk(postgres.wal_directory.parent, WAL_BYTES),
        }
        postgres.wal_directory.mkdir()
        postgres.settings |= {"max_wal_size": "128MB", "min_wal_size": "32MB"}

    def close(self) -> None:
        super().close()
        for wire in self.wires.values():
            wire.__exit__(None, None, None)
        for disk in self.disks.values():
            disk.close()
        self.receiver.__exit__(None, None, None)

    def _make(self, name: str) -> ChildProcess:
        if name.startswith("scheduler"):
            process = services.scheduler(self.env, subprocess.DEVNULL)
        else:
            process = super()._make(name)
        self._dress(name, process)
        return process

    def _dress(self, name: str, process: ChildProcess) -> None:
        usual = {
            "api": ["gunicorn", "-c", "app/gunicorn_conf.py", "app.wsgi:app"],
            "scheduler": ["scheduler"],
            "worker": ["workers"],
        }[name.partition("-")[0]]
        sabotage = self.instead.get(name)
        if sabotage is not None:
            usual = ["tests.chaos.sabotage", name.partition("-")[0], sabotage]
        process.command = [sys.executable, "-m", *usual]
        process.env = {**self.env, **self.alone.get(name, {})}

    def start_process(self, name: str) -> None:
        if name in self._processes:
            self._dress(name, self._processes[name])
        super().start_process(name)

    def _is_ready(self, name: str) -> bool:
        if name.startswith("scheduler"):
            return services.scheduler_ready(self._processes[name], self.env["DATABASE_URL"])
        return super()._is_ready(name)

    def query(self, statement: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows of the database, asked past the service; psycopg.Error when it is away."""
        with psycopg.connect(self.address.database_url, connect_timeout=5, row_factory=dict_row) as connection:
            return connection.execute(statement, values).fetchall()

    def leader_address(self) -> str | None:
        """Where the scheduler that leads is connected from, with its port; None: nobody, or the database is away."""
        with suppress(psycopg.Error):
            found = self.query(_LEADER, {"lock": LEADER_LOCK & 0xFFFFFFFF})
            return str(found[0]["who"]) if found else None
        return None

    def in_calls_of(self, names: list[str], since: float) -> int:
        """Calls that these workers had begun and not brought home when they were killed or frozen, `since` then.

        By the database; when it is away, by the simulator: all calls whose answer may not have been committed.
        """
        pids = [process.pid for name in names if (process := self._processes[name]).popen is not None]
        with suppress(psycopg.Error):
            return int(self.query(_HELD, {"pids": pids})[0]["held"])
        return sum(
            call["t_start"] <= time.time() and (call["t_end"] is None or call["t_end"] >= since - UNCOMMITTED_SECONDS)
            for call in self.simulator.calls()
        )


def let_pass(seconds: float) -> None:
    """A fault lasts as long as it lasts: this waits for no condition."""
    threading.Event().wait(seconds)


_LEADER = """
SELECT host(client_addr) || ':' || client_port AS who FROM pg_stat_activity
WHERE pid = (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = %(lock)s::oid)
"""

_HELD = """
SELECT count(*) AS held FROM lease JOIN worker ON worker.id = lease.worker_id
WHERE worker.pid = ANY(%(pids)s) AND lease.call_started_at IS NOT NULL
"""
