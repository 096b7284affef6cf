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
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadJson(f"not valid JSON: {error}") from None
    # Counting brackets is cheap and an upper bound of the depth; only a suspicious text is walked through.
    if text.count(b"[") + text.count(b"{") > max_depth and _deeper(found, max_depth):
        raise BadJson(f"nested deeper than {max_depth} levels")
    return found


def _deeper(found: Any, levels: int) -> bool:
    """True if containers lie in each other more than `levels` deep. Level by level: nothing recurses."""
    level = [found] if isinstance(found, dict | list) else []
    for _ in range(levels):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
    return bool(level)
