"""How the service's metrics leave it: the registry that is scraped, and a port of its own for processes without HTTP.

With PROMETHEUS_MULTIPROC_DIR set, every process writes its numbers into that directory and whoever is scraped adds up
all of them. prometheus_client decides for it when it is imported, so the variable has to be in the environment from the
start of a process.
"""

from __future__ import annotations

import logging
import os
import re
from bisect import bisect_left
from collections import Counter as Count
from collections.abc import Iterable, Iterator
from pathlib import Path

import prometheus_client
from prometheus_client import CollectorRegistry, Histogram, Metric, multiprocess
from prometheus_client.registry import Collector

from core.settings import settings

log = logging.getLogger(__name__)

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST
#: Durations of statements and tasks, in seconds.
SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
#: Waits that may be long, in seconds.
LONG_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

_LIVE_GAUGES = re.compile(r"gauge_live[a-z]+_(?P<pid>\d+)\.db\Z")


def exposition() -> bytes:
    """The metrics in Prometheus' text format: of all processes that share the directory, or of this one."""
    return prometheus_client.generate_latest(_registry())


def serve() -> None:
    """Answer scrapes on LLM_SERVICE_METRICS_PORT, on all addresses; does nothing while that is 0.

    For workers and schedulers that share no directory with an API process: one container each, or one host each.
    """
    port = settings().metrics_port
    if port:
        prometheus_client.start_http_server(port, registry=_registry())
        log.info("metrics on port %d", port)


def observe_many(histogram: Histogram, values: Iterable[float]) -> None:
    """`histogram.observe` of each value, at the price of one update for each bucket that they fall into.

    Parameters
    ----------
    histogram : a child with its labels set, or one without labels.
    """
    bounds = histogram._upper_bounds
    total = 0.0
    found: Count[int] = Count()
    for value in values:
        found[bisect_left(bounds, value)] += 1
        total += value
    if found:
        histogram._sum.inc(total)
        for bucket, count in found.items():
            histogram._buckets[bucket].inc(count)


class _Directory(Collector):
    """The sums over all processes of PROMETHEUS_MULTIPROC_DIR, without the gauges of those that are gone."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sums = multiprocess.MultiProcessCollector(None, path)

    def collect(self) -> Iterator[Metric]:
        self._forget_the_dead()
        yield from self._sums.collect()

    def _forget_the_dead(self) -> None:
        """A process that was killed left its gauges behind; its counters stay in the sums."""
        for file in Path(self._path).glob("gauge_live*.db"):
            named = _LIVE_GAUGES.search(file.name)
            if named and not _alive(int(named["pid"])):
                multiprocess.mark_process_dead(int(named["pid"]), self._path)


def _registry() -> CollectorRegistry:
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not directory:
        return prometheus_client.REGISTRY
    registry = CollectorRegistry()
    registry.register(_Directory(directory))
    return registry


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
