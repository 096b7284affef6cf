"""How many rows a long read takes at once: as many as their bodies allow, so that memory stays small."""

from __future__ import annotations

#: Rows of the first page, before anything is known of their bodies.
FIRST_ROWS = 64
#: Bytes of bodies in a page, about.
PAGE_BYTES = 4 << 20


def following(size: int, found: int, read_bytes: int, *, most: int) -> int:
    """Rows of the next page: as many as PAGE_BYTES hold of rows like the last ones, growing fourfold at the most.

    Parameters
    ----------
    size : rows that the last page was allowed to have.
    found, read_bytes : rows that it had, and bytes of their bodies.
    most : rows of any page.
    """
    return max(1, min(most, PAGE_BYTES * found // max(read_bytes, 1), size * 4))
