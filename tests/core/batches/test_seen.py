"""The set of custom_ids in few bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.batches.seen import Seen


@given(st.lists(st.text(max_size=3), max_size=300))
def test_it_tells_what_a_set_tells(texts: list[str]) -> None:
    ours, theirs = Seen(), set()
    for text in texts:
        assert ours.add(text) is (text not in theirs)
        theirs.add(text)


def test_it_grows_and_stays_small() -> None:
    seen = Seen()
    assert all(seen.add(f"request-{n}") for n in range(100_000))
    assert not any(seen.add(f"request-{n}") for n in range(0, 100_000, 7))
    assert seen.size() < 33 * 100_000
