"""Gateways between the same caller and the same provider: ours, the bare one, and peers in homes of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import rows
from launcher.client import Client, wait_until
from launcher.house import House
from launcher.local_http import status_of
from launcher.ports import LOOPBACK, answers, free_port
from launcher.process import ChildProcess
from launcher.services import ROOT, inherited_environment

#: Where peers are installed, each into an environment of its own; not tracked.
PEERS = ROOT / "var" / "peers"
_HERE = Path(__file__).resolve().parent
OURS = "LLM Service"
BARE = "bare pass-through"
PORTKEY_VERSION = "1.15.2"
#: Of a contender: what two cores have room for.
PROCESSES = 2
#: LiteLLM takes twenty on a quiet machine.
_START_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Who is called, and whose processes they are."""

    name: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    #: process ids by part; what they start is counted with them
    parts: dict[str, list[int]]
    #: memory is theirs
    memory_of: list[int]


def ours(house: House, client: Client) -> Contender:
    """The whole house: its API, its stores, and what idles beside them."""
    parts = {
        part: [house.pid(name) for name in house.names if name.startswith(part)]
        for part in ("api", "postgres", "redis", "scheduler", "worker")
    }
    return Contender(
        name=OURS,
        url=f"{client.url}/v1/completions",
        headers=dict(client.headers),
        parts=parts,
        memory_of=parts["api"],
    )


def direct(house: House) -> Contender:
    """No gateway at all."""
    return Contender(
        name="no gateway",
        url=f"{house.simulator.openai_url}/chat/completions",
        headers={"authorization": "Bearer sk-benchmark-direct"},
        parts={},
        memory_of=[],
    )


@contextmanager
def bare(house: House, *, processes: int = PROCESSES) -> Iterator[Contender]:
    """benchmarks/bare_gateway.py under gunicorn."""
    port = free_port()
    command = [
        sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", str(processes), "-b", f"{LOOPBACK}:{port}",
        "--keep-alive", "75", "--worker-connections", "10000", "--backlog", "4096", "--no-control-socket",
        "benchmarks.bare_gateway:app",
    ]  # fmt: skip
    env = inherited_environment() | {"PYTHONPATH": str(ROOT), "BARE_GATEWAY_TARGET": house.simulator.openai_url}
    with _running(BARE, command, env, port) as process:
        yield _of(process, port)


@contextmanager
def litellm(house: House) -> Iterator[Contender]:
    """LiteLLM's proxy with a master key, its routing and its retries, and no database: it logs nothing."""
    python = PEERS / "litellm" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)], check=True)
        _install(
            [str(python), "-m", "pip", "install", "-q", "-r", str(_HERE / "peers_litellm.txt")], python.parent.parent
        )
    port, key = free_port(), "sk-benchmark-litellm"
    config = {
        "model_list": [
            {
                "model_name": rows.MODEL,
                "litellm_params": {
                    "model": f"openai/{rows.MODEL}",
                    "api_base": house.simulator.openai_url,
                    "api_key": "sk-benchmark-bare",
                },
            }
        ],
        "general_settings": {"master_key": key},
        "litellm_settings": {"telemetry": False},
    }
    with tempfile.TemporaryDirectory() as directory:
        # JSON is YAML.
        file = Path(directory, "config.yaml")
        file.write_text(json.dumps(config))
        command = [
            str(python.parent / "litellm"), "--config", str(file), "--host", LOOPBACK, "--port", str(port),
            "--num_workers", str(PROCESSES), "--telemetry", "False",
        ]  # fmt: skip
        # What it would fetch from its makers at the start is in the package, too.
        env = _bare_environment() | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
        with _running("LiteLLM proxy", command, env, port, "/health/liveliness") as process:
            yield _of(process, port, {"authorization": f"Bearer {key}"})


@contextmanager
def portkey(house: House) -> Iterator[Contender]:
    """Portkey's open gateway, as many processes as of ours; it has no keys of its own and logs nothing."""
    home = PEERS / "portkey"
    package = home / "node_modules" / "@portkey-ai" / "gateway"
    if not package.exists():
        home.mkdir(parents=True, exist_ok=True)
        npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(home)]
        _install([*npm, f"@portkey-ai/gateway@{PORTKEY_VERSION}"], home)
    port = free_port()
    server = str(package / "build" / "start-server.js")
    command = ["node", str(_HERE / "peers_portkey.js"), server, str(port), str(PROCESSES)]
    target = house.simulator.openai_url
    env = _bare_environment() | {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": f"localhost,{LOOPBACK}"}
    with _running("Portkey gateway", command, env, port) as process:
        headers = {
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": target,
            "authorization": "Bearer sk-benchmark-bare",
        }
        yield _of(process, port, headers)


#: By the names of --contenders.
PEER_STARTS = {"bare": bare, "litellm": litellm, "portkey": portkey}


def _of(process: ChildProcess, port: int, headers: Mapping[str, str] | None = None) -> Contender:
    return Contender(
        name=process.name,
        url=f"http://{LOOPBACK}:{port}/v1/chat/completions",
        headers=dict(headers or {}),
        parts={"gateway": [process.pid]},
        memory_of=[process.pid],
    )


@contextmanager
def _running(
    name: str, command: Sequence[str], env: Mapping[str, str], port: int, ready: str | None = None
) -> Iterator[ChildProcess]:
    with tempfile.TemporaryFile() as log:
        process = ChildProcess(name, command, env=env, output=log, cwd=ROOT)
        process.start()

        def trouble() -> str:
            log.seek(0)
            return f"{name} did not start: {log.read()[-3000:].decode(errors='replace')}"

        def is_ready() -> bool:
            if not process.alive:
                raise RuntimeError(trouble())
            return answers(port) if ready is None else status_of(f"http://{LOOPBACK}:{port}{ready}") == 200

        try:
            wait_until(is_ready, _START_SECONDS, trouble)
            yield process
        finally:
            process.stop(5.0)


def _bare_environment() -> dict[str, str]:
    """The environment without what belongs to our own interpreter."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}


def _install(command: Sequence[str], home: Path) -> None:
    """Run it; half an installation is removed again."""
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
