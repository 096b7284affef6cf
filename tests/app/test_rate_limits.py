"""Requests over a project's limit, and the headers that say how a caller stands."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from app import rate_limits
from core import identity, project_limit
from core.limits import Quota
from core.settings import settings
from tests.app.conftest import Caller

#: PROVIDERS.md 4.4
GO_DURATION = re.compile(
    r"^(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?$"
)
PROJECT = Quota("project", 600, 599, 0.1)
REQUESTS = Quota("requests", 5000, 120, 12.3)


@pytest.fixture(autouse=True)
def redis_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project_limit, "_resting_until", 0.0)


def limit_to(client: FlaskClient, caller: Caller, most: int | None) -> None:
    answered = client.patch("/v1/project", json={"requests_per_minute": most}, headers=caller.headers)
    assert answered.status_code == 200, answered.text
    assert answered.get_json()["requests_per_minute"] == most


def test_a_project_over_its_limit_is_told_when_to_come_again(
    client: FlaskClient, caller: Caller, stranger: Caller
) -> None:
    # given
    assert "RateLimit" not in client.get("/v1/batch", headers=caller.headers).headers
    limit_to(client, caller, 2)
    # when it asks three times
    answers = [client.get("/v1/batch", headers=caller.headers) for _ in range(3)]
    # then the third is refused, on every route, and nobody else is
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert [each.headers["RateLimit-Policy"] for each in answers] == ['"project";q=2;w=60'] * 3
    assert [re.sub(r"t=\d+", "t=", each.headers["RateLimit"]) for each in answers] == [
        '"project";r=1;t=',
        '"project";r=0;t=',
        '"project";r=0;t=',
    ]
    refused = answers[2]
    assert refused.content_type == "application/problem+json"
    assert refused.get_json()["type"].endswith("over-limit")
    assert 0 < int(refused.headers["Retry-After"]) <= 61
    assert abs(int(refused.headers["retry-after-ms"]) / 1000 - int(refused.headers["Retry-After"])) <= 1
    assert refused.headers["x-should-retry"] == "true"
    body = {"model": "gpt-4", "messages": [{"role": "user", "content": "x"}]}
    assert client.post("/v1/completions", json=body, headers=caller.headers).status_code == 429
    assert client.get("/v1/batch", headers=stranger.headers).status_code == 200
    # and operations are no requests of a project
    assert client.get("/livez").status_code == 200
    assert "RateLimit" not in client.get("/livez").headers


def test_a_wrong_key_uses_nothing_up(client: FlaskClient, caller: Caller) -> None:
    limit_to(client, caller, 1)
    secret = caller.headers["x-secret-key"]
    wrong = {**caller.headers, "x-secret-key": secret[:-1] + ("1" if secret.endswith("0") else "0")}
    for _ in range(3):
        answered = client.get("/v1/batch", headers=wrong)
        assert answered.status_code == 401
        assert "RateLimit" not in answered.headers
    assert client.get("/v1/batch", headers=caller.headers).status_code == 200


def test_the_services_limit_holds_for_projects_without_one(
    client: FlaskClient, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_SERVICE_API_REQUESTS_PER_MINUTE", "3")
    settings.cache_clear()
    limit_to(client, caller, 1000)
    # The change itself was the first
    answers = [client.get("/v1/project", headers=caller.headers).status_code for _ in range(3)]
    assert answers == [200, 200, 429]


def test_a_limit_of_the_project_is_checked(client: FlaskClient, caller: Caller) -> None:
    for wrong in (0, -1, 1_000_001, "10", 1.5):
        answered = client.patch("/v1/project", json={"requests_per_minute": wrong}, headers=caller.headers)
        assert answered.status_code == 400
        assert answered.get_json()["errors"][0]["pointer"] == "/requests_per_minute"
    limit_to(client, caller, 5)
    limit_to(client, caller, None)


def test_the_vendors_surfaces_refuse_in_their_own_form(app: Flask, client: FlaskClient, caller: Caller) -> None:
    limit_to(client, caller, 2)
    made = identity.create_key(caller.principal.tenant_id, caller.principal.project_id)
    bearer = {"authorization": f"Bearer {made.pair.token.reveal()}"}
    assert client.get("/v1/files", headers=bearer).status_code == 200
    first = client.get("/v1/models", headers={**bearer, "anthropic-version": "2023-06-01"})
    assert first.status_code == 200
    assert first.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert datetime.fromisoformat(first.headers["anthropic-ratelimit-requests-reset"]) > datetime.now(UTC)

    openais = client.get("/v1/files", headers=bearer)
    assert openais.status_code == 429
    assert openais.get_json()["error"]["code"] == "rate_limit_exceeded"
    assert openais.headers["x-ratelimit-limit-requests"] == "2"
    assert openais.headers["x-ratelimit-remaining-requests"] == "0"
    assert GO_DURATION.match(openais.headers["x-ratelimit-reset-requests"])
    claudes = client.post("/v1/messages", json={}, headers=bearer)
    assert claudes.status_code == 429
    assert claudes.get_json()["error"]["type"] == "rate_limit_error"
    for refused in (openais, claudes, client.get("/v1/models", headers=bearer)):
        assert refused.status_code == 429
        assert refused.headers["x-should-retry"] == "true"
        assert int(refused.headers["retry-after"]) >= 1
        assert int(refused.headers["retry-after-ms"]) >= 1
        assert "RateLimit" not in refused.headers


def headers_of(face: rate_limits.Face, *quotas: Quota) -> dict[str, str]:
    response = Response()
    face(response, list(quotas))
    return {name: value for name, value in response.headers.items() if "limit" in name.lower()}


def test_our_form() -> None:
    tokens = Quota("input_tokens", 40_000, 20_000, 30.0)
    assert headers_of(rate_limits.ietf, PROJECT, REQUESTS, tokens) == {
        "RateLimit-Policy": '"project";q=600;w=60, "provider-requests";q=5000;w=60,'
        ' "provider-input-tokens";q=40000;w=60;qu="tokens"',
        "RateLimit": '"project";r=599;t=1, "provider-requests";r=120;t=13, "provider-input-tokens";r=20000;t=30',
    }


def test_openais_form_names_the_tightest() -> None:
    found = headers_of(rate_limits.openai, PROJECT, REQUESTS, Quota("tokens", 1000, 10, 61.25))
    assert found == {
        "x-ratelimit-limit-requests": "5000",
        "x-ratelimit-remaining-requests": "120",
        "x-ratelimit-reset-requests": "12.3s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "10",
        "x-ratelimit-reset-tokens": "1m1.25s",
    }
    assert "x-ratelimit-limit-tokens" not in headers_of(rate_limits.openai, PROJECT)


def test_anthropics_form() -> None:
    found = headers_of(rate_limits.anthropic, Quota("input_tokens", 900, 800, 0.0), Quota("output_tokens", 90, 10, 1.0))
    assert {name: value for name, value in found.items() if not name.endswith("reset")} == {
        "anthropic-ratelimit-input-tokens-limit": "900",
        "anthropic-ratelimit-input-tokens-remaining": "800",
        "anthropic-ratelimit-output-tokens-limit": "90",
        "anthropic-ratelimit-output-tokens-remaining": "10",
        "anthropic-ratelimit-tokens-limit": "90",
        "anthropic-ratelimit-tokens-remaining": "10",
    }
    assert all(datetime.fromisoformat(value) for name, value in found.items() if name.endswith("reset"))


@given(st.integers(0, 10_000_000))
def test_durations_as_go_writes_them(milliseconds: int) -> None:
    text = rate_limits.go_duration(milliseconds / 1000)
    found = GO_DURATION.match(text)
    assert found is not None
    hours, minutes, seconds, rest = (float(part or 0) for part in found.groups())
    assert abs(hours * 3_600_000 + minutes * 60_000 + seconds * 1000 + rest - milliseconds) <= 1.001
