"""Lines out of a stream of bytes, one at a time: memory holds one line, whatever the size of the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

#: The longest line that is taken, as for the answer of a live call.
MAX_LINE_BYTES = 64 << 20


def lines_of(pieces: Iterable[bytes], max_bytes: int = MAX_LINE_BYTES) -> Iterator[bytes | None]:
    """The lines that are not blank, without their line breaks; None in the place of one longer than `max_bytes`."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            if size + end - start > max_bytes:
                yield None
            else:
                line = piece[start:end]
                if held:
                    line = b"".join((*held, line))
                if not line.isspace() and line:
                    yield line
            held, size, start = [], 0, end + 1
        size += len(piece) - start
        if size > max_bytes:
            # The rest of it is only counted.
            held = []
        elif start < len(piece):
            held.append(piece[start:])
    if size > max_bytes:
        yield None
    elif held:
        line = b"".join(held)
        if not line.isspace():
            yield line
