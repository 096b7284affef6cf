"""Secrets at rest: bound to tenant and row, key-encryption keys with versions, errors that name no key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import crypto, settings
from core.ids import new_id
from core.secret import Secret

TENANT, ROW = new_id(), new_id()


@pytest.fixture(autouse=True)
def _fresh_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    use(monkeypatch, crypto.new_kek_text())
    yield
    settings.settings.cache_clear()


def use(monkeypatch: pytest.MonkeyPatch, kek: Secret) -> None:
    monkeypatch.setenv("LLM_SERVICE_KEK", kek.reveal())
    settings.settings.cache_clear()


def test_a_secret_comes_back() -> None:
    ciphertext, version = crypto.encrypt(Secret("sk-ünïcode"), tenant_id=TENANT, row_id=ROW)

    assert b"sk-" not in ciphertext
    assert crypto.decrypt(ciphertext, version, tenant_id=TENANT, row_id=ROW).reveal() == "sk-ünïcode"


def test_the_same_secret_looks_different_each_time() -> None:
    assert (
        crypto.encrypt(Secret("s"), tenant_id=TENANT, row_id=ROW)[0]
        != crypto.encrypt(Secret("s"), tenant_id=TENANT, row_id=ROW)[0]
    )


@pytest.mark.parametrize(("tenant_id", "row_id"), [(new_id(), ROW), (TENANT, new_id()), (ROW, TENANT)])
def test_a_ciphertext_in_another_row_does_not_decrypt(tenant_id, row_id) -> None:
    ciphertext, version = crypto.encrypt(Secret("sk-1"), tenant_id=TENANT, row_id=ROW)

    with pytest.raises(crypto.KeyProblem, match="does not decrypt"):
        crypto.decrypt(ciphertext, version, tenant_id=tenant_id, row_id=row_id)


@given(st.binary(max_size=60))
def test_garbage_is_a_key_problem(ciphertext: bytes) -> None:
    with pytest.raises(crypto.KeyProblem):
        crypto.decrypt(ciphertext, 1, tenant_id=TENANT, row_id=ROW)


def test_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a secret under version 1, and then a second key
    first = crypto.new_kek_text()
    use(monkeypatch, first)
    ciphertext, version = crypto.encrypt(Secret("sk-1"), tenant_id=TENANT, row_id=ROW)
    assert version == 1
    both = crypto.new_kek_text(first)
    use(monkeypatch, both)

    # when it is encrypted again
    again, new_version = crypto.reencrypt(ciphertext, version, tenant_id=TENANT, row_id=ROW)

    # then the new key alone opens it, and the old form no longer opens
    assert new_version == 2
    use(monkeypatch, Secret(both.reveal().split(",")[1]))
    assert crypto.decrypt(again, 2, tenant_id=TENANT, row_id=ROW).reveal() == "sk-1"
    with pytest.raises(crypto.KeyProblem, match="key-encryption key 1, which is not configured"):
        crypto.decrypt(ciphertext, 1, tenant_id=TENANT, row_id=ROW)


def test_a_key_added_to_the_file_is_found_without_a_restart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # given a process that read its key from a file
    first = crypto.new_kek_text()
    file = tmp_path / "kek"
    file.write_text(first.reveal())
    monkeypatch.setenv("LLM_SERVICE_KEK_FILE", str(file))
    use(monkeypatch, Secret(""))
    assert crypto.newest_version() == 1

    # when a rotation elsewhere encrypts with a second key of the same file
    both = crypto.new_kek_text(first)
    use(monkeypatch, both)
    ciphertext, version = crypto.encrypt(Secret("sk-1"), tenant_id=TENANT, row_id=ROW)
    use(monkeypatch, Secret(""))
    file.write_text(both.reveal() + "\n")

    # then it decrypts here
    assert version == 2
    assert crypto.decrypt(ciphertext, version, tenant_id=TENANT, row_id=ROW).reveal() == "sk-1"


def test_without_a_key_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Secret(""))

    with pytest.raises(crypto.KeyProblem, match="set LLM_SERVICE_KEK"):
        crypto.encrypt(Secret("sk-1"), tenant_id=TENANT, row_id=ROW)


@pytest.mark.parametrize("text", ["x", "1:", "1:AAAA", "0:" + "A" * 43 + "=", "²:" + "A" * 43 + "=", "1:é"])
def test_a_malformed_key_is_named_by_its_place_only(text: str) -> None:
    with pytest.raises(crypto.KeyProblem) as caught:
        crypto.parse_kek_text(Secret(text))

    assert "AAAA" not in caught.value.detail


def test_a_version_given_twice_is_refused() -> None:
    one = crypto.new_kek_text().reveal()

    with pytest.raises(crypto.KeyProblem, match="twice"):
        crypto.parse_kek_text(Secret(f"{one},{one}"))
