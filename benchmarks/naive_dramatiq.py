"""Runs the naive actor under Dramatiq's own command line, 2 processes of 8 threads, and measures it."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil
from dramatiq import Actor

from benchmarks import rows
from launcher.house import House
from launcher.services import ROOT

PROCESSES, THREADS = 2, 8
#: A Redis database that the house does not use.
_DATABASE = 9


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds for all rows: from the first message sent, and from the first call made, both to the last answer."""

    since_sent: float
    since_called: float


def run(house: House, count: int) -> Took:
    """Send one message a row to running, warm processes; the simulator counts the answers."""
    # The actor's module makes its broker when it is imported, here and in Dramatiq's processes.
    redis_url = house.address.redis_url.rpartition("/")[0] + f"/{_DATABASE}"
    os.environ["NAIVE_REDIS_URL"] = redis_url
    from benchmarks.naive_actor import complete

    url = f"{house.simulator.openai_url}/chat/completions"
    command = [
        sys.executable, "-m", "dramatiq", "benchmarks.naive_actor", "--processes", str(PROCESSES),
        "--threads", str(THREADS),
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        warm = 4 * PROCESSES * THREADS
        house.simulator.reset(config=False)
        _send(complete, url, warm)
        _wait(house, warm)
        house.simulator.reset(config=False)
        sent_at = time.time()
        _send(complete, url, count)
        done_at = _wait(house, count)
        first = house.simulator.ledger()["first_call_at"]
    finally:
        _stop(process)
    return Took(done_at - sent_at, done_at - first)


def _send(complete: Actor[..., None], url: str, count: int) -> None:
    label = secrets.token_hex(3)
    for n in range(count):
        complete.send(url, rows.call(f"{label}-{n}", n).decode())


def _wait(house: House, count: int) -> float:
    house.simulator.wait_for(lambda ledger: ledger["executed"] >= count and not ledger["in_flight"], 600)
    return time.time()


def _stop(process: subprocess.Popen[bytes]) -> None:
    children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in psutil.wait_procs(children, timeout=5)[1]:
        child.kill()
