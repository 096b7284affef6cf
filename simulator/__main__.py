"""Starts the simulator: `python -m simulator --port P`; prints one line with its URL when it is ready."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import resource
import signal
import sys
from functools import partial

import orjson
import uvloop
from pydantic import ValidationError

from simulator.config import Config
from simulator.native.routes import receive
from simulator.routes import dispatcher
from simulator.simulation import Simulation
from simulator.wire import Connection

_BACKLOG = 8192


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulator", description="A stand-in for OpenAI and Anthropic.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090, help="0 takes a free one (default: 8090)")
    parser.add_argument("--latency", help="seconds, or JSON such as {'kind': 'uniform', 'low': 0.1, 'high': 2}")
    parser.add_argument("--limits", help="JSON, as in /_sim/config")
    parser.add_argument("--faults", help="a JSON list of rules, as in /_sim/config")
    parser.add_argument("--config", help="JSON of the whole configuration; the options above win over it")
    return parser.parse_args()


def configuration(options: argparse.Namespace) -> Config:
    """The configuration that the options describe. Raises ValueError (ValidationError, JSONDecodeError)."""
    given = orjson.loads(options.config) if options.config else {}
    for name in ("latency", "limits", "faults"):
        if (text := getattr(options, name)) is not None:
            given[name] = orjson.loads(text)
    return Config.model_validate(given)


def allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one: a held call is a socket."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems refuse an unlimited number; then what there is has to do.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def run(host: str, port: int, config: Config) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    simulation = Simulation(config, loop)
    dispatch = dispatcher(simulation)
    take = partial(receive, simulation.native)
    server = await loop.create_server(lambda: Connection(dispatch, loop, take), host, port, backlog=_BACKLOG)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    shown = f"[{host}]" if ":" in host else host
    print(f"simulator listening on http://{shown}:{server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    server.close()


def main() -> int:
    options = arguments()
    try:
        config = configuration(options)
    except (ValidationError, ValueError) as error:
        print(f"simulator: the configuration is not valid: {error}", file=sys.stderr)
        return 2
    allow_many_files()
    # Nothing here makes cycles that matter; a full collection would be a pause that looks like latency.
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)
    try:
        uvloop.run(run(options.host, options.port, config))
    except OSError as error:
        print(f"simulator: cannot listen on {options.host}:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
