"""Idempotency-Key where something is set up: uploads, the operator's routes, answers that hold a secret."""

from __future__ import annotations

import io
from typing import Any

import pytest
from flask.testing import FlaskClient

from core import crypto, db, identity
from core.kek_rotation import rotate_kek
from core.secret import Secret
from core.settings import settings
from tests.app.conftest import Caller

ONCE = {"Idempotency-Key": "once"}


@pytest.fixture
def bearer(caller: Caller) -> dict[str, str]:
    made = identity.create_key(caller.principal.tenant_id, caller.principal.project_id)
    return {"authorization": f"Bearer {made.pair.token.reveal()}"}


@pytest.fixture
def keys(caller: Caller) -> str:
    """The operator's route to the keys of a project."""
    return f"/v1/admin/tenants/{caller.headers['x-tenant-id']}/projects/{caller.headers['x-project-id']}/keys"


def upload(client: FlaskClient, headers: dict[str, str], data: bytes, name: str = "in.jsonl", **form: str) -> Any:
    # (the client makes up a boundary for each)
    given = {"purpose": "user_data", **form, "file": (io.BytesIO(data), name)}
    return client.post("/v1/files", data=given, headers=headers)


def rows(table: str) -> list[dict[str, Any]]:
    with db.connection() as connection:
        return connection.execute(f"SELECT * FROM {table}").fetchall()


def test_an_upload_that_is_sent_again_makes_no_second_file(client: FlaskClient, bearer: dict[str, str]) -> None:
    data = bytes(range(256)) * 10_000
    first = upload(client, bearer | ONCE, data)
    again = upload(client, bearer | ONCE, data)
    assert first.status_code == again.status_code == 200
    assert again.get_json() == first.get_json()
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert len(client.get("/v1/files", headers=bearer).get_json()["data"]) == 1


@pytest.mark.parametrize(
    "other", [{"data": b"others"}, {"name": "other.jsonl"}, {"purpose": "batch"}, {"more": "a part more"}]
)
def test_another_upload_under_the_same_key_is_refused(
    client: FlaskClient, bearer: dict[str, str], other: dict[str, Any]
) -> None:
    assert upload(client, bearer | ONCE, b"bytes").status_code == 200
    refused = upload(client, bearer | ONCE, **{"data": b"bytes", **other})
    assert refused.status_code == 409
    assert len(rows("file")) == 1


def test_an_upload_that_was_refused_leaves_its_key_free(client: FlaskClient, bearer: dict[str, str]) -> None:
    assert upload(client, bearer | ONCE, b"bytes", purpose="none").status_code == 400
    assert upload(client, bearer | ONCE, b"bytes").status_code == 200


def test_the_operator_makes_nothing_twice(client: FlaskClient, operator: dict[str, str], caller: Caller) -> None:
    projects = f"/v1/admin/tenants/{caller.headers['x-tenant-id']}/projects"
    for number, (path, table) in enumerate([("/v1/admin/tenants", "tenant"), (projects, "project")]):
        before = len(rows(table))
        headers = operator | {"Idempotency-Key": f"key-{number}"}
        answers = [client.post(path, json={"name": "New"}, headers=headers) for _ in range(2)]
        assert [answered.status_code for answered in answers] == [201, 201]
        assert answers[0].get_json() == answers[1].get_json()
        assert len(rows(table)) == before + 1
        assert client.post(path, json={"name": "Newer"}, headers=headers).status_code == 409


def test_the_operators_keys_are_apart_from_those_of_projects(
    client: FlaskClient, operator: dict[str, str], caller: Caller
) -> None:
    hook = {"url": "https://example.com/hook"}
    assert client.post("/v1/admin/tenants", json={"name": "New"}, headers=operator | ONCE).status_code == 201
    made = client.post("/v1/webhooks", json=hook, headers=caller.headers | ONCE)
    assert (made.status_code, made.headers.get("idempotent-replayed")) == (201, None)


