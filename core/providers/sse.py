"""Server-sent events, decoded from whatever pieces the network delivers, and written for our callers."""

from __future__ import annotations

from typing import Any

import orjson

from core.providers.types import Failure

#: what ends a stream in OpenAI's form; the caller sends it once the completion is recorded
DONE = b"data: [DONE]\n\n"
#: keeps proxies from closing a stream in which nothing happens
KEEP_ALIVE = b": ping\n\n"
#: the longest event; a provider that sends more without a blank line is not speaking SSE
MAX_EVENT_BYTES = 16 << 20


class EventTooLong(Exception):
    """A server-sent event is longer than MAX_EVENT_BYTES."""


class EventDecoder:
    """Cuts a byte stream into events (WHATWG HTML, 9.2): LF, CRLF or CR, comments, data over several lines.

    Event names are not kept: Anthropic repeats them inside the data, OpenAI has none. Bytes are cut only at line
    ends, so a character split over two pieces stays whole.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._after_cr = False
        self._started = False

    def feed(self, piece: bytes) -> list[bytes | None]:
        """The data of every event that `piece` completes; None for an event of comments only. Raises EventTooLong."""
        if self._started and not self._buffer and not self._after_cr:
            whole = _one_event(piece)
            if whole is not None:
                return [whole]
        if not self._started and piece:
            self._started = True
            piece = piece.removeprefix(b"\xef\xbb\xbf")
        if self._after_cr:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        if b"\r" in piece:
            self._after_cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        # The blank line may begin in the last piece: look from one byte before the new one.
        start = max(len(self._buffer) - 1, 0)
        self._buffer += piece
        if self._buffer.find(b"\n\n", start) < 0:
            if len(self._buffer) > MAX_EVENT_BYTES:
                raise EventTooLong
            return []
        *blocks, last = bytes(self._buffer).split(b"\n\n")
        self._buffer = bytearray(last)
        return [data for block in blocks if (data := _data(block)) != b""]

    def rest(self) -> list[bytes | None]:
        """The event that the stream ended in, for servers that forget the last blank line."""
        data = _data(bytes(self._buffer))
        self._buffer.clear()
        return [data] if data else []


def _one_event(piece: bytes) -> bytes | None:
    """The data of what servers send nearly always: one whole event, its data in one line, perhaps named."""
    start = piece.find(b"\n") + 1 if piece.startswith(b"event: ") else 0
    if not piece.startswith(b"data: ", start) or not piece.endswith(b"\n\n") or b"\r" in piece:
        return None
    if piece.find(b"\n", start) != len(piece) - 2 or len(piece) > MAX_EVENT_BYTES:
        return None
    return piece[start + 6 : -2]


def _data(block: bytes) -> bytes | None:
    """The data of one event: b"" for nothing at all, None for comments only."""
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    lines = []
    commented = False
    for line in block.split(b"\n"):
        if line.startswith(b"data:"):
            lines.append(line[5:].removeprefix(b" "))
        elif line.startswith(b":"):
            commented = True
    if lines:
        return b"\n".join(lines)
    return None if commented else b""


def event(value: Any) -> bytes:
    """One event in OpenAI's form."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def error_event(failure: Failure) -> bytes:
    """The event that tells a caller in mid-stream why there will be no more; the connection closes without DONE."""
    error = {
        "message": failure.message,
        "type": failure.reason.value,
        "param": None,
        "code": failure.provider_code,
    }
    return event({"error": error})
