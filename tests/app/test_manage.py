"""The operator's command line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import manage
from core import connections, crypto, db
from core.secret import Secret
from core.settings import settings
from tests.app.conftest import Caller, add_provider


@pytest.fixture
def run(house: None, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command and reads what it printed."""

    def command(*arguments: str) -> Any:
        assert manage.main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return command


def _status(client: FlaskClient, key: dict[str, str]) -> int:
    headers = {
        "x-api-key": key["api_key"],
        "x-secret-key": key["secret_key"],
        "x-tenant-id": key["tenant_id"],
        "x-project-id": key["project_id"],
    }
    return client.get("/v1/batch", headers=headers).status_code


def test_from_a_tenant_to_a_key_that_is_rotated_and_revoked(client: FlaskClient, run: Any) -> None:
    # given a tenant, a project and a key
    tenant = run("tenant", "create", "Example")
    project = run("project", "create", tenant["id"], "web")
    key = run("key", "create", tenant["id"], project["id"], "--name", "backend")
    assert _status(client, key) == 200
    # when the key is rotated and the old one revoked
    new = run("key", "rotate", tenant["id"], key["id"])
    revoked = run("key", "revoke", tenant["id"], key["id"])
    # then only the new one works
    assert revoked["revoked_at"] is not None
    assert [_status(client, each) for each in (key, new)] == [401, 200]
    # and lists show what there is, without secrets
    assert [each["id"] for each in run("tenant", "list")] == [tenant["id"]]
    assert [each["id"] for each in run("project", "list", tenant["id"])] == [project["id"]]
    listed = run("key", "list", tenant["id"], project["id"])
    assert [each["id"] for each in listed] == [new["id"], key["id"]]
    assert not any("secret_key" in each for each in listed)


def test_what_is_not_there_is_one_line_and_a_failure(house: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert manage.main(["project", "create", f"tenant_{'0' * 32}", "web"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_without_a_database_it_is_told_what_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(**_: object) -> None:
        raise db.DatabaseDown

    monkeypatch.setattr("core.identity.tenants", away)
    assert manage.main(["tenant", "list"]) == 1
    assert "DATABASE_URL says where it is" in capsys.readouterr().err


def test_a_misspelt_id_is_refused_before_anything_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        manage.main(["project", "list", "acme"])
    assert "tenant_" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["tenant", "create"], ["project", "create", f"tenant_{'0' * 32}"]])
def test_a_name_is_not_only_spaces(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    with pytest.raises(SystemExit):
        manage.main([*command, "  "])
    assert "not only spaces" in capsys.readouterr().err


def test_the_text_form_is_for_reading(house: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert manage.main(["tenant", "create", "Example"]) == 0
    assert "name: Example" in capsys.readouterr().out


def test_secrets_move_to_a_new_key_encryption_key(
    client: FlaskClient, caller: Caller, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a provider's key under the first key-encryption key, and a second one added to it
    add_provider(client, caller, apiKey="sk-under-the-first-key")
    text = run("kek", "new")["LLM_SERVICE_KEK"]
    monkeypatch.setenv("LLM_SERVICE_KEK", text)
    settings.cache_clear()
    # when it is rotated
    assert run("kek", "rotate") == {"version": 2, "reencrypted": 1}
    # then the first one is needed no more
    second = crypto.parse_kek_text(Secret(text))
    assert set(second) == {1, 2}
    monkeypatch.setenv("LLM_SERVICE_KEK", next(part for part in text.split(",") if part.startswith("2:")))
    settings.cache_clear()
    row = connections.find(caller.principal, "openai")
    assert row is not None
    assert connections.credential(row).reveal() == "sk-under-the-first-key"
