"""Samples of what a process holds right now, once a second: its pool, its outcomes in waiting, its memory and time.

Gauges are not moved where the work is done: in multiprocess mode each change would cost as much as a counter's.
"""

from __future__ import annotations

import logging
import os
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import Counter, Gauge

from core import db, metrics, metrics_calls
from core.metrics_dispatch import PENDING

log = logging.getLogger(__name__)

SAMPLE_SECONDS = 1.0

CONNECTIONS = Gauge(
    "llm_service_database_pool_connections",
    "Connections of the database pools, by what they do.",
    ["process", "state"],
    multiprocess_mode="livesum",
)
WAITING = Gauge(
    "llm_service_database_pool_waiting",
    "Transactions that wait for a connection.",
    ["process"],
    multiprocess_mode="livesum",
)
TRANSACTIONS = Counter(
    "llm_service_database_pool_requests_total", "Transactions that asked for a connection.", ["process"]
)
WAITED = Counter(
    "llm_service_database_pool_wait_seconds_total", "Time that transactions waited for a connection.", ["process"]
)
POOL_ERRORS = Counter(
    "llm_service_database_pool_errors_total", "Transactions that got no connection in time.", ["process"]
)
CPU = Counter("llm_service_process_cpu_seconds_total", "Processor time used.", ["process"])
MEMORY = Gauge("llm_service_process_resident_memory_bytes", "Memory in use.", ["process"], multiprocess_mode="livesum")
FILES = Gauge("llm_service_process_open_fds", "Open files and sockets.", ["process"], multiprocess_mode="livesum")
LOOP_LAG = Gauge(
    "llm_service_event_loop_lag_seconds",
    "How much later than asked for the sampler of a process woke: the processor is short, or something blocks.",
    ["process"],
    multiprocess_mode="livemax",
)
PROCESSES = Gauge("llm_service_processes", "Processes that run.", ["process"], multiprocess_mode="livesum")

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sampler:
    """Sets the gauges of one process.

    Parameters
    ----------
    process : api, worker or scheduler.
    sources : set further gauges; called once a sample.
    """

    def __init__(self, process: str, *sources: Callable[[], None]) -> None:
        self._process = process
        self._sources = sources
        self._seen: dict[str, float] = {}
        PROCESSES.labels(process).set(1)

    def start(self) -> Sampler:
        """Sample from a thread of its own from now on."""
        threading.Thread(target=self._run, name="metrics", daemon=True).start()
        return self

    def sample(self) -> None:
        """Set everything now; also before a process ends, so that its last calls are counted."""
        metrics_calls.fold()
        self._pool()
        self._machine()
        for source in self._sources:
            source()

    def _run(self) -> None:
        while True:
            before = time.monotonic()
            time.sleep(SAMPLE_SECONDS)
            LOOP_LAG.labels(self._process).set(max(0.0, time.monotonic() - before - SAMPLE_SECONDS))
            try:
                self.sample()
            except Exception:
                log.exception("metrics of this process were not sampled")

    def _pool(self) -> None:
        found = db.pool_statistics()
        if not found:
            return
        idle = found.get("pool_available", 0)
        CONNECTIONS.labels(self._process, "idle").set(idle)
        CONNECTIONS.labels(self._process, "used").set(found.get("pool_size", 0) - idle)
        WAITING.labels(self._process).set(found.get("requests_waiting", 0))
        self._add(TRANSACTIONS, "requests_num", found.get("requests_num", 0))
        self._add(WAITED, "requests_wait_ms", found.get("requests_wait_ms", 0) / 1000)
        self._add(POOL_ERRORS, "requests_errors", found.get("requests_errors", 0))

    def _machine(self) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._add(CPU, "cpu", used.ru_utime + used.ru_stime)
        try:
            MEMORY.labels(self._process).set(int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE)
            FILES.labels(self._process).set(len(os.listdir("/proc/self/fd")))
        except OSError:
            # There is no /proc beside Linux.
            return

    def _add(self, counter: Counter, name: str, now: float) -> None:
        """A counter follows a number that only grows, or begins again when the pool is made anew."""
        before = self._seen.get(name, 0.0)
        counter.labels(self._process).inc(now - before if now >= before else now)
        self._seen[name] = now


def start(process: str, *sources: Callable[[], None]) -> Sampler:
    """Sample this process once a second, and answer scrapes if it has a port for them."""
    if process != "api":
        metrics.serve()
    return Sampler(process, *sources).start()


def live_recorder() -> None:
    """The outcomes of live completions that wait for their commit."""
    from core.dispatch import live

    PENDING.labels("live").set(live.recorder().pending())
