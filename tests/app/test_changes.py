"""What changes in a project is announced, and whoever keeps something of it reads it anew."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from app import changes
from core import budgets, db, loaded_connections, notifications, project_routes
from core.budgets import gate
from core.changes import CHANNEL
from core.short_cache import ShortCache
from tests.app.conftest import Caller, add_provider

ALIAS = "/v1/model-mappings/mine"
MAPPING = {"model": "gpt-4o", "provider": "openai"}


@pytest.fixture(autouse=True)
def kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is kept, nobody asks again by himself."""
    for module, name in ((project_routes, "_kept"), (gate, "_budgets"), (loaded_connections, "_loaded")):
        monkeypatch.setattr(module, name, ShortCache(seconds=1e6, grace_seconds=0, size=10))


@pytest.fixture
def heard(database_url: str, house: None) -> Iterator[Callable[[], tuple[str, str]]]:
    """What another process hears next."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"LISTEN {CHANNEL}")

        came: deque[psycopg.Notify] = deque()

        def hear() -> tuple[str, str]:
            if not came:
                came.extend(connection.notifies(timeout=10, stop_after=1))
            found = came.popleft()
            return found.channel, found.payload

        yield hear


@pytest.mark.parametrize(
    "change",
    [
        lambda client, provider, headers: client.post(
            "/v1/providers", json={"providerType": "anthropic", "apiKey": "sk-ant-0123456789abcdef"}, headers=headers
        ),
        lambda client, provider, headers: client.patch(
            provider, json={"limits": {"requestsPerMinute": 1}}, headers=headers
        ),
        lambda client, provider, headers: client.delete(provider, headers=headers),
        lambda client, provider, headers: client.put(ALIAS, json=MAPPING, headers=headers),
        lambda client, provider, headers: client.delete(f"{ALIAS}-too", headers=headers),
    ],
)
def test_providers_and_mappings_that_change_are_read_anew_by_others(
    client: FlaskClient, caller: Caller, heard: Callable[[], tuple[str, str]], change: Callable[..., Any]
) -> None:
    # given: what another process keeps
    provider = add_provider(client, caller)
    client.put(f"{ALIAS}-too", json=MAPPING, headers=caller.headers)
    principal = caller.principal
    before = project_routes.of(principal, fresh=True)
    connection_id = next(iter(before.connections)).id
    loaded_connections.load(connection_id)
    for _ in range(2):
        heard()
    # when
    answered = change(client, f"/v1/providers/{provider['id']}", caller.headers)
    assert answered.status_code < 300
    project_routes._kept.renew(principal.project_id, lambda: before)
    assert project_routes.of(principal) is before
    changes.take(*heard())
    # then
    assert project_routes.of(principal) is not before
    assert loaded_connections._loaded.peek(connection_id) is None


def test_a_budget_that_is_made_is_known_to_others(
    client: FlaskClient, caller: Caller, heard: Callable[[], tuple[str, str]]
) -> None:
    project_id = caller.principal.project_id
    assert client.put("/v1/budgets/day", json={"limit_usd": "1"}, headers=caller.headers).status_code == 201
    # (what another process knows of before)
    gate._budgets.renew(project_id, frozenset)
    assert budgets.none_of([project_id])
    changes.take(*heard())
    assert not budgets.none_of([project_id])
    assert client.delete("/v1/budgets/day", headers=caller.headers).status_code == 204
    assert heard() == (CHANNEL, project_id.hex)


def test_a_key_that_the_provider_refused_is_told_to_others(
    client: FlaskClient, caller: Caller, heard: Callable[[], tuple[str, str]]
) -> None:
    add_provider(client, caller)
    heard()
    (found,) = project_routes.of(caller.principal, fresh=True).connections
    assert loaded_connections.stop(loaded_connections.load(found.id), "authentication_failed", "no")
    assert heard() == (CHANNEL, caller.principal.project_id.hex)


def test_other_projects_are_left_alone_and_nothing_is_kept_over_a_gap(
    client: FlaskClient, caller: Caller, stranger: Caller
) -> None:
    kept = {each.principal: project_routes.of(each.principal) for each in (caller, stranger)}
    changes.take(CHANNEL, caller.principal.project_id.hex)
    assert project_routes.of(stranger.principal) is kept[stranger.principal]
    assert project_routes.of(caller.principal) is not kept[caller.principal]
    # a listener that was away may have missed anything
    changes.take(notifications.CONNECTED, "")
    assert project_routes.of(stranger.principal) is not kept[stranger.principal]
    # and what nobody can read changes nothing
    changes.take(CHANNEL, "no id")


def test_what_began_to_be_read_before_a_change_is_not_kept() -> None:
    cache: ShortCache[str, str] = ShortCache(seconds=1e6, grace_seconds=0, size=10)

    def read_while_it_changes() -> str:
        time.sleep(0.001)
        cache.forget("k")
        return "before"

    assert cache.get("k", read_while_it_changes) == "before"
    time.sleep(0.001)
    assert cache.get("k", lambda: "after") == "after"
    assert cache.get("k", lambda: "asked again") == "after"


def test_a_change_that_could_not_be_announced_stands(
    client: FlaskClient, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise db.DatabaseDown

    monkeypatch.setattr("core.changes.announce", away)
    assert add_provider(client, caller)["providerType"] == "openai"
