"""Anthropic's way of cutting a list into pages: `limit`, and a cursor on either side."""

from __future__ import annotations

from urllib.parse import parse_qs

from simulator.prompt import Refusal


def page(ids: list[str], query: str) -> tuple[slice, bool]:
    """Which part of a list the query `limit&after_id&before_id` asks for, and whether more lies beyond it.

    Raises Refusal (400) for a bad limit or cursor.
    """
    given = parse_qs(query)
    try:
        limit = int(given.get("limit", ["20"])[0])
    except ValueError:
        limit = 0
    if not 1 <= limit <= 1000:
        raise Refusal(400, "limit: Input should be between 1 and 1000")
    before = "before_id" in given
    cursor = given.get("before_id" if before else "after_id", [None])[0]
    if cursor is not None and cursor not in ids:
        raise Refusal(400, f"{'before_id' if before else 'after_id'}: unknown id '{cursor}'")
    if before and cursor is not None:
        end = ids.index(cursor)
        first = max(0, end - limit)
        return slice(first, end), first > 0
    first = ids.index(cursor) + 1 if cursor is not None else 0
    return slice(first, first + limit), first + limit < len(ids)
