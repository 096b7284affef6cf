"""Providers, mappings and models over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from flask.testing import FlaskClient

from tests.app.conftest import Caller, add_provider

KEY = "sk-test-0123456789abcdef"


class _Provider(BaseHTTPRequestHandler):
    """Knows one key; answers /models as OpenAI and /v1/models as Anthropic do."""

    def do_GET(self) -> None:
        known = self.headers.get("authorization") == f"Bearer {KEY}" or self.headers.get("x-api-key") == KEY
        good = known and (self.path == "/models" or self.headers.get("anthropic-version"))
        body = b'{"data": [{"id": "gpt-4"}]}' if good else b'{"error": {"message": "bad key ' + KEY.encode() + b'"}}'
        self.send_response(200 if good else 401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def provider_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_key_goes_in_and_never_comes_out(client: FlaskClient, caller: Caller) -> None:
    # given a stored key
    made = client.post("/v1/providers", json={"providerType": "openai", "apiKey": KEY}, headers=caller.headers)
    assert made.status_code == 201
    provider = made.get_json()
    # then every answer shows its last four characters and no more
    one = client.get(f"/v1/providers/{provider['id']}", headers=caller.headers)
    listed = client.get("/v1/providers", headers=caller.headers)
    assert one.get_json() == provider == listed.get_json()["data"][0]
    assert provider["apiKeyHint"] == KEY[-4:]
    assert not any(KEY in answered.text for answered in (made, one, listed))


def test_the_same_type_again_replaces_the_key(client: FlaskClient, caller: Caller) -> None:
    first = add_provider(client, caller)
    again = client.post(
        "/v1/providers", json={"providerType": "openai", "apiKey": "sk-another-key-0000"}, headers=caller.headers
    )
    assert again.status_code == 200
    assert (again.get_json()["id"], again.get_json()["apiKeyHint"]) == (first["id"], "0000")


def test_changed_and_deleted(client: FlaskClient, caller: Caller) -> None:
    path = f"/v1/providers/{add_provider(client, caller)['id']}"
    changed = client.patch(path, json={"limits": {"requestsPerMinute": 7}}, headers=caller.headers)
    assert changed.get_json()["limits"]["requestsPerMinute"] == 7
    assert client.delete(path, headers=caller.headers).status_code == 204
    assert client.get(path, headers=caller.headers).status_code == 404


def test_a_test_calls_the_provider_with_the_stored_key(client: FlaskClient, caller: Caller, provider_url: str) -> None:
    for kind in ("openai", "anthropic"):
        # given a key that works
        add_provider(client, caller, providerType=kind, apiKey=KEY, baseUrl=provider_url)
        answered = client.post("/v1/providers/test", json={"providerType": kind}, headers=caller.headers)
        # then
        found = answered.get_json()
        assert answered.status_code == 200
        assert (found["ok"], found["providerType"], found["models"]) == (True, kind, ["gpt-4"])
        assert found["latencyMs"] >= 0


def test_a_test_says_what_is_wrong_without_the_key(client: FlaskClient, caller: Caller, provider_url: str) -> None:
    # given a key that the provider refuses and quotes
    add_provider(client, caller, apiKey="sk-wrong-0123456789", baseUrl=provider_url)
    found = client.post("/v1/providers/test", json={"providerType": "openai"}, headers=caller.headers).get_json()
    assert not found["ok"]
    assert "401" in found["error"]
    # and one whose server is not there
    add_provider(client, caller, apiKey=KEY, baseUrl="http://127.0.0.1:1")
    found = client.post("/v1/providers/test", json={"providerType": "openai"}, headers=caller.headers).get_json()
    assert not found["ok"]
    assert KEY not in found["error"]


def test_a_test_of_what_is_not_configured_is_400(client: FlaskClient, caller: Caller) -> None:
    answered = client.post("/v1/providers/test", json={"providerType": "anthropic"}, headers=caller.headers)
    assert answered.status_code == 400
    assert "POST /v1/providers" in answered.text


def test_private_addresses_are_refused(client: FlaskClient, caller: Caller) -> None:
    body = {"providerType": "openai", "apiKey": KEY, "baseUrl": "https://169.254.169.254/v1"}
    answered = client.post("/v1/providers", json=body, headers=caller.headers)
    assert answered.status_code == 400


def test_another_tenants_provider_does_not_exist(client: FlaskClient, caller: Caller, stranger: Caller) -> None:
    path = f"/v1/providers/{add_provider(client, caller)['id']}"
    for answered in (
        client.get(path, headers=stranger.headers),
        client.patch(path, json={"name": "mine"}, headers=stranger.headers),
        client.delete(path, headers=stranger.headers),
    ):
        assert answered.status_code == 404
    assert client.get(path, headers=caller.headers).status_code == 200


def test_the_life_of_a_mapping(client: FlaskClient, caller: Caller) -> None:
    path = "/v1/model-mappings/gpt-4"
    body = {"model": "claude-sonnet-4-5", "provider": "anthropic", "fallbacks": [{"model": "gpt-4o"}]}
    assert client.put(path, json=body, headers=caller.headers).status_code == 201
    assert client.put(path, json=body, headers=caller.headers).status_code == 200
    found = client.get(path, headers=caller.headers).get_json()
    assert (found["alias"], found["model"], found["fallbacks"]) == ("gpt-4", body["model"], [{"model": "gpt-4o"}])
    assert client.get("/v1/model-mappings", headers=caller.headers).get_json()["data"] == [found]
    assert client.delete(path, headers=caller.headers).status_code == 204
    assert client.get(path, headers=caller.headers).status_code == 404


def test_models_are_the_aliases_and_what_the_providers_serve(client: FlaskClient, caller: Caller) -> None:
    # given OpenAI, one alias that leads there and one that leads nowhere
    add_provider(client, caller)
    client.put("/v1/model-mappings/fast", json={"model": "gpt-4o-mini"}, headers=caller.headers)
    client.put("/v1/model-mappings/lost", json={"model": "claude-sonnet-4-5"}, headers=caller.headers)
    # then what can be called is listed
    names = {each["id"] for each in client.get("/v1/models", headers=caller.headers).get_json()["data"]}
    assert {"fast", "gpt-4o"} <= names
    assert not {"lost", "claude-sonnet-4-5"} & names


def test_pages_of_providers(client: FlaskClient, caller: Caller) -> None:
    for number in range(3):
        add_provider(
            client, caller, providerType="openai_compatible", name=f"s{number}", baseUrl="http://127.0.0.1:9/v1"
        )
    first = client.get("/v1/providers?limit=2", headers=caller.headers).get_json()
    rest = client.get(f"/v1/providers?limit=2&cursor={first['next_cursor']}", headers=caller.headers).get_json()
    assert [each["name"] for each in first["data"] + rest["data"]] == ["s2", "s1", "s0"]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)


def test_the_webhook_secret_stays_until_it_is_rotated(client: FlaskClient, caller: Caller, stranger: Caller) -> None:
    def secret(who: Caller) -> str:
        found: str = client.get("/v1/webhooks/secret", headers=who.headers).get_json()["secret"]
        return found

    first = secret(caller)
    assert first.startswith("whsec_")
    assert secret(caller) == first != secret(stranger)
    rotated = client.post("/v1/webhooks/secret/rotate", headers=caller.headers).get_json()["secret"]
    assert secret(caller) == rotated != first
