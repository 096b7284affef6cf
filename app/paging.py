"""Pages of things whose ids are made by time: newest first, the cursor is the last one's id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from flask import Response

from app.answers import answer
from core import ids
from core.errors import FieldError, InvalidInput, NotFound

_Row = TypeVar("_Row")


def page_by_id(
    prefix: str, query: dict[str, Any], read: Callable[..., list[_Row]], show: Callable[[_Row], dict[str, Any]]
) -> Response:
    """The page that PageQuery asks for.

    Parameters
    ----------
    prefix : of the ids, as in `prov`.
    read : called with `limit` and `before` (a UUID or None).
    show : a row as its owner sees it, with its public `id`.
    """
    before: UUID | None = None
    if query["cursor"] is not None:
        try:
            before = ids.parse(prefix, query["cursor"])
        except NotFound:
            wrong = FieldError("?cursor", "is not a cursor; use next_cursor of the page before as it is")
            raise InvalidInput([wrong]) from None
    rows = read(limit=query["limit"] + 1, before=before)
    more = len(rows) > query["limit"]
    shown = [show(row) for row in rows[: query["limit"]]]
    return answer({"data": shown, "has_more": more, "next_cursor": shown[-1]["id"] if more else None})


def filter_id(prefix: str, name: str, given: str | None) -> UUID | None:
    """The id that the query parameter `name` filters by, None without one. Raises InvalidInput if it is no such id."""
    try:
        return None if given is None else ids.parse(prefix, given)
    except NotFound:
        raise InvalidInput([FieldError(f"?{name}", f"is not an id; one looks like {prefix}_...")]) from None
