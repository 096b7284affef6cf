"""Lines out of a stream, however the network cuts it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.native.result_lines import lines_of


@given(
    st.lists(st.sampled_from([b"", b" ", b"a", b"bc", b"def\r", b"\xff" * 5])),
    st.lists(st.integers(0, 60)),
    st.booleans(),
)
def test_lines_do_not_depend_on_the_cuts(lines: list[bytes], cuts: list[int], ended: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(places)]

    assert list(lines_of(pieces)) == [line for line in lines if line.strip()]


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"12345\n", b"6"], [b"12345", b"6"]),
        ([b"123456\n7"], [None, b"7"]),
        ([b"123", b"456", b"789", b"0\n", b"1\n"], [None, b"1"]),
        ([b"1\n123", b"456\n2\n"], [b"1", None, b"2"]),
        ([b"123", b"456"], [None]),
        ([b"123", b"45"], [b"12345"]),
    ],
)
def test_a_line_over_the_limit_is_passed_over(pieces: list[bytes], lines: list[bytes | None]) -> None:
    assert list(lines_of(pieces, 5)) == lines
