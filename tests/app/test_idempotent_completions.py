"""A completion and its answer under an Idempotency-Key are one commit: no crash between them makes a second call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import idempotent
from core import db, idempotency, identity
from core.dispatch import live
from core.settings import settings
from simulator.handle import SimulatorHandle
from tests.app.conftest import Caller, add_provider

ASKED = [{"role": "user", "content": "hello nonce-once"}]
CALLS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": "gpt-4o-mini", "messages": ASKED},
    "/v1/chat/completions": {"model": "gpt-4o-mini", "messages": ASKED},
    "/v1/messages": {"model": "gpt-4o-mini", "messages": ASKED, "max_tokens": 50},
}


@pytest.fixture
def simulator(house: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatorHandle]:
    with SimulatorHandle() as handle:
        monkeypatch.setenv("LLM_SERVICE_OPENAI_BASE_URL", handle.openai_url)
        settings.cache_clear()
        yield handle
        assert live.recorder().drain(10)


@pytest.mark.parametrize("path", CALLS)
def test_a_process_that_dies_after_the_commit_has_kept_the_answer(
    client: FlaskClient, caller: Caller, simulator: SimulatorHandle, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a process that dies as soon as the completion is committed: nothing of ours runs any more
    add_provider(client, caller)
    made = identity.create_key(caller.principal.tenant_id, caller.principal.project_id)
    credentials = (
        caller.headers if path == "/v1/completions" else {"authorization": f"Bearer {made.pair.token.reveal()}"}
    )
    headers = {**credentials, "Idempotency-Key": "once"}

    def die(*_: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr(idempotent, "raw_answer", die)
        dying.setattr("app.resources.completions.raw_answer", die)
        dying.setattr("app.openai_surface.chat.raw_answer", die)
        dying.setattr("app.anthropic_surface.messages.raw_answer", die)
        # and does not even get to release the key
        dying.setattr(idempotent, "_release", lambda _: None)
        with pytest.raises(SystemExit):
            client.post(path, json=CALLS[path], headers=headers)
    # when the caller asks again with its key
    again = client.post(path, json=CALLS[path], headers=headers)
    # then it gets the answer that was paid for
    assert again.status_code == 200, again.text
    assert again.headers["idempotent-replayed"] == "true"
    assert "nonce-once" in again.text
    assert simulator.ledger()["calls"] == 1
    with db.connection() as connection:
        assert connection.execute("SELECT count(*) AS n FROM completion").fetchone() == {"n": 1}
    # and another body under the key is still a conflict
    other = client.post(path, json={**CALLS[path], "max_tokens": 51}, headers=headers)
    assert other.status_code == 409


def test_the_first_answer_and_its_repetition_are_the_same(
    client: FlaskClient, caller: Caller, simulator: SimulatorHandle
) -> None:
    add_provider(client, caller)
    headers = {**caller.headers, "Idempotency-Key": "same"}
    first, again = (client.post("/v1/completions", json=CALLS["/v1/completions"], headers=headers) for _ in range(2))
    assert first.data == again.data
    assert "idempotent-replayed" not in first.headers


@pytest.mark.parametrize("path", CALLS)
def test_a_key_in_use_may_be_tried_again_and_a_reused_one_may_not(
    client: FlaskClient, caller: Caller, simulator: SimulatorHandle, path: str
) -> None:
    add_provider(client, caller)
    made = identity.create_key(caller.principal.tenant_id, caller.principal.project_id)
    bearer = {"authorization": f"Bearer {made.pair.token.reveal()}"}
    headers = {**(caller.headers if path == "/v1/completions" else bearer), "Idempotency-Key": "busy"}
    # given a request that is being answered
    first = idempotency.claim(caller.principal, "busy")
    assert isinstance(first, idempotency.Claim)
    # then a second one is told to come again
    busy = client.post(path, json=CALLS[path], headers=headers)
    assert (busy.status_code, busy.headers["x-should-retry"]) == (409, "true")
    # and one with another body, after the answer, not to
    first.release()
    assert client.post(path, json=CALLS[path], headers=headers).status_code == 200
    other = client.post(path, json={**CALLS[path], "max_tokens": 51}, headers=headers)
    assert (other.status_code, other.headers["x-should-retry"]) == (409, "false")


def test_embeddings_are_paid_for_once(client: FlaskClient, caller: Caller, simulator: SimulatorHandle) -> None:
    add_provider(client, caller)
    made = identity.create_key(caller.principal.tenant_id, caller.principal.project_id)
    headers = {"authorization": f"Bearer {made.pair.token.reveal()}", "Idempotency-Key": "vectors"}
    asked = {"model": "text-embedding-3-small", "input": "hello", "dimensions": 4}
    first, again = (client.post("/v1/embeddings", json=asked, headers=headers) for _ in range(2))
    assert first.status_code == 200, first.text
    assert first.data == again.data
    assert again.headers["idempotent-replayed"] == "true"
    with db.connection() as connection:
        assert connection.execute("SELECT count(*) AS n FROM completion").fetchone() == {"n": 1}
    assert client.post("/v1/embeddings", json={**asked, "input": "other"}, headers=headers).status_code == 409


def test_embeddings_whose_process_dies_after_the_commit_are_kept(
    client: FlaskClient, caller: Caller, simulator: SimulatorHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_provider(client, caller)
    made = identity.create_key(caller.principal.tenant_id, caller.principal.project_id)
    headers = {"authorization": f"Bearer {made.pair.token.reveal()}", "Idempotency-Key": "vectors"}
    asked = {"model": "text-embedding-3-small", "input": "hello", "dimensions": 4}

    def die(*_: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr("app.openai_surface.embeddings.raw_answer", die)
        dying.setattr(idempotent, "_release", lambda _: None)
        with pytest.raises(SystemExit):
            client.post("/v1/embeddings", json=asked, headers=headers)
    again = client.post("/v1/embeddings", json=asked, headers=headers)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert len(again.get_json()["data"][0]["embedding"]) == 4
