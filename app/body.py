"""Reads request bodies: counted against the limits before anything parses them, JSON or one JSON a line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import IO, Any

import gevent
from flask import g, request

from app.application import this_request
from core import json_input
from core.errors import FieldError, InvalidInput, TooLarge
from core.settings import settings

JSON_TYPES = frozenset({"application/json"})
NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
CHUNK_BYTES = 64 << 10
#: A sender that stays below this rate after the grace holds a connection for nothing.
MIN_BYTES_PER_SECOND = 1024
GRACE_SECONDS = 30.0
#: Strings with NUL that one answer reports.
_MAX_REPORTED = 100


def is_ndjson() -> bool:
    return request.mimetype in NDJSON_TYPES


def chunks(limit: int, observe: Callable[[bytes], object] | None = None) -> Iterator[bytes]:
    """The body as it arrives, never more than `limit` bytes of it.

    Parameters
    ----------
    limit : bytes; the Content-Length is held against it first, then what really arrives.
    observe : called with each chunk (a digest, a counter).

    Raises
    ------
    TooLarge
        The body is longer than the limit.
    InvalidInput
        It is encoded, or its sender is too slow.
    """
    asked = this_request()
    length = asked.content_length
    if asked.headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidInput(detail="Send the body without a content-encoding.")
    if (length or 0) > limit:
        raise _too_long(limit)
    read = 0
    started = time.monotonic()
    while read != length:
        chunk = _read(asked.stream)
        if not chunk:
            break
        read += len(chunk)
        if read > limit:
            raise _too_long(limit)
        elapsed = time.monotonic() - started
        if elapsed > GRACE_SECONDS and read < elapsed * MIN_BYTES_PER_SECOND:
            raise InvalidInput(detail=f"The body arrives slower than {MIN_BYTES_PER_SECOND} bytes a second.")
        if observe is not None:
            observe(chunk)
        yield chunk
    # The server hands over what it got: half an upload must not pass for a whole one.
    if length is not None and read < length:
        raise _cut_short()


def _read(stream: IO[bytes]) -> bytes:
    """The next piece, empty at the end; what the server finds wrong with the framing is the sender's fault."""
    try:
        with gevent.Timeout(GRACE_SECONDS) as too_long:
            return stream.read(CHUNK_BYTES)
    except gevent.Timeout as timeout:
        if timeout is not too_long:
            raise
        raise InvalidInput(detail="The body stopped arriving.") from None
    except Exception as error:
        raise _cut_short() from error


def _cut_short() -> InvalidInput:
    return InvalidInput(detail="The body was cut short, or its transfer encoding is broken.")


def _too_long(limit: int) -> TooLarge:
    return TooLarge(f"The body is longer than {limit:,} bytes, the limit of this route.")


def ndjson_chunks(observe: Callable[[bytes], object] | None = None) -> Iterator[bytes]:
    """The body of a streamed batch, under its own limit."""
    return chunks(settings().max_body_bytes, observe)


def raw() -> bytes:
    """The whole body of a request that is not streamed, read once."""
    if "raw_body" not in g:
        g.raw_body = b"".join(chunks(settings().max_json_bytes))
    found: bytes = g.raw_body
    return found


def json_object() -> dict[str, Any]:
    """The body as a JSON object.

    Raises
    ------
    InvalidInput
        It is not JSON, not an object, nested too deeply, or holds a NUL (which no text in the database can).
    TooLarge
        It is over the limit.
    """
    if "json_body" not in g:
        g.json_body = _parse(raw())
    found: dict[str, Any] = g.json_body
    return found


def _parse(text: bytes) -> dict[str, Any]:
    if text and request.mimetype not in JSON_TYPES:
        raise InvalidInput(detail="Send the body as JSON, with the header `content-type: application/json`.")
    if not text:
        raise InvalidInput([FieldError("", "the body is empty; send a JSON object")])
    try:
        found = json_input.loads(text, max_depth=settings().max_depth)
    except json_input.BadJson as error:
        raise InvalidInput(
            [FieldError("", str(error))], f"The body is not JSON that this service takes: {error}."
        ) from error
    if not isinstance(found, dict):
        raise InvalidInput([FieldError("", "must be a JSON object")])
    if b"\\u0000" in text and (errors := list(_nuls(found))):
        raise InvalidInput(errors)
    return found


def _nuls(value: object) -> Iterator[FieldError]:
    """Where a parsed body holds U+0000; its depth is bounded, so recursion is safe."""
    left = [("", value)]
    found = 0
    while left and found < _MAX_REPORTED:
        pointer, value = left.pop()
        if isinstance(value, str) and "\0" in value:
            found += 1
            yield FieldError(pointer, "must not contain \\u0000")
        elif isinstance(value, dict):
            if any("\0" in key for key in value):
                found += 1
                yield FieldError(pointer, "has a name that contains \\u0000")
            left.extend((f"{pointer}/{_token(key)}", item) for key, item in value.items() if "\0" not in key)
        elif isinstance(value, list):
            left.extend((f"{pointer}/{index}", item) for index, item in enumerate(value))


def _token(key: str) -> str:
    """A name as a token of a JSON pointer (RFC 6901, 3)."""
    return key.replace("~", "~0").replace("/", "~1")


def lines(parts: Iterator[bytes], limit: int) -> Iterator[bytes]:
    """The lines of a body, without their ends; at most one line and one chunk are held.

    An empty line comes as b"", so that lines keep their numbers; the end of the last one is no line of its own.

    Raises
    ------
    TooLarge
        A line is longer than `limit` bytes.
    """
    pieces: list[bytes] = []
    held = 0
    number = 0
    for chunk in parts:
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            number += 1
            pieces.append(piece)
            if held + len(piece) > limit:
                raise _line_too_long(number, limit)
            yield b"".join(pieces).rstrip(b"\r")
            pieces, held = [], 0
        pieces.append(rest)
        held += len(rest)
        if held > limit:
            raise _line_too_long(number + 1, limit)
    if held:
        yield b"".join(pieces).rstrip(b"\r")


def _line_too_long(number: int, limit: int) -> TooLarge:
    return TooLarge(f"Line {number} is longer than {limit:,} bytes, the limit of one row.")
