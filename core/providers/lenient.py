"""What is read of a provider's answer that is not quite sound: it was paid for, so a detail does not spoil it."""

from __future__ import annotations

import re
from typing import Any

import orjson

_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)


def loads(body: bytes) -> Any:
    """JSON, also with the two faults that models themselves cause: half an escaped surrogate pair, and broken UTF-8.

    Each is replaced by U+FFFD instead of refused. Raises ValueError if it is no JSON even then.
    """
    try:
        return orjson.loads(body)
    except ValueError:
        mended = _ESCAPES.sub(lambda found: rb"\ufffd" if found[1] else found[0], body)
        return orjson.loads(mended.decode("utf-8", "replace"))


def count(value: object) -> int:
    """A token counter of an answer: a non-negative integer of which an integer column holds three added up, else 0."""
    return value if type(value) is int and 0 <= value < 1 << 29 else 0
