"""Brings up the whole house on one machine, keeps it up, and takes it down in order: the program behind bin/up."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import redis

from launcher import demo, services
from launcher.console import Console
from launcher.data_directory import DataDirectory, InUse, write_exports
from launcher.embedded import EmbeddedServer, ServerFailed
from launcher.ports import free_port, is_taken
from launcher.postgres import Postgres
from launcher.process import ChildProcess
from launcher.supervisor import HouseFailed, Program, Service, StopRequested, Supervisor
from launcher.valkey import Valkey


class CannotStart(Exception):
    """Something on this machine stands in the way; the message is one line that says what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal ends it; the exit status: 0 after a stop that was asked for, 1 with a reason."""
    options = _options(arguments)
    console = Console()
    supervisor = Supervisor(console)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, supervisor.request_stop)
    data = DataDirectory(options.data)
    failure: Exception | None = None
    try:
        _claim(data, options.port)
        _bring_up(supervisor, console, data, options)
        supervisor.watch()
    except StopRequested:
        console.say("stopping (a second Ctrl-C: at once)")
    except (CannotStart, HouseFailed, ServerFailed) as error:
        failure = error
        if supervisor.has_started:
            console.say(f"{error}: stopping everything")
    finally:
        supervisor.stop()
        data.unlock()
    if failure is not None:
        # Last, so that it is what one sees.
        print(f"bin/up: {failure}", file=sys.stderr, flush=True)
    return 0 if failure is None else 1


def _claim(data: DataDirectory, port: int) -> None:
    """Everything that may stand in the way, before anything is started."""
    try:
        data.lock()
    except InUse as error:
        raise CannotStart(f"{error}: stop that one, or name another with --data") from None
    except OSError as error:
        raise CannotStart(f"cannot write {data.path} ({error.strerror}): name another with --data") from None
    if is_taken(port):
        raise CannotStart(f"port {port} is in use: stop what listens there, or name another with --port")


def _bring_up(supervisor: Supervisor, console: Console, data: DataDirectory, options: argparse.Namespace) -> None:
    first: list[Service] = []
    address = services.Address(
        database_url=_given_database() or _own(first, Postgres(data.path / "postgres", output=subprocess.PIPE)),
        redis_url=_given_redis() or _own(first, Valkey(data.path / "redis", output=subprocess.PIPE)),
        api_port=options.port,
        simulator_port=None if options.no_simulator else free_port(),
        admin_token=data.ensure_admin_token(),
        kek_file=data.ensure_kek(),
        metrics=data.empty_metrics(),
    )
    env = address.environment(services.inherited_environment())
    if address.simulator_port is not None:
        first.append(_simulator(address.simulator_port, env))
    supervisor.start(*first)
    supervisor.run("migrate", services.MIGRATE, env)
    data.write_operator(env)

    pipe = subprocess.PIPE
    programs = [_program(services.api(env, pipe), lambda process: services.api_ready(process, address.url))]
    for number in range(1, options.workers + 1):
        worker = services.worker(f"worker-{number}", env, pipe)
        programs.append(_program(worker, lambda process: services.worker_ready(process, address.database_url)))
    scheduler = services.scheduler(env, pipe)
    programs.append(_program(scheduler, lambda process: services.scheduler_ready(process, address.database_url)))
    supervisor.start(*programs)
    # Asked rather than looked up: the database may be another one than last time.
    if not demo.is_accepted(data.read_demo(), address.url):
        supervisor.run("demo", [sys.executable, "-m", "launcher.demo", str(data.demo_file)], env)
    values = data.read_demo() | {"LLM_SERVICE_URL": address.url}
    write_exports(data.demo_file, values)
    console.say(demo.greeting(values, data.path, simulated=not options.no_simulator))


def _simulator(port: int, env: dict[str, str]) -> Program:
    process = services.simulator(port, env, subprocess.PIPE)
    return _program(process, lambda process: services.simulator_ready(process, port))


def _program(process: ChildProcess, is_ready: Callable[[ChildProcess], bool]) -> Program:
    return Program(process, is_ready, grace_seconds=services.STOP_GRACE_SECONDS)


def _own(services_to_start: list[Service], server: EmbeddedServer) -> str:
    services_to_start.append(server)
    return server.url


def _given_database() -> str | None:
    """What DATABASE_URL names, once it has answered."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        return None
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise CannotStart(
            f"DATABASE_URL does not answer ({reason}): start it, or unset it to use one of our own"
        ) from None
    return url


def _given_redis() -> str | None:
    """What REDIS_URL names, once it has answered."""
    url = os.environ.get("REDIS_URL")
    if not url:
        return None
    try:
        with redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise CannotStart(f"REDIS_URL does not answer ({error}): start it, or unset it to use one of our own") from None
    return url


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bin/up",
        description="Start LLM Service on this machine: PostgreSQL, Redis, API, workers, scheduler and simulator.",
    )
    parser.add_argument("--port", type=_port, default=8000, help="where the API listens (default: 8000)")
    parser.add_argument(
        "--data", type=Path, default=Path("var"), metavar="DIR", help="where everything is kept (default: ./var)"
    )
    parser.add_argument(
        "--workers", type=_positive, default=2, metavar="N", help="how many worker processes (default: 2)"
    )
    parser.add_argument(
        "--no-simulator", action="store_true", help="call the vendors themselves, with the keys you store"
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError("must be a whole number of 1 or more")
    return int(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 65535")
    return int(text)
