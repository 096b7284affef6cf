"""Model mappings against a real database: any alias, everything wrong at once, nobody else's."""

from __future__ import annotations

import pytest

from core import db, identity, mappings
from core.errors import InvalidInput, NotFound
from core.identity import Principal
from core.ids import new_id


@pytest.fixture
def principal(database_url: str) -> Principal:
    tenant = identity.create_tenant("Acme")
    return Principal(tenant.id, identity.create_project(tenant.id, "P").id, new_id())


def _add_server(principal: Principal, name: str) -> None:
    """An openai_compatible provider of that name."""
    with db.connection() as connection:
        connection.execute(
            "INSERT INTO connection (id, tenant_id, project_id, provider_type, name, key_ciphertext, key_version)"
            " VALUES (%s, %s, %s, 'openai_compatible', %s, '\\x00', 1)",
            (new_id(), principal.tenant_id, principal.project_id, name),
        )


@pytest.mark.parametrize("alias", ["gpt-4", "fast", "our/best model: v2", "модель", "x" * 200])
def test_any_name_may_be_an_alias(principal: Principal, alias: str) -> None:
    row, created = mappings.put(principal, alias, {"model": "claude-sonnet-4-5", "provider": "anthropic"})

    assert created
    assert mappings.get(principal, alias).id == row.id
    shown = mappings.as_object(row)
    assert (shown["alias"], shown["model"], shown["provider"], shown["fallbacks"]) == (
        alias,
        "claude-sonnet-4-5",
        "anthropic",
        [],
    )


def test_put_sets_the_whole(principal: Principal) -> None:
    given = {"model": "a", "provider": "openai", "fallbacks": [{"model": "b"}, {"model": "c", "provider": "groq"}]}
    _add_server(principal, "groq")
    first, _ = mappings.put(principal, "fast", given)

    second, created = mappings.put(principal, "fast", {"model": "d"})

    assert first.fallbacks == given["fallbacks"]
    assert not created
    assert second.id == first.id
    found = mappings.get(principal, "fast")
    assert (found.model, found.provider, found.fallbacks) == ("d", None, [])
    assert len(mappings.page(principal)) == 1


@pytest.mark.parametrize(
    ("alias", "given", "wrong"),
    [
        ("", {"model": "m"}, {"/alias"}),
        ("x" * 201, {}, {"/alias", "/model"}),
        ("a\0b", {"model": "\ud800"}, {"/alias", "/model"}),
        ("a", {"model": 7, "provider": [], "fallback": []}, {"/model", "/provider", "/fallback"}),
        ("a", {"model": "m", "fallbacks": {}}, {"/fallbacks"}),
        ("a", {"model": "m", "fallbacks": [{"model": "b"}] * 11}, {"/fallbacks"}),
        ("a", {"model": "m", "fallbacks": ["b", {}]}, {"/fallbacks/0", "/fallbacks/1/model"}),
    ],
)
def test_all_that_is_wrong_is_said_at_once(principal: Principal, alias: str, given: dict, wrong: set[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        mappings.put(principal, alias, given)

    assert {error.pointer for error in caught.value.errors} == wrong


def test_a_deleted_mapping_is_gone(principal: Principal) -> None:
    mappings.put(principal, "fast", {"model": "m"})

    mappings.delete(principal, "fast")

    for attempt in (mappings.get, mappings.delete):
        with pytest.raises(NotFound):
            attempt(principal, "fast")


@pytest.mark.parametrize("alias", ["\0", "\ud800", "nothing", "x" * 10_000])
def test_what_is_no_alias_is_not_found(principal: Principal, alias: str) -> None:
    with pytest.raises(NotFound):
        mappings.get(principal, alias)


def test_another_project_has_its_own(principal: Principal) -> None:
    mappings.put(principal, "fast", {"model": "mine"})
    sibling = Principal(principal.tenant_id, identity.create_project(principal.tenant_id, "Q").id, new_id())
    other = identity.create_tenant("Other")
    stranger = Principal(other.id, identity.create_project(other.id, "R").id, new_id())

    for who in (sibling, stranger):
        with pytest.raises(NotFound):
            mappings.get(who, "fast")
        assert mappings.put(who, "fast", {"model": "theirs"})[1]
    assert mappings.get(principal, "fast").model == "mine"
    with pytest.raises(NotFound):
        mappings.put(Principal(other.id, principal.project_id, new_id()), "fast", {"model": "m"})


def test_pages_are_newest_first(principal: Principal) -> None:
    for number in range(3):
        mappings.put(principal, f"a{number}", {"model": "m"})

    first = mappings.page(principal, limit=2)
    rest = mappings.page(principal, limit=2, before=first[-1].id)

    assert [row.alias for row in first + rest] == ["a2", "a1", "a0"]
