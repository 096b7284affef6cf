"""Traces of a running service, as a collector gets them; and that nothing of them is loaded while they are off."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from core import tracing_otel
from launcher.client import wait_until
from launcher.house import House
from tests.e2e.batches import rows
from tests.e2e.receiver import Receiver

PROMPT = "a prompt that nobody may read"


class Collector:
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        self.raw = b""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                outer._take(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _take(self, body: bytes) -> None:
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            name = next(each.value.string_value for each in resource.resource.attributes if each.key == "service.name")
            self.spans += [(name, span) for scope in resource.scope_spans for span in scope.spans]

    def find(self, process: str, name: str) -> list[Span]:
        return [span for of, span in self.spans if of == f"llm-service-{process}" and span.name == name]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def attributes(span: Span) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def _claimed(collector: Collector) -> int:
    """Rows that the scheduler says it has claimed."""
    return sum(attributes(claim)["llm_service.rows"] for claim in collector.find("scheduler", "dispatch"))


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


@pytest.mark.e2e
def test_a_request_its_batch_each_row_its_calls_and_the_webhook(
    collector: Collector, make_house: Callable[..., House]
) -> None:
    # given a service that traces everything, a live stream that fails for good, and a batch whose rows fail once
    house = make_house(
        environment={
            "LLM_SERVICE_API_PROCESSES": "1",
            "LLM_SERVICE_TRACES_URL": collector.url,
            "LLM_SERVICE_TRACES_RATIO": "1",
        },
        simulator={"faults": [{"kind": "400", "probability": 1.0}]},
    )
    client = house.client
    with Receiver() as receiver:
        question = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": PROMPT}], "stream": True}
        refused = client.post("/v1/completions", question)
        assert refused.json()["provider_status"] == 400, refused.text
        house.simulator.config(faults=[{"kind": "500", "first_attempts": 1, "probability": 1.0}])
        asked = rows("traced", 3, models=["gpt-4o-mini"])
        for row in asked:
            row["messages"][0]["content"] += f" {PROMPT}"
        created = client.post(
            "/v1/batch",
            {"requests": asked, "webhook_url": receiver.url, "processing": "realtime"},
            headers={"x-request-id": "the-request-1"},
        )
        assert created.status_code == 201, created.text
        batch_id = created.json()["id"]
        client.wait_for_batch(batch_id)
        # each process sends what it has every two seconds
        wait_until(lambda: len(collector.find("worker", "webhook")) == 1, 30)
        wait_until(lambda: len(collector.find("worker", "row")) == 6, 30)
        wait_until(lambda: _claimed(collector) == 6, 30)
        wait_until(lambda: len(collector.find("api", "POST /v1/batch")) == 1, 30)
    batch_trace = tracing_otel.trace_id(batch_id).to_bytes(16)

    # then the request's trace follows from its id, and leads to the batch's
    (request,) = collector.find("api", "POST /v1/batch")
    assert request.trace_id == tracing_otel.trace_id("the-request-1").to_bytes(16)
    assert [link.trace_id for link in request.links] == [batch_trace]
    said = attributes(request)
    assert (said["llm_service.request_id"], said["llm_service.batch_id"]) == ("the-request-1", batch_id)
    assert (said["http.route"], said["http.response.status_code"]) == ("/v1/batch", 201)
    # and the scheduler's claims and the webhook are in it
    claims = collector.find("scheduler", "dispatch")
    (webhook,) = collector.find("worker", "webhook")
    assert {span.trace_id for span in (*claims, webhook)} == {batch_trace}
    assert attributes(webhook)["http.response.status_code"] == 200
    # and each row has one trace with both of its tries, each with its call
    tries = collector.find("worker", "row")
    assert len({span.trace_id for span in tries}) == 3
    assert all(attributes(span)["llm_service.batch_id"] == batch_id for span in tries)
    assert all([link.trace_id for link in span.links] == [batch_trace] for span in tries)
    calls = {span.parent_span_id: span for span in collector.find("worker", "chat gpt-4o-mini")}
    for span in tries:
        call = calls[span.span_id]
        assert call.trace_id == span.trace_id
        if attributes(span)["llm_service.attempt"] == 1:
            assert (attributes(call)["http.response.status_code"], attributes(call)["error.type"]) == (
                500,
                "provider_error",
            )
        else:
            assert attributes(call)["gen_ai.usage.output_tokens"] > 0
            assert attributes(span)["llm_service.request_id"].startswith("req_")
    # and a live call is the child of its request, also when it is streamed
    (live,) = collector.find("api", "POST /v1/completions")
    assert [call.parent_span_id for call in collector.find("api", "chat gpt-4o-mini")] == [live.span_id]
    # and no span says what was asked, with which key, or where to
    for secret in (PROMPT, receiver.url, *client.headers.values(), client.token):
        if secret not in (client.tenant_id, client.project_id):
            assert secret.encode() not in collector.raw
    assert not any(span.events for _, span in collector.spans)


def test_a_trace_is_sampled_as_one() -> None:
    names = [f"row {number}" for number in range(4000)]
    ids = [tracing_otel.trace_id(name) for name in names]
    assert ids == [tracing_otel.trace_id(name) for name in names]
    assert not any(tracing_otel.sampled(each, 0.0) for each in ids)
    assert all(tracing_otel.sampled(each, 1.0) for each in ids)
    assert 0.2 < sum(tracing_otel.sampled(each, 0.25) for each in ids) / len(ids) < 0.3
    # and whoever is sampled at a quarter is sampled at a half
    assert all(tracing_otel.sampled(each, 0.5) for each in ids if tracing_otel.sampled(each, 0.25))


_LOADED = """
import sys
import {module}
from core import tracing
tracing.configure("test")
with tracing.root("row", tracing.CONSUMER, trace="row 1") as span, tracing.call("chat", "openai", "gpt-4o") as call:
    span.set({{"a": 1}}); call.failed("x"); call.end()
