"""The API over a real database, as its callers see it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.factory import create_app
from core import crypto, identity
from core.identity import Principal
from core.settings import settings

OPERATOR_TOKEN = "an-operators-token-for-tests"

_names = itertools.count(1)


@dataclass(frozen=True)
class Caller:
    """A project with one key."""

    principal: Principal
    headers: dict[str, str]


@pytest.fixture(scope="session")
def app() -> Flask:
    return create_app()


@pytest.fixture
def house(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment of an API process: both stores, a key-encryption key, an operator."""
    for name, value in {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "LLM_SERVICE_KEK": crypto.new_kek_text().reveal(),
        "LLM_SERVICE_ADMIN_TOKEN": OPERATOR_TOKEN,
        "LLM_SERVICE_EGRESS_ALLOW": "127.0.0.0/8",
        "LLM_SERVICE_MAX_JSON_BYTES": str(4 << 20),
        "LLM_SERVICE_MAX_LINE_BYTES": str(1 << 20),
    }.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def client(app: Flask, house: None) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def new_caller(house: None) -> Callable[[], Caller]:
    """Makes a tenant with a project and a key."""

    def make() -> Caller:
        number = next(_names)
        tenant = identity.create_tenant(f"tenant {number}")
        project = identity.create_project(tenant.id, f"project {number}")
        made = identity.create_key(tenant.id, project.id, name="test")
        return Caller(
            Principal(tenant.id, project.id, made.key.id),
            {
                "x-api-key": made.pair.api_key.reveal(),
                "x-secret-key": made.pair.secret_key.reveal(),
                "x-tenant-id": f"tenant_{tenant.id.hex}",
                "x-project-id": f"proj_{project.id.hex}",
            },
        )

    return make


@pytest.fixture
def caller(new_caller: Callable[[], Caller]) -> Caller:
    return new_caller()


@pytest.fixture
def stranger(new_caller: Callable[[], Caller]) -> Caller:
    """Somebody else: another tenant."""
    return new_caller()


@pytest.fixture
def operator() -> dict[str, str]:
    return {"authorization": f"Bearer {OPERATOR_TOKEN}"}


def request_row(custom_id: str | None = None, **fields: Any) -> dict[str, Any]:
    """One valid request of a batch."""
    row: dict[str, Any] = {"model": "gpt-4", "messages": [{"role": "user", "content": "hello"}], **fields}
    return row if custom_id is None else {"custom_id": custom_id, **row}


def add_provider(client: FlaskClient, caller: Caller, **fields: Any) -> dict[str, Any]:
    """Configure OpenAI (or what `fields` say) for a caller."""
    body = {"providerType": "openai", "apiKey": "sk-test-0123456789abcdef", **fields}
    answered = client.post("/v1/providers", json=body, headers=caller.headers)
    assert answered.status_code in (200, 201), answered.text
    found: dict[str, Any] = answered.get_json()
    return found


def batch_uuid(public_id: str) -> UUID:
    return UUID(hex=public_id.removeprefix("batch_"))
