"""The whole house as an object: real processes on free ports that a test or a benchmark starts, kills and talks to.

with House(Path("/tmp/house"), workers=2) as house:
    batch = house.client.post("/v1/batch", {"requests": [...]}).json()
    house.kill("worker-1")
    house.start_process("worker-1")
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from launcher import services
from launcher.client import Client, new_client, wait_until
from launcher.data_directory import DataDirectory
from launcher.embedded import EmbeddedServer
from launcher.ports import free_port
from launcher.postgres import Postgres
from launcher.process import ChildProcess
from launcher.valkey import Valkey
from simulator.handle import SimulatorHandle


class House:
    """One running house.

    Parameters
    ----------
    directory
        For its data and its logs (`logs/<process>.log`).
    database_url, redis_url
        Somebody else's servers; None: own ones, which can then be killed like any process.
    workers
        How many worker processes.
    environment
        Settings on top of the usual ones, for every process.
    simulator
        The configuration that the simulator starts with, such as {"latency": 0.1}.
    fast
        Own servers do not wait for the disk.
    migrated
        The database has this version's schema already, so that nothing is migrated.
    """

    def __init__(
        self,
        directory: Path,
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
        workers: int = 1,
        environment: Mapping[str, str] | None = None,
        simulator: Mapping[str, Any] | None = None,
        fast: bool = True,
        migrated: bool = False,
    ) -> None:
        self.directory = directory
        self.logs = directory / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self._data = DataDirectory(directory / "data")
        self._servers: dict[str, EmbeddedServer] = {}
        self._processes: dict[str, ChildProcess] = {}
        self._clients: list[Client] = []
        self._extra = dict(environment or {})
        self._simulator_options = dict(simulator or {})
        self._workers = workers
        self._numbers = itertools.count(1)
        if database_url is None:
            self._servers["postgres"] = Postgres(self._data.path / "postgres", fast=fast)
        if redis_url is None:
            self._servers["redis"] = Valkey(self._data.path / "redis", fast=fast)
        self._given = (database_url, redis_url)
        self._migrated = migrated
        self.simulator: SimulatorHandle
        self.address: services.Address
        self.client: Client

    @property
    def url(self) -> str:
        return self.address.url

    @property
    def clients(self) -> list[Client]:
        """Those that `start` and `new_client` made."""
        return list(self._clients)

    @property
    def names(self) -> list[str]:
        """All processes that can be named, servers of its own included."""
        return [*self._servers, *self._processes]

    def start(self, timeout_seconds: float = 60.0) -> House:
        """Start everything, wait until it is ready, and make a tenant with both providers at the simulator.

        Raises
        ------
        TimeoutError, ServerFailed, RuntimeError
            What did not come up; the house is closed again.
        """
        try:
            self._start(timeout_seconds)
        except BaseException:
            self.close()
            raise
        return self

    def _start(self, timeout_seconds: float) -> None:
        self._data.path.mkdir(parents=True, exist_ok=True)
        for server in self._servers.values():
            server.start()
        self.simulator = self._start_simulator()
        database_url, redis_url = self._given
        self.address = services.Address(
            database_url=database_url or self._servers["postgres"].url,
            redis_url=redis_url or self._servers["redis"].url,
            api_port=free_port(),
            simulator_port=int(self.simulator.url.rpartition(":")[2]),
            admin_token=self._data.ensure_admin_token(),
            kek_file=self._data.ensure_kek(),
            metrics=self._data.empty_metrics(),
        )
        self.env = self.address.environment(services.inherited_environment()) | self._extra
        if not self._migrated:
            self._run("migrate", services.MIGRATE)
        for name in ("api", *(f"worker-{n}" for n in range(1, self._workers + 1)), "scheduler"):
            self.start_process(name)
        self.wait_ready(timeout_seconds)
        self.client = self.new_client("demo")

    def _start_simulator(self) -> SimulatorHandle:
        return SimulatorHandle(**self._simulator_options)

    def new_client(self, tenant: str | None = None) -> Client:
        """A client of a new tenant, with a project, a key, and both providers at the simulator; all over the API.

        Raises
        ------
        RuntimeError
            One of them was not made; the message holds the answer.
        """
        client = new_client(self.url, self.address.admin_token, tenant or f"tenant {next(self._numbers)}")
        self._clients.append(client)
        return client

    def start_process(self, name: str) -> None:
        """Start a process (again): api, worker-N (any N), scheduler, or a server of its own, which is waited for."""
        if name in self._servers:
            self._servers[name].start()
            return
        process = self._processes.get(name) or self._make(name)
        with open(self.logs / f"{name}.log", "ab") as log:
            process.output = log
            process.start()
        self._processes[name] = process

    def kill(self, name: str) -> None:
        """SIGKILL it with its children; returns once they are gone."""
        self._child(name).kill()

    def stop(self, name: str, grace_seconds: float = 30.0) -> bool:
        """Stop it in order (SIGTERM; PostgreSQL: fast shutdown); True if it went within the grace."""
        return self._child(name).stop(grace_seconds)

    def restart(self, name: str, *, kill: bool = False) -> None:
        """Stop or kill it, start it again, wait until it is ready."""
        if kill:
            self.kill(name)
        else:
            self.stop(name)
        self.start_process(name)
        self.wait_ready()

    def freeze(self, name: str) -> None:
        """SIGSTOP it and its children: it lives, and does nothing."""
        for process in self._child(name).tree():
            process.send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT after `freeze`."""
        for process in self._child(name).tree():
            process.send_signal(signal.SIGCONT)

    def alive(self, name: str) -> bool:
        return self._child(name).alive

    def pid(self, name: str) -> int:
        return self._child(name).pid

    def wait_ready(self, timeout_seconds: float = 60.0) -> None:
        """Wait until every process that has been started and not stopped is ready (the API: /readyz).

        Raises
        ------
        TimeoutError
            One of them is not; the message holds the end of its log.
        """
        deadline = time.monotonic() + timeout_seconds
        for name, process in self._processes.items():
            if process.alive:
                self._wait_for(name, deadline - time.monotonic())

    def log(self, name: str) -> str:
        """What the process has written so far."""
        server = self._servers.get(name)
        file = self.logs / f"{name}.log" if server is None else server.directory / "server.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def close(self) -> None:
        """Stop everything, the stores last; no process is left."""
        for client in self._clients:
            # The API waits for connections that are open, used or not.
            client.session.close()
        for process in self._processes.values():
            process.signal(process.stop_signal)
        for process in self._processes.values():
            process.stop(services.STOP_GRACE_SECONDS)
        if hasattr(self, "simulator"):
            self.simulator.stop()
        for server in reversed(self._servers.values()):
            server.stop()

    def __enter__(self) -> House:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make(self, name: str) -> ChildProcess:
        if name == "api":
            return services.api(self.env, subprocess.DEVNULL)
        if name == "scheduler":
            return services.scheduler(self.env, subprocess.DEVNULL)
        if name.startswith("worker-"):
            return services.worker(name, self.env, subprocess.DEVNULL)
        raise KeyError(f"no process {name}: there are {', '.join(self.names)}")

    def _child(self, name: str) -> ChildProcess:
        if name in self._servers:
            process = self._servers[name].process
            assert process is not None, f"{name} has not been started"
            return process
        return self._processes[name]

    def _wait_for(self, name: str, timeout_seconds: float) -> None:
        wait_until(lambda: self._is_ready(name), timeout_seconds, lambda: self._trouble(name))

    def _is_ready(self, name: str) -> bool:
        process = self._processes[name]
        if name == "api":
            return services.api_ready(process, self.url)
        if name == "scheduler":
            return services.scheduler_ready(process, self.address.database_url)
        return services.worker_ready(process, self.address.database_url)

    def _trouble(self, name: str) -> str:
        return f"{name} is not ready (alive: {self.alive(name)}); its log ends with:\n{self.log(name)[-3000:]}"

    def _run(self, name: str, command: list[str]) -> None:
        with open(self.logs / f"{name}.log", "ab") as log:
            done = subprocess.run(
                command, env=self.env, cwd=services.ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            )
        if done.returncode != 0:
            raise RuntimeError(f"{name} ended with status {done.returncode}:\n{self.log(name)[-3000:]}")
