"""What a tenant sends and what a provider answers is parsed once and written once for each who gets it, by any way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient

from core import connections, identity
from core.dispatch import live
from core.settings import settings
from simulator.handle import SimulatorHandle

#: In the prompt, and the simulator repeats it in its answer.
MARK = b"nonce-once"
PROMPT = [{"role": "user", "content": "hello nonce-once"}]


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorHandle]:
    with SimulatorHandle() as handle:
        yield handle


@pytest.fixture
def token(house: None, simulator: SimulatorHandle, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A project's token, with both providers at the simulator."""
    monkeypatch.setenv("LLM_SERVICE_OPENAI_BASE_URL", simulator.openai_url)
    monkeypatch.setenv("LLM_SERVICE_ANTHROPIC_BASE_URL", simulator.url)
    settings.cache_clear()
    tenant = identity.create_tenant("once")
    project = identity.create_project(tenant.id, "once")
    made = identity.create_key(tenant.id, project.id, name="once")
    principal = identity.authenticate_token(made.pair.token.reveal())
    for provider in ("openai", "anthropic"):
        connections.put(principal, {"providerType": provider, "apiKey": f"sk-test-{project.id.hex}"})
    yield made.pair.token.reveal()
    assert live.recorder().drain(10)


@pytest.mark.parametrize("model", ["gpt-4o-mini", "claude-sonnet-4-5"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_each_body_is_parsed_once_and_written_once_for_each_reader(
    client: FlaskClient, token: str, path: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    parsed: list[bytes] = []
    written: list[bytes] = []
    loads, dumps = orjson.loads, orjson.dumps

    def counted_loads(text: Any) -> Any:
        if MARK in bytes(text if isinstance(text, bytes | bytearray) else text.encode()):
            parsed.append(bytes(text) if isinstance(text, bytes | bytearray) else text.encode())
        return loads(text)

    def counted_dumps(*arguments: Any, **options: Any) -> bytes:
        text = dumps(*arguments, **options)
        if MARK in text:
            written.append(text)
        return text

    body = dumps({"model": model, "max_tokens": 20, "messages": PROMPT})
    monkeypatch.setattr(orjson, "loads", counted_loads)
    monkeypatch.setattr(orjson, "dumps", counted_dumps)
    # when
    answer = client.post(
        path, data=body, headers={"authorization": f"Bearer {token}", "content-type": "application/json"}
    )
    monkeypatch.undo()
    assert answer.status_code == 200, answer.text
    # then: the request and the provider's answer, once each
    assert parsed[0] == body
    assert len(parsed) == 2
    # and: to the provider, to the log (request, answer, the row with both), and to the caller if his form is another
    assert len(written) == 4 + (path == "/v1/messages")
