"""`live` of the statistics: from this host's processes, or from Prometheus, which may fail in any way."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient

from core import load, prometheus
from core.settings import settings
from launcher.ports import free_port
from tests.app.logged import Project

_EXPOSED = (
    'llm_service_calls_in_flight{kind="live"} 2.0\nllm_service_calls_in_flight{kind="batch"} 40.0\n'
    'llm_service_rows_pending{status="processing"} 700.0\nllm_service_rows_pending{status="paused"} 9.0\n'
    'llm_service_leases{provider="openai",state="due"} 30.0\n'
    'llm_service_leases{provider="openai",state="running"} 5.0\n'
)


@pytest.fixture
def project(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project with two rows in a call and three that wait, while processes say something of themselves."""
    looks = itertools.count(1)

    def exposition() -> bytes:
        ended = f'llm_service_completions_total{{provider="openai",status="succeeded"}} {next(looks) * 100}.0\n'
        return (_EXPOSED + ended).encode()

    monkeypatch.setattr(load.metrics, "exposition", exposition)
    monkeypatch.setattr(load, "_last_look", (float("-inf"), 0.0))
    monkeypatch.setattr(load, "_prometheus_rests_until", float("-inf"))
    load._recent.clear()
    found = Project()
    found.submit(5)
    found.run(2)
    yield found
    load._recent.clear()
    settings.cache_clear()


def _live(client: FlaskClient, project: Project) -> dict[str, Any]:
    load._recent.clear()
    answered = client.get(project.stats, headers=project.headers)
    assert answered.status_code == 200, answered.text
    found: dict[str, Any] = answered.get_json()["live"]
    return found


def _is_of_processes(live: dict[str, Any], note: str | None) -> None:
    assert (live["in_flight"], live["queue_depth"]) == (42, 730)
    assert 0 < live["rows_per_second"] <= 100 / load._MOMENT_SECONDS
    assert live["project"] == {"in_flight": 2, "queue_depth": 3}
    assert (live["source"], live["note"]) == ("processes", note)


def test_the_load_of_this_hosts_processes(client: FlaskClient, project: Project) -> None:
    _is_of_processes(_live(client, project), None)


class _Server:
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, list[str]], str | None]] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = lambda handler: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                outer.asked.append((parts.path, parse_qs(parts.query), self.headers.get("authorization")))
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    """What PROMETHEUS_URL names."""
    found = _Server()
    monkeypatch.setenv("PROMETHEUS_URL", f"http://reader:s3cret@127.0.0.1:{found.port}/prometheus/")
    settings.cache_clear()
    yield found
    found.server.shutdown()
    found.server.server_close()


def _says(status: int, text: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("location", "http://127.0.0.1:1/")
        handler.end_headers()
        handler.wfile.write(text.encode())

    return answer


def _result(**figures: str) -> str:
    found = [{"metric": {"figure": name}, "value": [1.0, value]} for name, value in figures.items()]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": found}})


def test_prometheus_is_asked_once_for_all_figures(client: FlaskClient, project: Project, server: _Server) -> None:
    server.answer = _says(200, _result(in_flight="12", queue_depth="3456", rows_per_second="78.9"))
    live = _live(client, project)
    assert live == {
        "in_flight": 12,
        "queue_depth": 3456,
        "rows_per_second": 78.9,
        "source": "prometheus",
        "note": None,
        "project": {"in_flight": 2, "queue_depth": 3},
    }
    ((path, query, credentials),) = server.asked
    assert path == "/prometheus/api/v1/query"
    assert all(part in query["query"][0] for part in prometheus.FIGURES.values())
    assert credentials is not None


def test_what_no_scrape_told_is_null(client: FlaskClient, project: Project, server: _Server) -> None:
    server.answer = _says(200, _result(in_flight="12", rows_per_second="NaN"))
    live = _live(client, project)
    assert (live["in_flight"], live["queue_depth"], live["rows_per_second"]) == (12, None, None)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (503, ""),
        (302, ""),
        (200, "<html>"),
        (200, "[]"),
        (200, '{"data": {"result": [{"metric": {}, "value": []}]}}'),
    ],
)
def test_without_figures_the_processes_tell_with_a_note(
    client: FlaskClient, project: Project, server: _Server, status: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = _says(status, text)
    _is_of_processes(_live(client, project), load.NOTE)
    # and it is left alone for a while
    _live(client, project)
    assert len(server.asked) == 1
    # and its password is nowhere
    assert "PROMETHEUS_URL" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_server_that_is_silent_is_not_waited_for(
    client: FlaskClient, project: Project, server: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus, "READ_SECONDS", 0.05)
    done = threading.Event()
    server.answer = lambda handler: bool(done.wait(30)) and None
    _is_of_processes(_live(client, project), load.NOTE)
    done.set()


def test_a_server_that_is_away_is_not_waited_for(
    client: FlaskClient, project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PROMETHEUS_URL", f"http://reader:s3cret@127.0.0.1:{free_port()}")
    settings.cache_clear()
    _is_of_processes(_live(client, project), load.NOTE)
    assert "s3cret" not in caplog.text
