"""Errors as the `anthropic` package knows them, its retries, credentials, and the list of models in its form."""

from __future__ import annotations

import time
from typing import Any

import anthropic
import pytest
import requests

from launcher.house import House

pytestmark = pytest.mark.e2e


def ask(text: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"max_tokens": 100, "messages": [{"role": "user", "content": text}], **fields}


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        (
            ask(model="claude-haiku-5-5", extra_body={"temperature": 0.3}),
            400,
            "temperature: claude-haiku-5-5 does not take temperature",
        ),
        (ask(model="gpt-4o", stop_sequences=["a"] * 5), 400, "stop_sequences: gpt-4o takes at most 4"),
        (ask(model="gpt-4o", max_tokens=0), 400, "max_tokens: gpt-4o takes max_tokens of at least 1"),
        (ask(model="gpt-4o", extra_body={"top_k": 3}), 400, "top_k: gpt-4o does not take top_k"),
        (ask(model="llama-9"), 404, "No provider serves the model"),
        (ask(model="claude-haiku-5-5", messages=[]), 400, "messages: at least one message"),
        (ask(model="claude-haiku-5-5", system="x", messages=[{"role": "user", "content": [{"type": "z"}]}]), 400, ""),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_wrong_request(
    claude: anthropic.Anthropic, fields: dict[str, Any], status: int, message: str, streamed: bool
) -> None:
    with pytest.raises(anthropic.APIStatusError) as refused:
        claude.messages.create(stream=streamed, **fields)
    error = refused.value
    assert error.status_code == status
    assert error.type == ("not_found_error" if status == 404 else "invalid_request_error")
    assert message in error.message
    body: Any = error.body
    assert body["type"] == "error"
    assert body["request_id"] == error.request_id == error.response.headers["request-id"]


def test_credentials(claude: anthropic.Anthropic, service: House) -> None:
    # The key as x-api-key, as a bearer, and wrong
    url, token = service.url + "/v1/models", service.client.token
    version = {"anthropic-version": "2023-06-01"}
    for headers in ({"x-api-key": token}, {"authorization": f"Bearer {token}"}, service.client.headers):
        assert requests.get(url, headers={**version, **headers}, timeout=10).json()["data"][0]["type"] == "model"
    with pytest.raises(anthropic.AuthenticationError) as refused:
        claude.with_options(api_key=token[:-1] + "x").messages.create(model="claude-haiku-5-5", **ask())
    assert refused.value.type == "authentication_error"
    assert requests.post(service.url + "/v1/messages", json={}, timeout=10).status_code == 401


@pytest.mark.parametrize(
    ("kind", "model", "expected"),
    [
        ("429", "claude-haiku-4-5", anthropic.RateLimitError),
        ("529", "claude-opus-4-5", anthropic.OverloadedError),
        ("500", "gpt-4o-mini", anthropic.InternalServerError),
    ],
)
def test_what_a_provider_fails_with(
    claude: anthropic.Anthropic, service: House, kind: str, model: str, expected: type[anthropic.APIStatusError]
) -> None:
    # Given a provider that fails for good, and a package that does not try again
    service.simulator.config(faults=[{"kind": kind, "model": model}])
    with pytest.raises(expected) as failed:
        claude.with_options(max_retries=0).messages.create(model=model, **ask())
    assert failed.value.status_code == int(kind)
    assert failed.value.response.headers["x-should-retry"] == "true"
    assert ("retry-after" in failed.value.response.headers) is (kind == "429")


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "gpt-4o-mini"])
@pytest.mark.parametrize(
    ("kind", "expected", "type_", "cause"),
    [
        ("400", anthropic.BadRequestError, "invalid_request_error", None),
        ("402", anthropic.APIStatusError, "billing_error", None),
        ("403", anthropic.PermissionDeniedError, "permission_error", None),
        ("404", anthropic.NotFoundError, "not_found_error", None),
        ("413", anthropic.APIStatusError, "request_too_large", None),
        ("422", anthropic.BadRequestError, "invalid_request_error", None),
        ("quota", anthropic.APIStatusError, "billing_error", "enforced_spend_limit_reached"),
        ("context_length", anthropic.BadRequestError, "invalid_request_error", None),
    ],
)
def test_what_a_provider_refuses_for_good(
    claude: anthropic.Anthropic,
    service: House,
    model: str,
    kind: str,
    expected: type[anthropic.APIStatusError],
    type_: str,
    cause: str | None,
) -> None:
    # Given a project of its own, for some of these stop a connection
    caller = service.new_client()
    service.simulator.config(faults=[{"kind": kind}])
    # When the package, which tries again what may pass, asks
    with pytest.raises(expected) as refused:
        claude.with_options(api_key=caller.token).messages.create(model=model, **ask())
    # Then it is told so once, with Claude's own cause
    assert refused.value.type == type_
    assert refused.value.error_code == (cause if model.startswith("claude") else None)
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert service.simulator.ledger()["calls"] == 1


def test_the_package_tries_again_and_is_answered(claude: anthropic.Anthropic, service: House) -> None:
    # Given a provider that is overloaded until this service has given up once
    service.simulator.config(faults=[{"kind": "529", "model": "claude-sonnet-4-6", "count": 3}])
    message = claude.messages.create(model="claude-sonnet-4-6", **ask("nonce-retried"))
    assert "nonce-retried" in message.content[0].text
    assert service.simulator.nonces()["nonce-retried"]["calls"] == 4


@pytest.mark.parametrize("model", ["claude-opus-4-6", "gpt-4.1"])
def test_a_stream_that_fails_half_way_ends_in_an_error_event(
    claude: anthropic.Anthropic, service: House, model: str
) -> None:
    service.simulator.config(faults=[{"kind": "stream_error", "model": model}])
    seen: list[str] = []
    stream = claude.messages.create(model=model, stream=True, **ask())
    with pytest.raises(anthropic.APIStatusError) as failed:
        seen.extend(event.type for event in stream)
    assert seen[0] == "message_start"
    assert "message_stop" not in seen
    body: Any = failed.value.body
    assert body["error"]["type"] in ("overloaded_error", "api_error")
    assert body["request_id"]


def test_a_caller_who_leaves_stops_the_providers_call(claude: anthropic.Anthropic, service: House) -> None:
    service.simulator.config(stream={"chunks": 50, "interval": 0.2})
    started = time.monotonic()
    with claude.messages.stream(model="claude-opus-5", **ask("nonce-left " * 20)) as stream:
        next(iter(stream.text_stream))
    service.simulator.wait_for(lambda ledger: ledger["in_flight"] == 0, timeout_seconds=8)
    assert time.monotonic() - started < 8


def test_models_in_the_callers_form(claude: anthropic.Anthropic, service: House) -> None:
    listed = [model.id for model in claude.models.list(limit=5)]
    assert {"claude-haiku-5-5", "gpt-4o"} <= set(listed)
    assert len(listed) == len(set(listed))
    page = claude.models.list(limit=3)
    assert page.has_more
    assert [model.id for model in claude.models.list(limit=3, before_id=listed[5]).data] == listed[2:5]
    model: Any = claude.models.retrieve("claude-haiku-5-5")
    assert model.max_tokens == 128_000
    assert model.capabilities.thinking.types.adaptive.supported
    assert not model.capabilities.thinking.types.enabled.supported
    assert claude.models.retrieve("gpt-4o").capabilities is None
    with pytest.raises(anthropic.NotFoundError, match="llama-9"):
        claude.models.retrieve("llama-9")
    # Without the version header the same path answers in our own form
    own = service.client.get("/v1/models").json()
    assert own["object"] == "list"
