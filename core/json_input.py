"""JSON from outside: parsed strictly, with the depth bounded before anything recurses over it."""

from __future__ import annotations

from typing import Any

import orjson


class BadJson(ValueError):
    """The text is not JSON that this service takes; the message says why, for the caller."""


def loads(text: bytes, *, max_depth: int) -> Any:
    """Parse JSON (RFC 8259): no NaN, no lone surrogates, no more than `max_depth` levels.

    Raises
    ------
    BadJson
        Not such JSON; its text is safe to show to the caller.
    """
    # Counting brackets is cheap and an upper bound of the depth; only a suspicious text is walked through.
    if text.count(b"[") + text.count(b"{") > max_depth and _depth(text) > max_depth:
        raise BadJson(f"nested deeper than {max_depth} levels")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadJson(f"not valid JSON: {error}") from None


def _depth(text: bytes) -> int:
    """The deepest nesting of brackets outside strings."""
    deepest = depth = 0
    position, end = 0, len(text)
    while position < end:
        match text[position]:
            case 0x22:  # a string: skip to its end
                position += 1
                while position < end and text[position] != 0x22:
                    position += 2 if text[position] == 0x5C else 1
            case 0x5B | 0x7B:
                depth += 1
                deepest = max(deepest, depth)
            case 0x5D | 0x7D:
                depth -= 1
        position += 1
    return deepest
