"""How gunicorn serves the API: gevent workers that hold many slow answers at once, metrics added up over processes."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

bind = os.environ.get("LLM_SERVICE_BIND", "127.0.0.1:8000")
worker_class = "app.gunicorn_worker.Worker"
workers = int(os.environ.get("LLM_SERVICE_API_PROCESSES") or min(2, os.cpu_count() or 1))
worker_connections = 10_000
backlog = 4096
keepalive = 75
# The longest call may end; the stop grace of the container is longer still.
graceful_timeout = int(float(os.environ.get("LLM_SERVICE_DRAIN_SECONDS") or 660))
timeout = 60
accesslog = None
errorlog = "-"
preload_app = False
# A socket for managing gunicorn at run time would need a writable home directory; nobody here uses it.
control_socket_disable = True
# A header with an underscore is not the header with a dash.
header_map = "drop"
limit_request_line = 8190
limit_request_fields = 100

#: How long a process that stops waits for the database to take its last completions.
_LAST_ROWS_SECONDS = 10.0

# prometheus_client picks its mode when it is imported, so the directory must be known before the application is.
_own_metrics = None
if workers > 1 and not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    _own_metrics = tempfile.mkdtemp(prefix="llm-service-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = _own_metrics


def child_exit(server: Any, worker: Any) -> None:
    """Drop the gauges of a process that is gone; its counters stay in the sums."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)


def post_worker_init(worker: Any) -> None:
    """The application is loaded."""
    from app import changes
    from core import garbage

    changes.start()
    garbage.settle()


def worker_exit(server: Any, worker: Any) -> None:
    """Close what the process opened."""
    from app import telemetry
    from core import db, metrics_calls, tracing
    from core.dispatch import live

    # Completions whose caller went away wait for nobody, and are paid for all the same.
    live.drain(_LAST_ROWS_SECONDS)
    telemetry.fold()
    metrics_calls.fold()
    tracing.shutdown()
    db.configure(None)


def on_exit(server: Any) -> None:
    if _own_metrics is not None:
        shutil.rmtree(_own_metrics, ignore_errors=True)
