"""How busy the service is now, from its Prometheus metrics, and how busy one project is, from its open batches.

The metrics are those of the operator's Prometheus server, which knows all hosts, when PROMETHEUS_URL is set; else, and
while that server gives none, those of the processes that share PROMETHEUS_MULTIPROC_DIR with this one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from core import db, metrics, prometheus
from core.principal import Principal
from core.settings import settings
from core.short_cache import ShortCache

log = logging.getLogger(__name__)

#: A Prometheus server that gave no figures is asked again after this, in seconds.
PROMETHEUS_REST_SECONDS = 15.0
#: Said beside figures that are not PROMETHEUS_URL's although they should be.
NOTE = "PROMETHEUS_URL gave no figures: these are of the processes on the host that answered"


class _Part(NamedTuple):
    """Samples that a figure adds up: a metric, and a label that they must have."""

    metric: str
    label: str = ""
    value: str = ""


_IN_FLIGHT = (_Part("llm_service_calls_in_flight"),)
_QUEUED = (
    _Part("llm_service_rows_pending", "status", "pending"),
    _Part("llm_service_rows_pending", "status", "processing"),
    _Part("llm_service_leases", "state", "waiting"),
    _Part("llm_service_leases", "state", "due"),
    _Part("llm_service_leases", "state", "rung"),
)
_ENDED = (_Part("llm_service_completions_total"),)
_NAMES = tuple({part.metric for part in (*_IN_FLIGHT, *_QUEUED, *_ENDED)})

#: A rate is taken since the last look if that was this long ago, in seconds; else over a moment of its own.
_RATE_SECONDS = (2.0, 60.0)
_MOMENT_SECONDS = 0.25

_lock = threading.Lock()
#: when a counter was looked at last, and what it said
_last_look: tuple[float, float] = (float("-inf"), 0.0)
#: Prometheus is left alone until then (monotonic seconds).
_prometheus_rests_until = float("-inf")
_recent: ShortCache[str, dict[str, Any]] = ShortCache(seconds=2.0, grace_seconds=2.0, size=1)


def read(principal: Principal) -> dict[str, Any]:
    """The whole service's load, and under `project` what of it is the principal's.

    `in_flight` counts provider calls, `queue_depth` rows of batches that wait for one, `rows_per_second` completions
    that end. A figure that no metric here tells is null. `source` is `prometheus` or `processes`, and `note` says why
    it is not the one that was asked for.
    """
    return {**_recent.get("service", _service), "project": _project(principal)}


def _service() -> dict[str, Any]:
    url = settings().prometheus_url
    if not url:
        return _of_processes(note=None)
    return _of_prometheus(url) or _of_processes(note=NOTE)


def _of_prometheus(url: str) -> dict[str, Any] | None:
    global _prometheus_rests_until
    if time.monotonic() < _prometheus_rests_until:
        return None
    try:
        found = prometheus.figures(url)
    except prometheus.NoFigures as error:
        log.warning("PROMETHEUS_URL: %s; statistics show what this host's processes tell", error)
        _prometheus_rests_until = time.monotonic() + PROMETHEUS_REST_SECONDS
        return None
    return _figures("prometheus", None, **{name: found.get(name) for name in prometheus.FIGURES})


def _of_processes(note: str | None) -> dict[str, Any]:
    samples = _samples()
    return _figures(
        "processes",
        note,
        in_flight=_sum(samples, _IN_FLIGHT),
        queue_depth=_sum(samples, _QUEUED),
        rows_per_second=_rate(_sum(samples, _ENDED)),
    )


def _figures(
    source: str,
    note: str | None,
    *,
    in_flight: float | None,
    queue_depth: float | None,
    rows_per_second: float | None,
) -> dict[str, Any]:
    return {
        "in_flight": None if in_flight is None else int(in_flight),
        "queue_depth": None if queue_depth is None else int(queue_depth),
        "rows_per_second": None if rows_per_second is None else round(rows_per_second, 3),
        "source": source,
        "note": note,
    }


def _rate(ended: float | None) -> float | None:
    global _last_look
    if ended is None:
        return None
    with _lock:
        at, before = _last_look
        now = time.monotonic()
        if not _RATE_SECONDS[0] <= now - at <= _RATE_SECONDS[1] or ended < before:
            at, before = now, ended
            time.sleep(_MOMENT_SECONDS)
            ended, now = _sum(_samples(), _ENDED) or ended, time.monotonic()
        _last_look = now, ended
        return (ended - before) / (now - at)


def _samples() -> list[Sample]:
    """Those that are looked at, of all the lines of a scrape."""
    lines = [line for line in metrics.exposition().decode().splitlines() if line.startswith(_NAMES)]
    return [sample for family in text_string_to_metric_families("\n".join(lines) + "\n") for sample in family.samples]


def _sum(samples: list[Sample], parts: Sequence[_Part]) -> float | None:
    """None if there are no such samples."""
    values = [
        sample.value
        for part in parts
        for sample in samples
        if sample.name == part.metric and (not part.label or sample.labels.get(part.label) == part.value)
    ]
    return sum(values) if values else None


def _project(principal: Principal) -> dict[str, int]:
    with db.connection(principal.tenant_id) as connection:
        row = connection.execute(_PROJECT, {"tenant": principal.tenant_id, "project": principal.project_id}).fetchone()
    assert row is not None
    return {"in_flight": row["running"], "queue_depth": row["undispatched"] + row["leased"] - row["running"]}


# Open batches and leases: neither grows with the size of a batch.
_PROJECT = """
WITH open AS (
    SELECT id, CASE WHEN status IN ('pending', 'processing') THEN total - dispatched ELSE 0 END AS undispatched
    FROM batch WHERE tenant_id = %(tenant)s AND project_id = %(project)s AND ended_at IS NULL
)
SELECT (SELECT coalesce(sum(undispatched), 0)::bigint FROM open) AS undispatched,
       count(*) FILTER (WHERE call_started_at IS NOT NULL) AS running, count(*) AS leased
FROM lease WHERE tenant_id = %(tenant)s AND batch_id IN (SELECT id FROM open)
"""
