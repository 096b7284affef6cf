"""A stream's events for the caller: which may be the last, what is added to it, and the text that a model wrote."""

from __future__ import annotations

from typing import Any

import orjson

#: An event with one of these may be the caller's last. They are in no text of an answer: its quotes are escaped.
_LAST_EVENT_MARKS = (b'"finish_reason":"', b'"finish_reason": "', b'"choices":[]', b'"choices": []')


def without_last(events: bytes) -> tuple[bytes, bytes]:
    """Events that can go out, and one at their end that is kept back: it may be the last, which says what it cost."""
    before = events.rfind(b"\n\n", 0, -2)
    start = before + 2 if before >= 0 else 0
    last = events[start:] if start else events
    for mark in _LAST_EVENT_MARKS:
        if mark in last:
            return events[:start], last
    return events, b""


def extended(events: bytes, extra: dict[str, Any]) -> bytes:
    """The same events, the last one's object with more fields."""
    end = events.rstrip(b"\n")
    if not end.endswith(b"}"):
        return events
    return end[:-1] + b"," + orjson.dumps(extra)[1:] + b"\n\n"


def text_of(completion: dict[str, Any]) -> str:
    """All that a model wrote: content, refusals, reasoning, arguments of calls."""
    pieces = []
    for choice in completion["choices"]:
        message = choice["message"]
        pieces += [message.get(field) for field in ("content", "refusal", "reasoning_content", "reasoning")]
        for call in message.get("tool_calls") or ():
            body = call.get(call.get("type")) or {}
            pieces += [body.get("name"), body.get("arguments") or body.get("input")]
    return "".join(piece for piece in pieces if isinstance(piece, str))
