"""Credentials: one answer for everything that is wrong with them."""

from __future__ import annotations

from uuid import UUID

import pytest
from flask.testing import FlaskClient

from core import identity
from core.settings import settings
from tests.app.conftest import Caller


def _answer(client: FlaskClient, headers: dict[str, str]) -> tuple[int, dict[str, object]]:
    answered = client.get("/v1/batch", headers=headers)
    found = answered.get_json()
    found.pop("request_id", None)
    return answered.status_code, found


def test_four_right_headers_are_taken(client: FlaskClient, caller: Caller) -> None:
    assert _answer(client, caller.headers)[0] == 200


def test_every_wrong_credential_gets_the_same_answer(client: FlaskClient, caller: Caller, stranger: Caller) -> None:
    # given every way to get them wrong
    wrong: list[dict[str, str]] = [{}]
    for name in caller.headers:
        wrong.append({other: value for other, value in caller.headers.items() if other != name})
        wrong.append({**caller.headers, name: ""})
        wrong.append({**caller.headers, name: "' OR 1=1 --"})
        wrong.append({**caller.headers, name: stranger.headers[name]})
        last = "1" if caller.headers[name].endswith("0") else "0"
        wrong.append({**caller.headers, name: caller.headers[name][:-1] + last})
        wrong.append({**caller.headers, name: f"{caller.headers[name]},{caller.headers[name]}"})
        wrong.append({**caller.headers, name: "x" * 8000})
        wrong.append({**caller.headers, name: "ü"})
    # then all answers are one
    answers = [_answer(client, headers) for headers in wrong]
    assert {status for status, _ in answers} == {401}
    assert all(found == answers[0][1] for _, found in answers)


def test_a_revoked_key_is_refused(client: FlaskClient, caller: Caller) -> None:
    assert _answer(client, caller.headers)[0] == 200
    identity.revoke_key(caller.principal.tenant_id, caller.principal.key_id)
    assert _answer(client, caller.headers)[0] == 401


def test_credentials_come_before_the_body(client: FlaskClient) -> None:
    answered = client.post("/v1/batch", data=b"[" * 100_000, content_type="application/json")
    assert answered.status_code == 401


def test_options_tells_the_methods_and_nothing_else(client: FlaskClient) -> None:
    answered = client.options("/v1/batch")
    assert answered.status_code == 200
    assert "POST" in answered.headers["Allow"]
    assert "Access-Control-Allow-Origin" not in answered.headers


def test_the_operators_life_of_a_key(client: FlaskClient, operator: dict[str, str]) -> None:
    # given a tenant, a project and a key made over HTTP
    tenant = client.post("/v1/admin/tenants", json={"name": "Example"}, headers=operator).get_json()
    projects = f"/v1/admin/tenants/{tenant['id']}/projects"
    project = client.post(projects, json={"name": "web"}, headers=operator).get_json()
    keys = f"{projects}/{project['id']}/keys"
    made = client.post(keys, json={"name": "backend"}, headers=operator)
    assert made.status_code == 201
    key = made.get_json()
    place = {"x-tenant-id": tenant["id"], "x-project-id": project["id"]}
    first = {"x-api-key": key["api_key"], "x-secret-key": key["secret_key"], **place}
    assert _answer(client, first)[0] == 200
    # when it is rotated
    rotated = client.post(f"{keys}/{key['id']}/rotate", headers=operator).get_json()
    second = {"x-api-key": rotated["api_key"], "x-secret-key": rotated["secret_key"], **place}
    # then both work
    assert [_answer(client, headers)[0] for headers in (first, second)] == [200, 200]
    # and when the old one is revoked, only the new one
    assert client.post(f"{keys}/{key['id']}/revoke", headers=operator).status_code == 200
    assert [_answer(client, headers)[0] for headers in (first, second)] == [401, 200]
    # and no list shows a secret
    listed = client.get(keys, headers=operator)
    assert {each["id"] for each in listed.get_json()["data"]} == {key["id"], rotated["id"]}
    assert not any(secret in listed.text for secret in (key["secret_key"], rotated["secret_key"], key["api_key"]))


def test_the_admin_api_takes_only_the_operators_token(client: FlaskClient, caller: Caller) -> None:
    for headers in ({}, caller.headers, {"authorization": "Bearer wrong"}, {"authorization": "Bearer "}):
        assert client.get("/v1/admin/tenants", headers=headers).status_code == 401


def test_a_refusal_says_which_credentials_are_taken(client: FlaskClient, operator: dict[str, str]) -> None:
    # of a project
    refused = client.get("/v1/batch")
    assert refused.headers["www-authenticate"].startswith("ApiKey")
    for header in ("x-api-key", "x-secret-key", "x-tenant-id", "x-project-id"):
        assert header in refused.get_json()["detail"]
    # of the operator
    assert client.get("/v1/admin/tenants").headers["www-authenticate"].startswith("Bearer")


def test_without_a_token_in_the_environment_the_admin_api_is_off(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_SERVICE_ADMIN_TOKEN", "")
    settings.cache_clear()
    for given in ("Bearer ", "Bearer", "Bearer x"):
        assert client.get("/v1/admin/tenants", headers={"authorization": given}).status_code == 401


def test_ids_of_other_places_are_404_for_the_operator_too(
    client: FlaskClient, operator: dict[str, str], caller: Caller, stranger: Caller
) -> None:
    def path(tenant: Caller, project: Caller, key: Caller) -> str:
        return (
            f"/v1/admin/tenants/tenant_{tenant.principal.tenant_id.hex}/projects/proj_{project.principal.project_id.hex}"
            f"/keys/key_{key.principal.key_id.hex}/revoke"
        )

    assert client.post(path(caller, caller, stranger), headers=operator).status_code == 404
    assert client.post(path(caller, stranger, caller), headers=operator).status_code == 404
    assert client.post(path(stranger, caller, caller), headers=operator).status_code == 404
    last = path(caller, caller, caller).replace(caller.principal.key_id.hex, UUID(int=(1 << 128) - 1).hex)
    assert client.post(last, headers=operator).status_code == 404
