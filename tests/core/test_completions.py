"""Live completions against the simulator: retries, fallbacks, streams however they end, and the rows they leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from core import completions, connections, crypto, db, identity, limits, mappings, stream_events, streaming
from core.dispatch import live
from core.egress import pool
from core.errors import InvalidInput, OverLimit, ProviderFailed, Unavailable
from core.identity import Principal
from core.settings import settings
from core.streaming import CallerGone
from simulator.handle import SimulatorHandle

PARAMS: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello nonce-core"}]}


@pytest.fixture(scope="module")
def started() -> Iterator[SimulatorHandle]:
    with SimulatorHandle() as handle:
        yield handle


@pytest.fixture
def simulator(started: SimulatorHandle) -> SimulatorHandle:
    started.reset()
    return started


@pytest.fixture
def principal(
    database_url: str, redis_url: str, simulator: SimulatorHandle, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Principal]:
    """A project with both providers at the simulator."""
    for name, value in {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "LLM_SERVICE_KEK": crypto.new_kek_text().reveal(),
        "LLM_SERVICE_EGRESS_ALLOW": "127.0.0.0/8",
        "LLM_SERVICE_OPENAI_BASE_URL": simulator.openai_url,
        "LLM_SERVICE_ANTHROPIC_BASE_URL": simulator.url,
    }.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    tenant = identity.create_tenant("test")
    project = identity.create_project(tenant.id, "test")
    key = identity.create_key(tenant.id, project.id, name="test")
    found = Principal(tenant.id, project.id, key.key.id)
    for provider in ("openai", "anthropic"):
        connections.put(found, {"providerType": provider, "apiKey": f"sk-test-{project.id.hex}"})
    yield found
    assert live.recorder().drain(10)
    settings.cache_clear()


def complete(principal: Principal, **changes: Any) -> dict[str, Any]:
    return dict(
        orjson.loads(completions.complete(principal, {**PARAMS, **changes}, request_id="req_test", timeout_seconds=10))
    )


def stream(principal: Principal, **changes: Any) -> Iterator[bytes]:
    params = {**PARAMS, "stream": True, **changes}
    return streaming.stream(principal, params, request_id="req_test", timeout_seconds=10)


def row() -> dict[str, Any]:
    """The only completion in the database, once it is written."""
    deadline = time.monotonic() + 5
    while True:
        with db.connection() as connection:
            found = connection.execute(
                "SELECT c.*, q.body AS request, r.body AS response FROM completion AS c"
                " LEFT JOIN completion_request AS q ON q.completion_id = c.id"
                " LEFT JOIN completion_response AS r ON r.completion_id = c.id"
            ).fetchall()
        if found or time.monotonic() > deadline:
            [only] = found
            return only
        time.sleep(0.01)


def chunks(events: bytes) -> list[dict[str, Any]]:
    return [
        orjson.loads(event.removeprefix(b"data: ")) for event in events.split(b"\n\n") if event.startswith(b"data: {")
    ]


@pytest.mark.parametrize("model", ["gpt-4o-mini", "claude-haiku-4-5"])
def test_a_completion_is_logged_before_it_is_given(principal: Principal, model: str) -> None:
    answer = complete(principal, model=model)

    logged = row()
    assert (logged["status"], logged["failed_attempts"]) == ("succeeded", None)
    assert orjson.loads(logged["response"]) == answer
    assert logged["input_tokens"] == answer["usage"]["prompt_tokens"]
    assert float(answer["cost_usd"]) == float(logged["cost_usd"]) > 0


def test_what_is_transient_is_tried_again(principal: Principal, simulator: SimulatorHandle) -> None:
    simulator.config(faults=[{"kind": "500", "count": 2}])

    assert complete(principal)["provider"] == "openai"

    logged = row()
    assert logged["attempts"] == 3
    # and why each of the calls before has failed
    calls = logged["failed_attempts"]
    assert [(call["model"], call["type"], call["provider_status"]) for call in calls] == [
        ("gpt-4o-mini", "provider_error", 500)
    ] * 2
    assert calls[0]["started_at"] < calls[0]["ended_at"] < calls[1]["started_at"]


@pytest.mark.parametrize("nothing_left", [OverLimit("no room", 60.0), Unavailable()])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_failed_call_is_logged_though_there_is_no_room_for_the_next(
    principal: Principal,
    simulator: SimulatorHandle,
    monkeypatch: pytest.MonkeyPatch,
    nothing_left: Exception,
    streamed: bool,
) -> None:
    # given: a call that fails, and limits that have no room for another try
    simulator.config(faults=[{"kind": "500", "count": 1}])
    allowed = iter([limits.acquire])

    def acquire(*given: Any, **options: Any) -> limits.Permit:
        for real in allowed:
            return real(*given, **options)
        raise nothing_left

    monkeypatch.setattr(limits, "acquire", acquire)
    # when
    with pytest.raises(ProviderFailed):
        b"".join(stream(principal)) if streamed else complete(principal)
    # then
    logged = row()
    assert (logged["status"], logged["attempts"], logged["provider_status"]) == ("failed", 1, 500)
    assert logged["failed_attempts"] is None


def test_the_last_failure_is_what_the_caller_hears(principal: Principal, simulator: SimulatorHandle) -> None:
    simulator.config(faults=[{"kind": "500"}])

    with pytest.raises(ProviderFailed) as caught:
        complete(principal)

    assert (caught.value.reason, caught.value.provider_status) == ("provider_error", 500)
    logged = row()
    assert (logged["status"], logged["error_type"], logged["attempts"]) == ("failed", "provider_error", 3)
    # The last one is the row's own error.
    assert len(logged["failed_attempts"]) == 2


@pytest.mark.parametrize("make", [lambda p, **c: complete(p, **c), lambda p, **c: list(stream(p, **c))])
def test_a_fallback_answers_when_the_first_is_out_of_quota(
    principal: Principal, simulator: SimulatorHandle, make: Callable[..., Any]
) -> None:
    mappings.put(principal, "fast", {"model": "gpt-4o-mini", "fallbacks": [{"model": "claude-haiku-4-5"}]})
    simulator.config(faults=[{"kind": "quota", "vendor": "openai"}])

    make(principal, model="fast")

    logged = row()
    assert (logged["provider"], logged["model_requested"], logged["status"]) == ("anthropic", "fast", "succeeded")
    (failed,) = logged["failed_attempts"]
    assert (failed["provider"], failed["model"], failed["type"]) == ("openai", "gpt-4o-mini", "quota_exhausted")


#: what a provider that is down does, and what one does to a wrong request; each meets a model of its own
DOWN = ("500", "502", "503", "504", "529", "429_no_hint", "reset", "close", "hang", "not_json", "error_in_200")
WRONG = ("400", "404", "413", "422", "context_length")
MODELS = (
    "gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-5", "gpt-5-mini", "gpt-5-nano", "gpt-5.1", "gpt-5.2",
    "gpt-5.4-mini", "gpt-5.5", "gpt-5.6-sol", "gpt-5.6-luna", "gpt-6-sol", "gpt-6-luna", "o3",
)  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True])
def test_what_makes_the_next_model_answer(principal: Principal, simulator: SimulatorHandle, streamed: bool) -> None:
    faults = dict(zip((*DOWN, *WRONG), MODELS, strict=True))
    for kind, model in faults.items():
        mappings.put(principal, kind, {"model": model, "fallbacks": [{"model": "claude-haiku-4-5"}]})
    simulator.config(faults=[{"kind": kind, "model": model} for kind, model in faults.items()])

    def answered_by(kind: str) -> str:
        # The first has two seconds of the three: one that hangs leaves the next its time.
        asked = {**PARAMS, "model": kind, "stream": streamed}
        given: dict[str, Any] = {"request_id": f"req_{kind}", "timeout_seconds": 3}
        try:
            if not streamed:
                return str(orjson.loads(completions.complete(principal, asked, **given))["model"])
            return str(chunks(b"".join(streaming.stream(principal, asked, **given)))[-1]["model"])
        except ProviderFailed as error:
            return f"nobody: {error.provider_status}"

    # When each is asked for
    with ThreadPoolExecutor(len(faults)) as threads:
        found = dict(zip(faults, threads.map(answered_by, faults), strict=True))

    # Then the next model answers for one that is down, never after a wrong request, and the log says who did
    refused = {"400": 400, "404": 404, "413": 413, "422": 422, "context_length": 400}
    assert found == {**dict.fromkeys(DOWN, "claude-haiku-4-5"), **{kind: f"nobody: {refused[kind]}" for kind in WRONG}}
    assert live.recorder().drain(10)
    with db.connection() as connection:
        rows = connection.execute("SELECT model_requested, model, provider, status FROM completion").fetchall()
    logged = {each["model_requested"]: (each["model"], each["provider"], each["status"]) for each in rows}
    assert logged == {
        **dict.fromkeys(DOWN, ("claude-haiku-4-5", "anthropic", "succeeded")),
        **{kind: (faults[kind], "openai", "failed") for kind in WRONG},
    }


@pytest.mark.parametrize("kind", ["401", "402", "403", "quota"])
def test_the_next_model_answers_for_a_key_that_stopped_working(
    principal: Principal, simulator: SimulatorHandle, kind: str
) -> None:
    mappings.put(principal, "fast", {"model": "gpt-4o-mini", "fallbacks": [{"model": "claude-haiku-4-5"}]})
    simulator.config(faults=[{"kind": kind, "vendor": "openai"}])
    assert complete(principal, model="fast")["provider"] == "anthropic"
    # One call told that the key is of no use.
    assert simulator.ledger()["by_model"] == {"gpt-4o-mini": 1, "claude-haiku-4-5": 1}


@pytest.mark.parametrize("make", [lambda p, **c: complete(p, **c), lambda p, **c: list(stream(p, **c))])
def test_no_fallback_for_a_wrong_request(
    principal: Principal, simulator: SimulatorHandle, make: Callable[..., Any]
) -> None:
    mappings.put(principal, "fast", {"model": "gpt-4o-mini", "fallbacks": [{"model": "claude-haiku-4-5"}]})
    simulator.config(faults=[{"kind": "400", "vendor": "openai"}])

    with pytest.raises(ProviderFailed):
        make(principal, model="fast")

    assert simulator.ledger()["calls"] == 1


def test_a_wrong_stream_is_refused_before_it_begins(principal: Principal) -> None:
    with pytest.raises(InvalidInput):
        stream(principal, temperature=9)


@pytest.mark.parametrize("model", ["gpt-4o-mini", "claude-haiku-4-5"])
@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_ends_with_its_cost_and_its_row_is_there_before_done(
    principal: Principal, model: str, usage: bool
) -> None:
    events = stream(principal, model=model, stream_options={"include_usage": usage})
    received = b""
    for piece in events:
        received += piece
        if b"[DONE]" in piece:
            break

    logged = row()
    found = chunks(received)
    text = "".join(choice["delta"].get("content") or "" for chunk in found for choice in chunk["choices"])
    assert received.endswith(b"data: [DONE]\n\n")
    assert "nonce-core" in text
    assert orjson.loads(logged["response"])["choices"][0]["message"]["content"] == text
    assert found[-1]["request_id"] == "req_test"
    assert float(found[-1]["cost_usd"]) == float(logged["cost_usd"]) > 0
    assert ("cost_usd" in found[0], bool(found[-1]["choices"])) == (False, not usage)
    assert logged["first_token_ms"] is not None


def test_a_stream_is_tried_again_before_its_first_event(principal: Principal, simulator: SimulatorHandle) -> None:
    simulator.config(faults=[{"kind": "503", "count": 1}])

    assert b"[DONE]" in b"".join(stream(principal))

    assert row()["attempts"] == 2


@pytest.mark.parametrize("model", ["gpt-4o-mini", "claude-haiku-4-5"])
def test_an_error_in_mid_stream_is_its_last_event(principal: Principal, simulator: SimulatorHandle, model: str) -> None:
    simulator.config(faults=[{"kind": "stream_error"}])

    received = b"".join(stream(principal, model=model))

    assert b"[DONE]" not in received
    assert chunks(received)[-1]["error"]["message"]
    assert simulator.ledger()["calls"] == 1
    logged = row()
    assert logged["status"] == "failed"
    assert logged["output_tokens"] > 0
    assert logged["cost_usd"] > 0


@pytest.mark.parametrize("model", ["gpt-4o-mini", "claude-haiku-4-5"])
@pytest.mark.parametrize("how", ["close", "throw"])
def test_a_caller_who_leaves_closes_the_providers_connection(
    principal: Principal, simulator: SimulatorHandle, model: str, how: str
) -> None:
    simulator.config(stream={"chunks": 100, "interval": 0.05})
    events = stream(principal, model=model)
    for _, _piece in zip(range(3), events, strict=False):
        pass

    if how == "close":
        events.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises(CallerGone):
            events.throw(CallerGone())  # type: ignore[attr-defined]

    simulator.wait_for(lambda ledger: ledger["abandoned"] == 1)
    logged = row()
    assert (logged["status"], logged["error_type"]) == ("cancelled", "cancelled")
    assert logged["input_tokens"] > 0
    assert orjson.loads(logged["response"])["choices"]


def test_a_choice_that_ends_early_does_not_hold_the_others_up() -> None:
    ended = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    other = b'data: {"choices":[{"index":1,"delta":{"content":"x"},"finish_reason":null}]}\n\n'

    assert stream_events.without_last(other + ended) == (other, ended)
    assert stream_events.without_last(ended + other) == (ended + other, b"")
    assert stream_events.without_last(ended) == (b"", ended)


def test_a_text_that_looks_like_an_end_is_none() -> None:
    told = orjson.dumps({"choices": [{"delta": {"content": '"finish_reason":"stop" "choices":[]'}}]})

    assert stream_events.without_last(b"data: " + told + b"\n\n")[1] == b""


def test_a_stream_that_ended_leaves_its_providers_connection_to_the_next(principal: Principal) -> None:
    # given
    pool.close_all()
    for model in ("gpt-4o-mini", "claude-sonnet-4-5"):
        # when
        events = b"".join(stream(principal, model=model))
        # then: it has no other call's bytes on it, and is kept
        assert events.endswith(b"data: [DONE]\n\n")
        assert sum(len(idle) for idle in pool._idle.values()) == 1
