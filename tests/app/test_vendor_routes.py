"""What the vendors have and this service does not, as their packages read it."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

_BEARER = {"authorization": "Bearer llms_any"}


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/images/generations", "/v1/assistants"])
def test_openais_package_is_told_what_is_not_here(client: FlaskClient, path: str) -> None:
    answered = client.post(path, json={}, headers=_BEARER)
    assert (answered.status_code, answered.mimetype) == (404, "application/json")
    error = answered.get_json()["error"]
    assert error["type"] == "invalid_request_error"
    assert f"POST {path}" in error["message"]
    assert answered.headers["x-request-id"]


def test_a_method_that_is_not_here(client: FlaskClient) -> None:
    # the package's chat.completions.list()
    answered = client.get("/v1/chat/completions", headers=_BEARER)
    assert answered.status_code == 404
    assert "GET /v1/chat/completions" in answered.get_json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/files", "/v1/files/file-1", "/v1/skills"])
def test_claudes_package_is_told_what_is_not_here(client: FlaskClient, path: str) -> None:
    # also where OpenAI's files are: they are not Anthropic's
    answered = client.get(path, headers={"x-api-key": "llms_any", "anthropic-version": "2023-06-01"})
    assert answered.status_code == 404
    body = answered.get_json()
    assert (body["type"], body["error"]["type"]) == ("error", "not_found_error")
    assert body["request_id"] == answered.headers["request-id"]


def test_our_own_form_stays_for_everybody_else(client: FlaskClient) -> None:
    for path, headers in (("/v1/nothing", {}), ("/v1/admin/nothing", _BEARER), ("/nothing", _BEARER)):
        answered = client.get(path, headers=headers)
        assert (answered.status_code, answered.mimetype) == (404, "application/problem+json")
