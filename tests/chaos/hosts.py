"""The ground with every process on a host of its own; the stores, the clients and the receiver share another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launcher.ports import LOOPBACK
from launcher.process import ChildProcess
from simulator.handle import SimulatorHandle
from tests.chaos.ground import Ground
from tests.chaos.network import Network
from tests.e2e.receiver import Receiver

API_PORT = 8000
SIMULATOR_PORT = 9000
PROVIDER = "provider"
SCHEDULERS = ("scheduler", "scheduler-2")


class Hosts(Ground):
    """API, workers and two schedulers as namespaces on one bridge, against one PostgreSQL and one Redis.

    `network` has a host by the name of each process, and one more for the providers.
    """

    def __init__(self, directory: Path, *, workers: int = 4, **options: Any) -> None:
        super().__init__(directory, workers=workers, **options)
        self._receiver_options = options.get("receiver_answers", (500,))
        self.network: Network

    @property
    def url(self) -> str:
        return f"http://{self.network.address_of('api')}:{API_PORT}"

    def _start(self, timeout_seconds: float) -> None:
        self.network = Network()
        for host in ("api", *(f"worker-{n}" for n in range(1, self._workers + 1)), *SCHEDULERS, PROVIDER):
            self.network.add(host)
        self.receiver = Receiver(self._receiver_options, host=self.network.address)
        super()._start(timeout_seconds)
        self.start_process("scheduler-2")
        self._wait_for("scheduler-2", timeout_seconds)

    def _prepare_stores(self) -> None:
        super()._prepare_stores()
        for server in self._servers.values():
            server.addresses.append(self.network.address)
        provider = f"http://{self.network.address_of(PROVIDER)}:{SIMULATOR_PORT}"
        self._extra |= {
            "DATABASE_URL": self._from_hosts(self._servers["postgres"].url),
            "REDIS_URL": self._from_hosts(self._servers["redis"].url),
            "LLM_SERVICE_BIND": f"{self.network.address_of('api')}:{API_PORT}",
            "LLM_SERVICE_OPENAI_BASE_URL": f"{provider}/v1",
            "LLM_SERVICE_ANTHROPIC_BASE_URL": provider,
            "LLM_SERVICE_EGRESS_ALLOW": self.network.subnet,
        }

    def _from_hosts(self, url: str) -> str:
        return url.replace(f"@{LOOPBACK}:", f"@{self.network.address}:")

    def _start_simulator(self) -> SimulatorHandle:
        return SimulatorHandle(
            host=self.network.address_of(PROVIDER), port=SIMULATOR_PORT, within=self.network.within(PROVIDER)
        )

    def _dress(self, name: str, process: ChildProcess) -> None:
        super()._dress(name, process)
        process.command = [*self.network.within(name), *process.command]

    def _is_ready(self, name: str) -> bool:
        if name in SCHEDULERS:
            # Connections in another namespace are not to be seen from here; the server sees them.
            statement = "SELECT FROM pg_stat_activity WHERE client_addr = %(address)s::inet"
            return self.alive(name) and bool(self.query(statement, {"address": self.network.address_of(name)}))
        return super()._is_ready(name)

    def leader(self) -> str | None:
        """The host that leads, by the address behind the leader's lock; None: nobody, or the database is away."""
        address = (self.leader_address() or "").partition(":")[0]
        return next((host for host in SCHEDULERS if self.network.address_of(host) == address), None)

    def close(self) -> None:
        super().close()
        if hasattr(self, "network"):
            self.network.close()
