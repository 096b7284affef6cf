"""Bytes on their way to a socket."""

from __future__ import annotations

from collections.abc import Iterator


def gathered(parts: Iterator[bytes], size: int = 64 << 10) -> Iterator[bytes]:
    """The same bytes in pieces worth a write."""
    held: list[bytes] = []
    length = 0
    for part in parts:
        held.append(part)
        length += len(part)
        if length >= size:
            yield b"".join(held)
            held, length = [], 0
    if held:
        yield b"".join(held)
