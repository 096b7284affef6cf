"""Reading bodies: limits are held before anything is parsed, lines come out whole and in order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from app import body
from core.errors import InvalidInput, TooLarge


def _chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@given(
    st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line and b"\r" not in line)), st.integers(1, 17)
)
def test_lines_do_not_depend_on_how_the_body_was_cut(lines: list[bytes], size: int) -> None:
    # given lines that arrive in pieces of any size
    data = b"".join(line + b"\n" for line in lines)
    # then they come out as they were
    assert list(body.lines(_chunks(data, size), 100)) == lines


def test_the_last_line_needs_no_end() -> None:
    assert list(body.lines(iter([b"a\r\nb"]), 10)) == [b"a", b"b"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_line_over_the_limit_is_refused_by_number_and_limit(size: int) -> None:
    data = b"short\n" + b"x" * 200 + b"\n"
    with pytest.raises(TooLarge, match="Line 2 is longer than 100 bytes"):
        list(body.lines(_chunks(data, size), 100))


def test_a_body_longer_than_it_may_be_is_refused_while_it_arrives(app: Flask) -> None:
    # given a body without a Content-Length
    environ = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    with app.test_request_context(method="POST", data=b"x" * 1000, environ_overrides=environ) as context:
        context.request.environ.pop("CONTENT_LENGTH", None)
        # then what really arrives counts
        with pytest.raises(TooLarge, match="999 bytes"):
            list(body.chunks(999))


def test_the_content_length_alone_is_enough_to_refuse(app: Flask) -> None:
    with app.test_request_context(method="POST", environ_overrides={"CONTENT_LENGTH": "5000"}), pytest.raises(TooLarge):
        next(body.chunks(999))


def test_an_encoded_body_is_refused(app: Flask) -> None:
    headers = {"content-encoding": "gzip"}
    with app.test_request_context(method="POST", data=b"x", headers=headers), pytest.raises(InvalidInput):
        next(body.chunks(999))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"a": 1} trailing',
        b'{"a": "\x01"}',
        b'{"a": "\xff"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a": ' + b"[" * 65 + b"]" * 65 + b"}",
    ],
)
def test_what_is_no_json_object_is_refused(app: Flask, text: bytes) -> None:
    with (
        app.test_request_context(method="POST", data=text, content_type="application/json"),
        pytest.raises(InvalidInput),
    ):
        body.json_object()


def test_a_nul_is_refused_with_its_place(app: Flask) -> None:
    text = b'{"a/b": [{"c": "x\\u0000"}], "plain": "\\\\u0000"}'
    with (
        app.test_request_context(method="POST", data=text, content_type="application/json"),
        pytest.raises(InvalidInput) as refused,
    ):
        body.json_object()
    assert [found.pointer for found in refused.value.errors] == ["/a~1b/0/c"]


def test_brackets_in_strings_are_no_depth(app: Flask) -> None:
    text = b'{"a": "' + b"[" * 1000 + b'"}'
    with app.test_request_context(method="POST", data=text, content_type="application/json"):
        assert body.json_object() == {"a": "[" * 1000}


def test_another_content_type_is_told_what_to_send(app: Flask) -> None:
    with (
        app.test_request_context(method="POST", data=b"{}", content_type="application/x-www-form-urlencoded"),
        pytest.raises(InvalidInput, match="application/json"),
    ):
        body.json_object()


def test_half_an_upload_is_no_upload(app: Flask) -> None:
    # given a body that ends before its Content-Length, at the end of a line
    environ = {"CONTENT_LENGTH": "100", "wsgi.input_terminated": True}
    # then its lines do not pass for the whole
    with (
        app.test_request_context(method="POST", data=b"{}\n", environ_overrides=environ),
        pytest.raises(InvalidInput, match="cut short"),
    ):
        list(body.chunks(999))


def test_a_broken_transfer_encoding_is_the_senders_fault(app: Flask) -> None:
    class Broken:
        def read(self, size: int = -1) -> bytes:
            raise RuntimeError("invalid chunk size")

    environ = {"wsgi.input": Broken(), "wsgi.input_terminated": True}
    with app.test_request_context(method="POST", environ_overrides=environ), pytest.raises(InvalidInput):
        list(body.chunks(999))
