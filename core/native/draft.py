"""The request of a shard: which rows it holds, in which order, made twice with the same bytes.

The first pass counts and measures, the second is sent as it is made, so that a shard of hundreds of megabytes is never
held in memory or on disk. Requests do not change once they are stored, so both passes give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from core import db, page_rows, partitions
from core.errors import InvalidInput
from core.native import caching
from core.native.remote import Remote
from core.native.shards import Shard

#: Rows that are read at once, at the most.
MAX_PAGE_ROWS = 200

Ids = list[int]


@dataclass(slots=True)
class Draft:
    """What goes to the provider."""

    endpoint: str = ""
    rows: int = 0
    line_bytes: int = 0
    #: completion ids in the order they are sent, and the marks for the provider's prompt cache by position
    order: Ids = field(default_factory=list)
    marks: caching.Marks = field(default_factory=caching.Marks)
    #: rows that this provider cannot be asked for at all: id -> what is wrong
    refused: dict[int, str] = field(default_factory=dict)
    #: if not all rows fit one request: how many leading rows of the shard's range do
    keep: int | None = None


def measure(shard: Shard, remote: Remote, *, pause: Callable[[], None]) -> Draft:
    """The first pass. Rows for another endpoint than the first row's are left out: one request takes one endpoint."""
    draft = Draft()
    plan = caching.Plan(shard.provider, shard.model) if shard.prompt_caching else None
    sizes: dict[int, int] = {}
    for row_id, params in _rows(shard, None, pause):
        try:
            endpoint = remote.endpoint(params, shard.model)
            draft.endpoint = draft.endpoint or endpoint
            if endpoint != draft.endpoint:
                continue
            size = len(remote.line(row_id, params, shard.model))
        except InvalidInput as error:
            draft.refused[row_id] = "; ".join(f"{each.pointer}: {each.message}" for each in error.errors) or str(error)
            continue
        if not _fits(remote, draft.rows + 1, draft.line_bytes + size):
            draft.keep = row_id - shard.first_id
            break
        draft.rows += 1
        draft.line_bytes += size
        sizes[row_id] = size
        draft.order.append(row_id)
        if plan is not None:
            plan.see(row_id, params)
    if plan is not None and plan.worth_it():
        _mark(shard, remote, draft, plan, sizes, pause)
    return draft


def _mark(
    shard: Shard, remote: Remote, draft: Draft, plan: caching.Plan, sizes: dict[int, int], pause: Callable[[], None]
) -> None:
    """Put rows that share a prefix together and mark them, where they still fit."""
    order, marks = plan.ordered(draft.order)
    line_bytes = draft.line_bytes
    for row_id, params in _rows(shard, sorted(marks.by_row), pause):
        marked = caching.marked(params, marks.by_row[row_id])
        line_bytes += len(remote.line(row_id, marked, shard.model)) - sizes[row_id]
    if _fits(remote, draft.rows, line_bytes):
        draft.order, draft.marks, draft.line_bytes = order, marks, line_bytes


def _fits(remote: Remote, rows: int, line_bytes: int) -> bool:
    return rows <= remote.max_rows and remote.framed_length(rows, line_bytes) <= remote.max_bytes


def lines(shard: Shard, remote: Remote, draft: Draft, *, pause: Callable[[], None]) -> Iterator[bytes]:
    """The second pass: the lines, in the draft's order."""
    for row_id, params in _rows(shard, draft.order, pause):
        if row_id in draft.marks.by_row:
            params = caching.marked(params, draft.marks.by_row[row_id])
        yield remote.line(row_id, params, shard.model)


def _rows(shard: Shard, order: Ids | None, pause: Callable[[], None]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(completion id, request) of the shard's rows: of these in this order, or of all that have no answer."""
    size = page_rows.FIRST_ROWS
    if order is not None:
        at = 0
        while wanted := order[at : at + size]:
            with db.connection() as connection:
                request = partitions.holding(connection, "completion_request", shard.created_at)
                found = {
                    row["id"]: row["body"]
                    for row in connection.execute(
                        f"SELECT completion_id AS id, body FROM {request} WHERE completion_id = ANY(%s)",  # noqa: S608
                        (wanted,),
                    )
                }
            at += len(wanted)
            size = page_rows.following(size, len(wanted), sum(map(len, found.values())), most=MAX_PAGE_ROWS)
            for row_id in wanted:
                yield row_id, orjson.loads(found.pop(row_id))
            pause()
        return
    at = shard.first_id
    while at < shard.end_id:
        with db.connection() as connection:
            page = connection.execute(
                _PENDING.format(
                    completion=partitions.holding(connection, "completion", shard.created_at),
                    request=partitions.holding(connection, "completion_request", shard.created_at),
                ),
                (at, shard.end_id, size),
            ).fetchall()
        for row in page:
            yield row["id"], orjson.loads(row["body"])
        if len(page) < size:
            return
        at = page[-1]["id"] + 1
        size = page_rows.following(size, len(page), sum(len(row["body"]) for row in page), most=MAX_PAGE_ROWS)
        pause()


# The page is cut first: see core/batches/results.py.
_PENDING = """
SELECT c.id, r.body FROM (
    SELECT id FROM {completion} c WHERE c.id >= %s AND c.id < %s AND c.status = 'pending'
      AND NOT EXISTS (SELECT FROM lease WHERE lease.completion_id = c.id)
    ORDER BY c.id LIMIT %s
) c JOIN {request} r ON r.completion_id = c.id
ORDER BY c.id
"""
