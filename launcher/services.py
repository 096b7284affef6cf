"""The processes of the house: how each is started, with which settings, and how one sees that it is ready."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict

from launcher.local_http import status_of
from launcher.ports import LOOPBACK, answers
from launcher.process import ChildProcess

ROOT = Path(__file__).resolve().parent.parent

#: On one machine nobody waits minutes for a Ctrl-C: calls that take longer are tried again by the next start.
DRAIN_SECONDS = 5
#: What a process may take to stop, before it is killed.
STOP_GRACE_SECONDS = DRAIN_SECONDS + 3.0

MIGRATE = [sys.executable, "-m", "core.migrate"]


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the parts of one house find each other."""

    database_url: str
    redis_url: str
    api_port: int
    #: None: the vendors themselves are called
    simulator_port: int | None
    admin_token: str
    kek_file: Path
    metrics: Path

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.api_port}"

    @property
    def simulator_url(self) -> str | None:
        return None if self.simulator_port is None else f"http://{LOOPBACK}:{self.simulator_port}"

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The environment of every process; what `base` already sets of keys and limits is kept."""
        env = dict(base)
        env["PYTHONPATH"] = str(ROOT)
        env["PYTHONUNBUFFERED"] = "1"
        env["DATABASE_URL"] = self.database_url
        env["REDIS_URL"] = self.redis_url
        env["LLM_SERVICE_BIND"] = f"{LOOPBACK}:{self.api_port}"
        env.setdefault("LLM_SERVICE_ADMIN_TOKEN", self.admin_token)
        env.setdefault("LLM_SERVICE_DRAIN_SECONDS", str(DRAIN_SECONDS))
        if not env.get("LLM_SERVICE_KEK"):
            env.setdefault("LLM_SERVICE_KEK_FILE", str(self.kek_file))
        loopback = "127.0.0.0/8,::1/128"
        allowed = env.get("LLM_SERVICE_EGRESS_ALLOW")
        env["LLM_SERVICE_EGRESS_ALLOW"] = f"{allowed},{loopback}" if allowed else loopback
        if self.simulator_url is not None:
            env["LLM_SERVICE_OPENAI_BASE_URL"] = f"{self.simulator_url}/v1"
            env["LLM_SERVICE_ANTHROPIC_BASE_URL"] = self.simulator_url
            # The simulator is done with a batch at once; a provider would be asked ten times too often.
            env.setdefault("LLM_SERVICE_NATIVE_POLL_SECONDS", "1")
        # prometheus_client and Dramatiq's middleware each have a variable of their own; both must name one place.
        env["PROMETHEUS_MULTIPROC_DIR"] = env["dramatiq_prom_db"] = str(self.metrics)
        return env


def api(env: Mapping[str, str], output: IO[Any] | int) -> ChildProcess:
    command = [sys.executable, "-m", "gunicorn", "-c", "app/gunicorn_conf.py", "app.wsgi:app"]
    return ChildProcess("api", command, env=env, output=output, cwd=ROOT)


def worker(name: str, env: Mapping[str, str], output: IO[Any] | int) -> ChildProcess:
    return ChildProcess(name, [sys.executable, "-m", "workers"], env=env, output=output, cwd=ROOT)


def scheduler(env: Mapping[str, str], output: IO[Any] | int) -> ChildProcess:
    return ChildProcess("scheduler", [sys.executable, "-m", "scheduler"], env=env, output=output, cwd=ROOT)


def simulator(port: int, env: Mapping[str, str], output: IO[Any] | int) -> ChildProcess:
    command = [sys.executable, "-m", "simulator", "--port", str(port)]
    return ChildProcess("simulator", command, env=env, output=output, cwd=ROOT)


def api_ready(process: ChildProcess, url: str) -> bool:
    """True if the API says that it can serve."""
    return process.alive and status_of(f"{url}/readyz") == 200


def worker_ready(process: ChildProcess, database_url: str) -> bool:
    """True if the worker has begun its life in the database, so that rows are handed to it."""
    query = "SELECT FROM worker WHERE lease_expires_at > now() AND NOT draining AND pid = ANY(%s)"
    try:
        pids = [part.pid for part in process.tree()]
        with psycopg.connect(database_url, connect_timeout=2) as connection:
            return connection.execute(query, (pids,)).fetchone() is not None
    except psycopg.Error:
        return False


def scheduler_ready(process: ChildProcess, database_url: str) -> bool:
    """True if the scheduler has its connection to the database, over which it leads or stands by."""
    port = int(conninfo_to_dict(database_url).get("port") or 5432)
    try:
        open_ones = [found for part in process.tree() for found in part.net_connections(kind="tcp")]
    except psutil.Error:
        return False
    return any(found.status == psutil.CONN_ESTABLISHED and found.raddr.port == port for found in open_ones)


def simulator_ready(process: ChildProcess, port: int) -> bool:
    return process.alive and answers(port)


def inherited_environment() -> dict[str, str]:
    """Our environment without what would make a child behave as if it were us."""
    return {name: value for name, value in os.environ.items() if name != "LLM_SERVICE_PROGRAM"}
