"""Log lines: JSON, with their process, and with the request or the batch and row they belong to."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

_WORKER = """
from gevent import monkey; monkey.patch_all()
import gevent, uuid
from core import logs
from workers.execute import Executor
from core.dispatch.start import Started
from datetime import datetime, UTC

logs.configure("worker")
executor = Executor(1)
executor._recorder.put = lambda outcome: None

def outcome(row):
    gevent.sleep(0.01 * (3 - row.id))
    raise RuntimeError("broken")

executor._outcome = outcome
rows = [
    Started(id=n, fence=1, created_at=datetime.now(UTC), batch_id=uuid.UUID(int=n), connection_id=uuid.uuid4(),
            provider="openai", model="gpt-4o-mini", body="the prompt of a tenant",
            attempts=0, strikes=0, estimated_input=1, estimated_output=1)
    for n in (1, 2)
]
gevent.joinall([gevent.spawn(executor._run, row) for row in rows])
import logging
logging.getLogger("after").info("no row's line")
"""

_API = """
from gevent import monkey; monkey.patch_all()
import logging
from app.factory import create_app
from core import logs

app = create_app()

@app.get("/told")
def told():
    logging.getLogger("told").info("asked")
    return ""

logs.configure("api")
for number in (1, 2):
    app.test_client().get("/told", headers={"x-request-id": f"mine-{number}"})
"""


def _lines(program: str) -> list[dict[str, Any]]:
    env = {"PYTHONPATH": ":".join(sys.path), "LLM_SERVICE_LOG_FORMAT": "json", "LLM_SERVICE_LOG_LEVEL": "DEBUG"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_workers_lines_name_the_batch_and_the_row() -> None:
    # given two rows that run at once and fail inside the service, the later one first
    lines = _lines(_WORKER)
    # then each one's line has its own ids
    failed = [line for line in lines if "failed inside the service" in line["event"]]
    assert [(line["row_id"], line["batch_id"]) for line in failed] == [
        (2, f"batch_{2:032x}"),
        (1, f"batch_{1:032x}"),
    ]
    # and a line that belongs to no row has none, but its process
    after = next(line for line in lines if line["logger"] == "after")
    assert "row_id" not in after
    assert {line["process"] for line in lines} == {"worker"}
    # and the prompt is in none of them
    assert not any("the prompt of a tenant" in json.dumps(line) for line in lines)


def test_the_apis_lines_name_the_request() -> None:
    asked = [line for line in _lines(_API) if line["event"] == "asked"]
    assert [line["request_id"] for line in asked] == ["mine-1", "mine-2"]
    assert {line["process"] for line in asked} == {"api"}
