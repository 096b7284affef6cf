"""Credentials against a real database: one answer to everything that is wrong, revocation, rotation, other tenants."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from core import db, identity
from core.errors import Conflict, NotFound, Unauthenticated
from core.ids import new_id, public
from core.short_cache import ShortCache
from core.tables.tenants import Project


@pytest.fixture(autouse=True)
def _database(database_url: str) -> Iterator[None]:
    identity.forget()
    yield
    identity.forget()


@pytest.fixture
def project() -> Project:
    return identity.create_project(identity.create_tenant("Acme").id, "Search")


def headers(new: identity.NewKey) -> list[str]:
    """What a caller sends in the four headers."""
    return [
        new.pair.api_key.reveal(),
        new.pair.secret_key.reveal(),
        public("tenant", new.key.tenant_id),
        public("proj", new.key.project_id),
    ]


def test_a_key_opens_its_project(project: Project) -> None:
    new = identity.create_key(project.tenant_id, project.id, name="ci")

    by_headers = identity.authenticate(*headers(new))
    by_token = identity.authenticate_token(new.pair.token.reveal())

    assert by_headers == by_token == identity.Principal(project.tenant_id, project.id, new.key.id)


def test_everything_wrong_gets_the_same_answer(project: Project) -> None:
    # given two projects of one tenant, and one of another
    new = identity.create_key(project.tenant_id, project.id)
    sibling = identity.create_key(project.tenant_id, identity.create_project(project.tenant_id, "Other").id)
    other_tenant = identity.create_tenant("Other")
    other = identity.create_key(other_tenant.id, identity.create_project(other_tenant.id, "Theirs").id)
    expired = identity.create_key(project.tenant_id, project.id, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    key, secret, tenant_id, project_id = headers(new)

    wrong = [
        ["", "", "", ""],
        ["llms_ak_x", secret, tenant_id, project_id],
        [key, "\ud800", tenant_id, project_id],
        [key, headers(sibling)[1], tenant_id, project_id],
        [secret, key, tenant_id, project_id],
        [key, secret, headers(other)[2], project_id],
        [key, secret, tenant_id, headers(sibling)[3]],
        [key, secret, headers(other)[2], headers(other)[3]],
        [key, secret, project_id, tenant_id],
        [key, secret, "tenant_" + "0" * 32, project_id],
        [key, secret, "'; DROP TABLE api_key; --", project_id],
        [key, secret, tenant_id, "\0"],
        headers(expired),
    ]
    answers = []
    for given in wrong:
        with pytest.raises(Unauthenticated) as caught:
            identity.authenticate(*given)
        answers.append(caught.value.detail)
    token_answers = []
    for token in ("", "llms_", key, expired.pair.token.reveal(), new.pair.token.reveal()[:-1]):
        with pytest.raises(Unauthenticated) as caught:
            identity.authenticate_token(token)
        token_answers.append(caught.value.detail)

    # then all that were sent in one way read the same
    assert len(set(answers)) == 1
    assert len(set(token_answers)) == 1


def test_a_wrong_checksum_asks_no_database(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_database(tenant_id: UUID | None = None) -> object:
        raise AssertionError("a query was made")

    new = identity.create_key(project.tenant_id, project.id)
    key, secret, tenant_id, project_id = headers(new)
    monkeypatch.setattr(db, "connection", no_database)
    flipped = key[:-1] + ("0" if key[-1] != "0" else "1")

    with pytest.raises(Unauthenticated):
        identity.authenticate(flipped, secret, tenant_id, project_id)


def test_a_revoked_key_is_refused_at_once_here(project: Project) -> None:
    new = identity.create_key(project.tenant_id, project.id)
    identity.authenticate(*headers(new))

    identity.revoke_key(project.tenant_id, new.key.id)

    with pytest.raises(Unauthenticated):
        identity.authenticate(*headers(new))
    assert identity.revoke_key(project.tenant_id, new.key.id).revoked_at is not None


def test_a_key_revoked_elsewhere_is_refused_within_five_seconds(project: Project) -> None:
    # given a key that this process trusts
    new = identity.create_key(project.tenant_id, project.id)
    identity.authenticate(*headers(new))

    # when another process revokes it
    with db.connection() as connection:
        connection.execute("UPDATE api_key SET revoked_at = now() WHERE id = %s", (new.key.id,))

    # then the trust runs out
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            identity.authenticate(*headers(new))
        except Unauthenticated:
            return
        time.sleep(0.05)
    pytest.fail("the revoked key still worked after five seconds")


def test_rotation_leaves_both_keys_working(project: Project) -> None:
    old = identity.create_key(project.tenant_id, project.id, name="prod")

    new = identity.rotate_key(project.tenant_id, old.key.id)

    assert new.key.name == "prod"
    assert identity.authenticate(*headers(old)).key_id == old.key.id
    assert identity.authenticate(*headers(new)).key_id == new.key.id
    assert {key.id for key in identity.list_keys(project.tenant_id, project.id)} == {old.key.id, new.key.id}


def test_rotation_may_end_the_old_key(project: Project) -> None:
    old = identity.create_key(project.tenant_id, project.id)

    identity.rotate_key(project.tenant_id, old.key.id, old_valid_seconds=0)

    with pytest.raises(Unauthenticated):
        identity.authenticate(*headers(old))
    with pytest.raises(Conflict):
        identity.rotate_key(project.tenant_id, old.key.id)


def test_lists_page_newest_first(project: Project) -> None:
    made = [identity.create_key(project.tenant_id, project.id).key.id for _ in range(3)]

    first = identity.list_keys(project.tenant_id, project.id, limit=2)
    rest = identity.list_keys(project.tenant_id, project.id, limit=2, before=first[-1].id)

    assert [key.id for key in first + rest] == sorted(made, reverse=True)


def test_what_belongs_to_another_tenant_does_not_exist(project: Project) -> None:
    new = identity.create_key(project.tenant_id, project.id)
    stranger = identity.create_tenant("Stranger").id

    for attempt in (
        lambda: identity.create_key(stranger, project.id),
        lambda: identity.list_keys(stranger, project.id),
        lambda: identity.revoke_key(stranger, new.key.id),
        lambda: identity.rotate_key(stranger, new.key.id),
        lambda: identity.create_project(new_id(), "x"),
        lambda: identity.projects(new_id()),
    ):
        with pytest.raises(NotFound):
            attempt()
    identity.authenticate(*headers(new))


def test_tenants_and_projects_are_listed() -> None:
    one, two = identity.create_tenant("One"), identity.create_tenant("Two")
    project = identity.create_project(two.id, "P")

    assert [tenant.id for tenant in identity.tenants()] == sorted([one.id, two.id], reverse=True)
    assert [found.id for found in identity.projects(two.id)] == [project.id]
    assert identity.projects(one.id) == []


def test_use_of_a_key_is_noted(project: Project) -> None:
    new = identity.create_key(project.tenant_id, project.id)

    identity.authenticate(*headers(new))

    assert identity.list_keys(project.tenant_id, project.id)[0].last_used_at is not None


def test_only_digests_are_stored(project: Project) -> None:
    new = identity.create_key(project.tenant_id, project.id)

    with db.connection() as connection:
        row = connection.execute("SELECT api_key::text AS everything FROM api_key").fetchone()

    assert row is not None
    assert new.pair.api_key.reveal()[20:] not in row["everything"]
    assert new.pair.secret_key.reveal()[8:] not in row["everything"]


def test_many_callers_make_one_query() -> None:
    # given a value that many threads ask for while the first of them loads it
    cache: ShortCache[str, int] = ShortCache(seconds=10, grace_seconds=0, size=2)
    loads, loading, go_on = [], threading.Event(), threading.Event()

    def load() -> int:
        loads.append(1)
        loading.set()
        go_on.wait(10)
        return 7

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(cache.get("k", load))) for _ in range(20)]
    for thread in threads:
        thread.start()
    loading.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)

    assert found == [7] * 20
    assert len(loads) == 1


def test_a_value_that_has_run_out_is_loaded_anew_beside_those_who_ask_for_it() -> None:
    # given a value that ran out at once, and is good for a while all the same
    cache: ShortCache[str, str] = ShortCache(seconds=0, grace_seconds=30, size=2)
    assert cache.get("k", lambda: "old") == "old"
    loads, go_on = [], threading.Event()

    def load() -> str:
        loads.append(threading.current_thread())
        go_on.wait(10)
        return "new"

    # when many ask, then nobody waits for the load
    assert [cache.get("k", load) for _ in range(20)] == ["old"] * 20
    go_on.set()
    loads[0].join(10)
    assert len(loads) == 1
    assert cache.peek("k") == "new"

    def fail() -> str:
        loads.append(threading.current_thread())
        raise NotFound

    # and a load that fails leaves what there is
    assert cache.get("k", fail) == "new"
    loads[-1].join(10)
    assert cache.get("k", load) == "new"


def test_the_cache_is_bounded_and_keeps_no_errors() -> None:
    cache: ShortCache[int, int] = ShortCache(seconds=10, grace_seconds=0, size=2)

    def fail() -> int:
        raise NotFound

    with pytest.raises(NotFound):
        cache.get(0, fail)
    for number in range(5):
        assert cache.get(number, lambda number=number: number) == number

    # then the oldest was dropped and is loaded again, the newest is not
    assert cache.get(0, lambda: 99) == 99
    assert cache.get(4, lambda: 99) == 4


def test_what_is_renewed_outlasts_what_was_read_before() -> None:
    # given a load that began before a change
    cache: ShortCache[str, str] = ShortCache(seconds=10, grace_seconds=0, size=2)
    loading, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        loading.set()
        go_on.wait(10)
        return "before"

    thread = threading.Thread(target=cache.get, args=("k", slow))
    thread.start()
    loading.wait(10)

    # when whoever made the change renews the value, and the load ends after it
    assert cache.renew("k", lambda: "after") == "after"
    go_on.set()
    thread.join(10)

    assert cache.get("k", lambda: "asked again") == "after"