def test_without_the_operators_token_no_answer_is_given_again(
    client: FlaskClient, operator: dict[str, str], caller: Caller, keys: str
) -> None:
    assert client.post(keys, json={"name": "a"}, headers=operator | ONCE).status_code == 201
    for headers in ({}, caller.headers, {"authorization": "Bearer wrong"}):
        assert client.post(keys, json={"name": "a"}, headers=headers | ONCE).status_code == 401


def test_a_new_key_is_shown_again_to_whoever_asks_again_and_is_nowhere_in_the_clear(
    client: FlaskClient, operator: dict[str, str], keys: str
) -> None:
    # given a key that was made, and rotated, and both answers were lost
    made = client.post(keys, json={"name": "a"}, headers=operator | ONCE).get_json()
    rotate, twice = f"{keys}/{made['id']}/rotate", {"Idempotency-Key": "twice"}
    rotated = client.post(rotate, json={}, headers=operator | twice).get_json()
    count = len(rows("api_key"))
    # when the operator asks again
    again = client.post(keys, json={"name": "a"}, headers=operator | ONCE)
    rotated_again = client.post(rotate, json={}, headers=operator | twice)
    # then
    assert (again.get_json(), rotated_again.get_json()) == (made, rotated)
    assert again.headers["cache-control"] == rotated_again.headers["cache-control"] == "no-store"
    assert len(rows("api_key")) == count
    kept = rows("idempotency_key")
    assert len(kept) == 2
    for row in kept:
        assert row["response"] is None
        assert not any(
            secret.encode() in bytes(row["ciphertext"])
            for answered in (made, rotated)
            for secret in (answered["secret_key"], answered["api_key"], answered["id"])
        )


def test_a_kept_secret_belongs_to_its_row(client: FlaskClient, operator: dict[str, str], keys: str) -> None:
    for key in ("one", "two"):
        client.post(keys, json={"name": "a"}, headers=operator | {"Idempotency-Key": key})
    with db.connection() as connection:
        connection.execute(
            "UPDATE idempotency_key SET ciphertext = other.ciphertext FROM idempotency_key other"
            " WHERE other.id <> idempotency_key.id"
        )
    answered = client.post(keys, json={"name": "a"}, headers=operator | {"Idempotency-Key": "one"})
    assert answered.status_code == 500
    assert "secret_key" not in answered.get_json()


@pytest.mark.parametrize("whose", ["project", "endpoint"])
def test_a_webhook_secret_is_rotated_once(client: FlaskClient, caller: Caller, whose: str) -> None:
    hook = client.post("/v1/webhooks", json={"url": "https://example.com/hook"}, headers=caller.headers).get_json()
    path = "/v1/webhooks/secret" if whose == "project" else f"/v1/webhooks/{hook['id']}/secret"
    secrets = [
        client.post(f"{path}/rotate", headers=caller.headers | ONCE).get_json()["secret"],
        client.post(f"{path}/rotate", headers=caller.headers | ONCE).get_json()["secret"],
        client.get(path, headers=caller.headers).get_json()["secret"],
    ]
    assert len(set(secrets)) == 1
    assert [row["response"] for row in rows("idempotency_key")] == [None]
    assert client.post(f"{path}/rotate", headers=caller.headers).get_json()["secret"] != secrets[0]


def test_kept_secrets_move_to_a_new_key_encryption_key(
    client: FlaskClient, operator: dict[str, str], caller: Caller, keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use(kek: str) -> None:
        monkeypatch.setenv("LLM_SERVICE_KEK", kek)
        settings.cache_clear()

    # given answers of the operator's and of a project's under the first key-encryption key
    made = client.post(keys, json={"name": "a"}, headers=operator | ONCE).get_json()
    client.post("/v1/webhooks/secret/rotate", headers=caller.headers | ONCE)
    # when it is rotated, and taken out
    both = crypto.new_kek_text(settings().kek_text()).reveal()
    use(both)
    assert rotate_kek() == 3
    use(next(part for part in both.split(",") if part.startswith("2:")))
    # then
    assert set(crypto.parse_kek_text(Secret(both))) == {1, 2}
    assert client.post(keys, json={"name": "a"}, headers=operator | ONCE).get_json() == made
    assert client.post("/v1/webhooks/secret/rotate", headers=caller.headers | ONCE).status_code == 200