assert tracing.current() is span is call is tracing.NOTHING
print([name for name in sys.modules if name.startswith({unwanted})])
"""
#: redis-py looks for the SDK's metrics by itself, where the packages are installed.
_OF_TRACES = ("core.tracing_otel", "opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.proto", "google")
#: It takes half of a process's start, and only the API needs it.
_OF_SESSIONS = ("sqlalchemy", "sqlmodel")


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("app.wsgi", _OF_TRACES),
        ("workers.execute", _OF_TRACES + _OF_SESSIONS),
        ("scheduler.dispatch", _OF_TRACES + _OF_SESSIONS),
    ],
)
def test_nothing_is_loaded_that_is_not_needed(module: str, unwanted: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOADED.format(module=module, unwanted=unwanted)],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_without_the_packages_a_process_says_what_is_missing() -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from core import tracing\ntracing.configure('worker')\nprint('started')"
    )
    env = {"PYTHONPATH": ":".join(sys.path), "LLM_SERVICE_TRACES_URL": "http://127.0.0.1:1/v1/traces"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "requirements-otel.txt" in done.stderr
    assert "started" not in done.stdout
    assert json.dumps(done.stderr).count("Traceback") == 0


def test_an_error_is_told_by_its_type_only(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a tracer that sends nowhere, and something that fails with a secret in its message
    monkeypatch.setattr(tracing_otel, "MAX_WAITING", 512)
    monkeypatch.setenv("LLM_SERVICE_TRACES_URL", "http://127.0.0.1:1/v1/traces")
    tracer = tracing_otel.OpenTelemetry("test")
    monkeypatch.setattr(tracer, "_ratio", 1.0)
    ended: list[Any] = []
    monkeypatch.setattr(tracer._provider._active_span_processor, "on_end", ended.append)
    with pytest.raises(ValueError), tracer.start("row", "consumer", "row 1", None, {}):
        raise ValueError("sk-secret")
    assert "sk-secret" not in ended[0].to_json()
    assert ended[0].attributes == {"error.type": "ValueError"}
