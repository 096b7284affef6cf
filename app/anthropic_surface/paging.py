"""Lists in Anthropic's form: limit, after_id and before_id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import request

from core.errors import FieldError, InvalidInput

MAX_LIMIT = 1000
DEFAULT_LIMIT = 20

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class PageQuery:
    """What the query asks for: at most one of the two ids is set."""

    limit: int
    after_id: str | None
    before_id: str | None


def query() -> PageQuery:
    """The paging parameters of the request. Raises InvalidInput."""
    wrong = []
    text = request.args.get("limit", str(DEFAULT_LIMIT))
    limit = int(text) if text.isdecimal() and len(text) < 6 else 0
    if not 1 <= limit <= MAX_LIMIT:
        wrong.append(FieldError("?limit", f"Input should be from 1 to {MAX_LIMIT}"))
    after, before = request.args.get("after_id"), request.args.get("before_id")
    if after and before:
        wrong.append(FieldError("?before_id", "give either after_id or before_id"))
    if wrong:
        raise InvalidInput(wrong)
    return PageQuery(limit, after or None, before or None)


def page(shown: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    """The list object for the items of one page."""
    return {
        "data": shown,
        "has_more": more,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }


def page_of(
    items: Sequence[_Item], *, name: Callable[[_Item], str], show: Callable[[_Item], dict[str, Any]]
) -> dict[str, Any]:
    """The page of a list that is all in memory. Raises InvalidInput for an id that is not in it."""
    asked = query()
    names = [name(item) for item in items]
    start, end = 0, len(items)
    for field, given in (("after_id", asked.after_id), ("before_id", asked.before_id)):
        if given is None:
            continue
        if given not in names:
            raise InvalidInput([FieldError(f"?{field}", "is not in this list")])
        if field == "after_id":
            start = names.index(given) + 1
        else:
            end = names.index(given)
    if asked.before_id is not None:
        first = max(end - asked.limit, 0)
        return page([show(item) for item in items[first:end]], first > 0)
    last = min(start + asked.limit, end)
    return page([show(item) for item in items[start:last]], last < end)
