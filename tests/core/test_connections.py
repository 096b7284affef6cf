"""Connections against a real database: what may be entered, what is kept, who sees it, when a key stops and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from core import connections, crypto, db, identity, kek_rotation, limits
from core.egress import resolve
from core.errors import InvalidInput, NotFound
from core.identity import Principal
from core.ids import new_id
from core.limits.types import Configured
from core.secret import Secret
from core.settings import settings

KEY = "sk-abcdefghijklmnop1234"


@pytest.fixture(autouse=True)
def _settings(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LLM_SERVICE_KEK", crypto.new_kek_text().reveal())
    monkeypatch.setenv("LLM_SERVICE_EGRESS_ALLOW", "127.0.0.0/8")
    settings.cache_clear()
    resolve.forget()
    yield
    settings.cache_clear()
    resolve.forget()


def new_principal() -> Principal:
    tenant = identity.create_tenant("Acme")
    return Principal(tenant.id, identity.create_project(tenant.id, "P").id, new_id())


@pytest.fixture
def principal() -> Principal:
    return new_principal()


def pointers(caught: pytest.ExceptionInfo[InvalidInput]) -> set[str]:
    return {error.pointer for error in caught.value.errors}


def test_a_new_connection_is_kept_and_its_key_is_not_shown(principal: Principal) -> None:
    row, created = connections.put(
        principal, {"providerType": "openai", "apiKey": KEY, "limits": {"requestsPerMinute": 60}}
    )

    assert created
    shown = connections.as_object(connections.get(principal, row.id))
    assert KEY not in repr(shown)
    assert shown["apiKeyHint"] == "1234"
    assert shown["limits"] == {"requestsPerMinute": 60, "tokensPerMinute": None, "maxConcurrency": None}
    assert shown["state"] == "active"
    assert connections.credential(row).reveal() == KEY
    assert KEY.encode() not in row.key_ciphertext


def test_posting_the_type_again_replaces_the_key_and_keeps_the_rest(principal: Principal) -> None:
    first, _ = connections.put(principal, {"providerType": "openai", "apiKey": KEY, "organization": "org-1"})

    second, created = connections.put(principal, {"providerType": "openai", "apiKey": "sk-another-key-9999"})

    assert not created
    assert second.id == first.id
    assert second.organization == "org-1"
    assert connections.credential(second).reveal() == "sk-another-key-9999"
    assert len(connections.page(principal)) == 1


def test_a_replaced_key_does_not_rest_for_what_the_old_one_was_told(
    principal: Principal, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: a key whose provider asked for an hour's patience
    monkeypatch.setenv("REDIS_URL", redis_url)
    settings.cache_clear()
    row, _ = connections.put(principal, {"providerType": "openai", "apiKey": KEY})
    key = limits.LimitKey(row.id, "gpt-4o-mini")

    def granted() -> int:
        return limits.take(key, Configured(), [(1, 1)], in_flight=0).granted

    limits.penalise(key, retry_after_seconds=3600)
    limits.flush()
    assert granted() == 0
    # when: something else changes, and then the key
    connections.patch(principal, row.id, {"limits": {"maxConcurrency": 5}})
    assert granted() == 0
    connections.put(principal, {"providerType": "openai", "apiKey": "sk-another-key-9999"})
    # then
    assert granted() == 1


def test_compatible_providers_are_told_apart_by_name(principal: Principal) -> None:
    def compatible(name: str) -> bool:
        given = {"providerType": "openai_compatible", "name": name, "baseUrl": "http://127.0.0.1:9/v1", "apiKey": KEY}
        return connections.put(principal, given)[1]

    assert compatible("groq")
    assert compatible("local")
    assert not compatible("groq")
    assert {row.name for row in connections.page(principal)} == {"groq", "local"}
    found = connections.find(principal, "openai_compatible", "local")
    assert found is not None
    assert found.base_url == "http://127.0.0.1:9/v1"
    with pytest.raises(InvalidInput):
        connections.patch(principal, found.id, {"name": "groq"})


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, {"/providerType", "/apiKey"}),
        ({"providerType": "cohere", "apiKey": ""}, {"/providerType", "/apiKey"}),
        ({"providerType": ["openai"], "apiKey": 7}, {"/providerType", "/apiKey"}),
        ({"providerType": "openai", "apiKey": "sk-1\r\nx: y"}, {"/apiKey"}),
        ({"providerType": "openai", "apiKey": "sk-ключ"}, {"/apiKey"}),
        ({"providerType": "openai", "apiKey": KEY, "baseUrl": "http://10.0.0.1/v1"}, {"/baseUrl"}),
        ({"providerType": "openai", "apiKey": KEY, "baseUrl": "https://169.254.169.254/"}, {"/baseUrl"}),
        ({"providerType": "openai", "apiKey": KEY, "baseUrl": "https://[64:ff9b::a9fe:a9fe]/"}, {"/baseUrl"}),
        ({"providerType": "openai", "apiKey": KEY, "baseUrl": "https://a@1.1.1.1/"}, {"/baseUrl"}),
        ({"providerType": "openai", "apiKey": KEY, "name": "a\0b"}, {"/name"}),
        ({"providerType": "openai", "apiKey": KEY, "name": "\ud800"}, {"/name"}),
        ({"providerType": "openai", "apiKey": KEY, "organization": "a b"}, {"/organization"}),
        ({"providerType": "openai", "apiKey": KEY, "base_url": "x"}, {"/base_url"}),
        ({"providerType": "openai", "apiKey": KEY, "limits": 7}, {"/limits"}),
        (
            {
                "providerType": "openai",
                "apiKey": KEY,
                "limits": {"requestsPerMinute": 0, "maxConcurrency": True, "x": 1},
            },
            {"/limits/requestsPerMinute", "/limits/maxConcurrency", "/limits/x"},
        ),
        ({"providerType": "openai_compatible", "apiKey": KEY}, {"/name", "/baseUrl"}),
        (
            {"providerType": "openai_compatible", "apiKey": KEY, "name": "a/b", "baseUrl": "http://127.0.0.1/"},
            {"/name"},
        ),
        (
            {"providerType": "openai_compatible", "apiKey": KEY, "name": "openai", "baseUrl": "http://127.0.0.1/"},
            {"/name"},
        ),
    ],
)
def test_all_that_is_wrong_is_said_at_once(principal: Principal, given: dict, wrong: set[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        connections.put(principal, given)

    assert pointers(caught) == wrong
    assert connections.page(principal) == []


def test_a_stored_key_does_not_follow_a_changed_address(principal: Principal) -> None:
    # given a key at one address
    given = {"providerType": "openai", "apiKey": KEY, "baseUrl": "http://127.0.0.1:1/v1"}
    row, _ = connections.put(principal, given)

    # when the address changes without the key, then it is refused; with a key, or unchanged, it is not
    for address in ("http://127.0.0.1:2/v1", None):
        with pytest.raises(InvalidInput) as caught:
            connections.patch(principal, row.id, {"baseUrl": address})
        assert pointers(caught) == {"/apiKey"}
    assert connections.patch(principal, row.id, {"baseUrl": "http://127.0.0.1:1/v1/"}).base_url == given["baseUrl"]
    changed = connections.patch(principal, row.id, {"baseUrl": "http://127.0.0.1:2/v1", "apiKey": "sk-new-key-567890"})
    assert changed.base_url == "http://127.0.0.1:2/v1"


def test_null_takes_a_value_away(principal: Principal) -> None:
    row, _ = connections.put(
        principal,
        {"providerType": "openai", "apiKey": KEY, "name": "n", "organization": "o", "limits": {"maxConcurrency": 3}},
    )

    changed = connections.patch(principal, row.id, {"name": None, "organization": None, "limits": None})

    assert (changed.name, changed.organization, changed.max_concurrency) == ("", None, None)


def test_another_project_sees_nothing(principal: Principal) -> None:
    row, _ = connections.put(principal, {"providerType": "openai", "apiKey": KEY})
    sibling = Principal(principal.tenant_id, identity.create_project(principal.tenant_id, "Q").id, new_id())

    for stranger in (new_principal(), sibling, Principal(new_id(), principal.project_id, new_id())):
        assert connections.page(stranger) == []
        assert connections.find(stranger, "openai") is None
        for attempt in (connections.get, connections.resume, connections.delete):
            with pytest.raises(NotFound):
                attempt(stranger, row.id)
        with pytest.raises(NotFound):
            connections.patch(stranger, row.id, {"name": "mine"})
    with pytest.raises(NotFound):
        connections.put(Principal(new_id(), principal.project_id, new_id()), {"providerType": "openai", "apiKey": KEY})


def test_a_ciphertext_moved_to_another_tenants_row_does_not_open(principal: Principal) -> None:
    row, _ = connections.put(principal, {"providerType": "openai", "apiKey": KEY})
    theirs, _ = connections.put(new_principal(), {"providerType": "openai", "apiKey": "sk-theirs-000000"})

    with db.connection() as connection:
        connection.execute("UPDATE connection SET key_ciphertext = %s WHERE id = %s", (row.key_ciphertext, theirs.id))

    with pytest.raises(crypto.KeyProblem):
        connections.load(theirs.id)


def test_a_worker_loads_what_a_call_needs(principal: Principal) -> None:
    row, _ = connections.put(principal, {"providerType": "anthropic", "apiKey": KEY, "limits": {"maxConcurrency": 9}})

    loaded = connections.load(row.id)

    assert loaded.base_url == settings().anthropic_base_url
    assert loaded.secret.reveal() == KEY
    assert loaded.configured == Configured(max_concurrency=9)
    assert KEY not in repr(loaded)
    assert connections.load(row.id) is loaded
    connections.delete(principal, row.id)
    with pytest.raises(NotFound):
        connections.load(row.id)


def test_a_stopped_connection_goes_on_with_a_new_key_or_when_resumed(principal: Principal) -> None:
    row, _ = connections.put(principal, {"providerType": "openai", "apiKey": KEY})

    assert connections.stop(connections.load(row.id), "quota_exhausted", "You exceeded your current quota\0")
    assert not connections.stop(connections.load(row.id), "quota_exhausted", "again")

    stopped = connections.get(principal, row.id)
    assert (stopped.state, stopped.stop_reason) == ("stopped", "quota_exhausted")
    assert connections.resume(principal, row.id).state == "active"
    assert connections.stop(connections.load(row.id), "authentication_failed", "bad key")
    assert connections.patch(principal, row.id, {"apiKey": "sk-a-new-key-0001"}).stop_reason is None


def test_a_late_refusal_of_an_old_key_does_not_stop_the_new_one(principal: Principal) -> None:
    row, _ = connections.put(principal, {"providerType": "openai", "apiKey": KEY})
    old = replace(connections.load(row.id))
    connections.put(principal, {"providerType": "openai", "apiKey": "sk-a-new-key-0001"})

    assert not connections.stop(old, "authentication_failed", "bad key")
    assert connections.get(principal, row.id).state == "active"


def test_rotation_of_the_key_encryption_key(principal: Principal, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a connection and a webhook secret under version 1, and then a second key
    row, _ = connections.put(principal, {"providerType": "openai", "apiKey": KEY})
    hook, version = crypto.encrypt(Secret("whsec_1"), tenant_id=principal.tenant_id, row_id=principal.project_id)
    with db.connection() as connection:
        connection.execute(
            "UPDATE project SET webhook_secret_ciphertext = %s, webhook_secret_version = %s WHERE id = %s",
            (hook, version, principal.project_id),
        )
    both = crypto.new_kek_text(Secret(settings().kek))
    monkeypatch.setenv("LLM_SERVICE_KEK", both.reveal())
    settings.cache_clear()

    # when it is rotated, twice
    assert kek_rotation.rotate_kek() == 2
    assert kek_rotation.rotate_kek() == 0

    # then the new key alone is enough
    monkeypatch.setenv("LLM_SERVICE_KEK", both.reveal().split(",")[1])
    settings.cache_clear()
    assert connections.credential(connections.get(principal, row.id)).reveal() == KEY
    with db.connection() as connection:
        found = connection.execute("SELECT webhook_secret_ciphertext AS c, webhook_secret_version AS v FROM project")
        kept = found.fetchone()
    assert kept is not None
    opened = crypto.decrypt(kept["c"], kept["v"], tenant_id=principal.tenant_id, row_id=principal.project_id)
    assert opened.reveal() == "whsec_1"
