"""Ids: time-ordered UUIDs inside, prefixed text outside (`batch_...`), and the numbering of completions."""

from __future__ import annotations

import os
import re
import time
from uuid import UUID

from core.errors import NotFound

#: A lane of a batch (or a live API process) takes one block of completion ids; id = block << BLOCK_BITS | n.
BLOCK_BITS = 24
BLOCK_SIZE = 1 << BLOCK_BITS

_PUBLIC = re.compile(r"([a-z]+)_([0-9a-f]{32})\Z")


#: What a UUID's version and variant leave of the 80 bits after its time, and what they are.
_RANDOM_BITS = (1 << 80) - 1 ^ 0xF << 76 ^ 0x3 << 62
_VERSION_7 = 0x7 << 76 | 0x2 << 62


def new_id() -> UUID:
    """A UUID of version 7 (RFC 9562): sorted by time, so that indexes grow at one end."""
    return UUID(int=_new_number())


def new_public(prefix: str) -> str:
    """`public(prefix, new_id())`, for ids that are text from the start: without a UUID object, at half the price."""
    return f"{prefix}_{_new_number():032x}"


def _new_number() -> int:
    random = int.from_bytes(os.urandom(10), "big") & _RANDOM_BITS
    return time.time_ns() // 1_000_000 << 80 | random | _VERSION_7


def public(prefix: str, value: UUID) -> str:
    """`batch` and a UUID -> `batch_0192...`, as callers see it."""
    return f"{prefix}_{value.hex}"


def parse(prefix: str, text: str) -> UUID:
    """The UUID in a public id.

    Raises
    ------
    NotFound
        The text is not an id of this kind; the same answer as for an id that does not exist.
    """
    found = _PUBLIC.match(text)
    if not found or found[1] != prefix:
        raise NotFound
    return UUID(hex=found[2])
