"""API keys as text: round trips, and garbage that must never raise."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import keys

ALPHABET = string.digits + string.ascii_letters


def test_a_new_pair_has_the_documented_forms() -> None:
    pair = keys.new_pair()

    assert pair.api_key.reveal().startswith("llms_ak_")
    assert pair.secret_key.reveal().startswith("llms_sk_")
    assert len(pair.api_key.reveal()) == len(pair.secret_key.reveal()) == 8 + 43 + 6
    assert keys.is_api_key(pair.api_key.reveal())
    assert keys.is_secret_key(pair.secret_key.reveal())
    assert not keys.is_api_key(pair.secret_key.reveal())
    assert not keys.is_secret_key(pair.api_key.reveal())


def test_no_two_keys_are_the_same() -> None:
    made = {pair.api_key.reveal() for pair in (keys.new_pair() for _ in range(100))}

    assert len(made) == 100


def test_the_token_holds_both() -> None:
    pair = keys.new_pair()

    found = keys.parse_token(pair.token.reveal())

    assert found is not None
    assert found.api_key.reveal() == pair.api_key.reveal()
    assert found.secret_key.reveal() == pair.secret_key.reveal()


def test_a_pair_prints_nothing_of_itself() -> None:
    pair = keys.new_pair()

    assert pair.secret_key.reveal()[8:] not in repr(pair)
    assert pair.api_key.reveal()[8:] not in repr(pair)


@given(position=st.integers(min_value=0, max_value=8 + 43 + 5), character=st.sampled_from(ALPHABET))
def test_a_mistyped_character_breaks_the_checksum(position: int, character: str) -> None:
    key = keys.new_pair().api_key.reveal()
    mistyped = key[:position] + character + key[position + 1 :]

    assert keys.is_api_key(mistyped) == (mistyped == key)


@given(st.text() | st.from_regex(r"llms_(ak_|sk_)?[0-9A-Za-z]{0,100}"))
def test_garbage_is_no_key_and_never_raises(text: str) -> None:
    assert not keys.is_api_key(text)
    assert not keys.is_secret_key(text)
    assert keys.parse_token(text) is None


@pytest.mark.parametrize("tail", ["\n", " ", "\0", "é", "\ud800"])
def test_nothing_may_follow_a_key(tail: str) -> None:
    pair = keys.new_pair()

    assert not keys.is_api_key(pair.api_key.reveal() + tail)
    assert keys.parse_token(pair.token.reveal() + tail) is None


def test_only_the_right_key_matches_its_digest() -> None:
    pair, other = keys.new_pair(), keys.new_pair()

    assert keys.matches(pair.secret_key, keys.digest(pair.secret_key))
    assert not keys.matches(other.secret_key, keys.digest(pair.secret_key))
