"""JSON from outside: what is refused, and that nothing makes the parser fall over."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.json_input import BadJson, loads


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"NaN", b'{"a": Infinity}', b"[1,]", b'"\xff"', b'"\\ud800"', b"{} trailing", b"[" * 100_000],
)
def test_bad_json(text: bytes) -> None:
    with pytest.raises(BadJson):
        loads(text, max_depth=64)


def test_depth_is_counted_outside_strings_only() -> None:
    assert loads(b'{"a": "' + b"[" * 1000 + b'"}', max_depth=4) == {"a": "[" * 1000}
    assert loads(b'{"a": "\\"' + b"[" * 1000 + b'"}', max_depth=4)["a"].startswith('"[')
    assert loads(b"[[[[1]]]]", max_depth=4) == [[[[1]]]]
    with pytest.raises(BadJson, match="nested deeper than 4 levels"):
        loads(b"[[[[[1]]]]]", max_depth=4)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert loads(b"[" + b",".join([b"[]"] * 500) + b"]", max_depth=4) == [[]] * 500


@given(st.binary(max_size=200))
def test_anything_else_is_parsed_or_refused(text: bytes) -> None:
    with contextlib.suppress(BadJson):
        loads(text, max_depth=8)
