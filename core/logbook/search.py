"""Walks a project's completions from the newest to the oldest and gives those that a filter lets through.

The walk follows the index (project_id, created_at, id) partition by partition. What the index does not know (status,
model, text ...) is held against the rows as they go by, a bounded number at a time, and the walk knows where it stands
after each piece: whoever has waited long enough takes what was found and goes on from there with a cursor. Indexes on
what a row becomes when it ends would make every row's end an update of those indexes too.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from psycopg.rows import DictRow

from core import db
from core.db import RawConnection
from core.logbook.entry import COLUMNS, NOT_KEPT, Bodies, Position
from core.logbook.filters import Filter
from core.principal import Principal

#: Rows that one statement holds against a filter, and bodies that one searches for a text.
PIECE_ROWS = 10_000
PIECE_BODIES = 1_000
#: Live completions carry the clock of their process, which may be ahead of ours.
_CLOCKS = timedelta(days=1)
#: Each statement stays within a few partitions: the last day first (whoever follows a cursor has seen that one), then
#: the week, five weeks, and all before.
_LAST_DAY = timedelta(days=1) + _CLOCKS
_WINDOWS = (timedelta(days=7), timedelta(days=35))
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


class Walk:
    """One walk; `position` is where it stands, None when it is through."""

    def __init__(self, principal: Principal, wanted: Filter, after: Position | None) -> None:
        self._filter = wanted
        self._conditions, values = wanted.conditions()
        self._values: dict[str, object] = {
            **values,
            "tenant": principal.tenant_id,
            "project": principal.project_id,
        }
        self._tenant_id = principal.tenant_id
        self._earliest = max(_FIRST, wanted.since or _FIRST)
        top = Position(wanted.until or datetime.now(UTC) + _CLOCKS, 0)
        self.position: Position | None = top if after is None else min(top, after)
        if self.position.created_at < self._earliest:
            self.position = None
        self._windows = [*_WINDOWS] if after else [_LAST_DAY, *_WINDOWS]
        self._scoped = wanted.batch_id is None

    def more(self, count: int) -> list[DictRow]:
        """The next rows, at most `count`; fewer, even none, if a piece of the walk held no more of them."""
        if self.position is None:
            return []
        with db.connection(self._tenant_id) as connection:
            if not self._scoped and not self._narrow(connection):
                self.position = None
                return []
            if self._filter.text is not None and not keeps_bodies(connection, self._values["project"]):
                self.position = None
                return []
            if self._filter.custom_id is not None and self._filter.text is None:
                return self._by_custom_id(connection, count)
            return self._piece(connection, count)

    def _narrow(self, connection: RawConnection) -> bool:
        """A batch's rows all carry its created_at; False if there is no such batch."""
        self._scoped = True
        row = connection.execute(
            "SELECT created_at FROM batch WHERE id = %(batch_id)s AND tenant_id = %(tenant)s"
            " AND project_id = %(project)s",
            self._values,
        ).fetchone()
        assert self.position is not None
        if row is None or row["created_at"] < self._earliest or Position(row["created_at"], 0) > self.position:
            return False
        self._earliest = row["created_at"]
        self.position = min(self.position, Position(row["created_at"], (1 << 63) - 1))
        return True

    def _by_custom_id(self, connection: RawConnection, count: int) -> list[DictRow]:
        """A custom_id is found through the batches: each has an index on them."""
        rows = connection.execute(
            f"SELECT {COLUMNS} FROM batch b JOIN completion c"  # noqa: S608 (constants)
            " ON c.batch_id = b.id AND c.created_at = b.created_at"
            " WHERE b.tenant_id = %(tenant)s AND b.project_id = %(project)s AND c.tenant_id = %(tenant)s"
            f" AND b.created_at >= %(floor)s AND b.created_at <= %(at)s AND (c.created_at, c.id) < (%(at)s, %(id)s)"
            f"{self._conditions} ORDER BY c.created_at DESC, c.id DESC LIMIT %(count)s",
            {**self._values, **self._bounds(self._earliest), "count": count},
        ).fetchall()
        self.position = _of(rows[-1]) if len(rows) == count else None
        return rows

    def _piece(self, connection: RawConnection, count: int) -> list[DictRow]:
        """One window, or as many of its rows as one statement takes."""
        assert self.position is not None
        floor = self._earliest
        if self._windows:
            floor = max(floor, self.position.created_at - self._windows[0])
        size = PIECE_ROWS if self._filter.text is None else PIECE_BODIES
        values = {**self._values, **self._bounds(floor), "size": size, "count": count, "like": self._filter.like()}
        if self._filter.text is None:
            sql = f"SELECT * FROM ({ROWS} LIMIT %(size)s) c WHERE true{self._conditions} LIMIT %(count)s"  # noqa: S608
            rows = connection.execute(sql, values).fetchall()
        else:
            rows = self._with_text(connection, values, count)
        if len(rows) == count:
            self.position = _of(rows[-1])
            return rows
        last = connection.execute(f"{ROWS} OFFSET %(size)s - 1 LIMIT 1", values).fetchone()
        if last is not None:
            # The piece ended within the window.
            self.position = _of(last)
        elif floor == self._earliest:
            self.position = None
        else:
            self.position = Position(floor, 0)
            self._windows = self._windows[1:]
        return rows

    def _with_text(self, connection: RawConnection, values: dict[str, object], count: int) -> list[DictRow]:
        sql = _WITH_TEXT.format(rows=ROWS, conditions=self._conditions)
        found = []
        for row in connection.execute(sql, values):
            if self._filter.in_bodies(row.pop("request_body"), row.pop("response_body")):
                found.append(row)
                if len(found) == count:
                    break
        return found

    def _bounds(self, floor: datetime) -> dict[str, object]:
        assert self.position is not None
        return {"floor": floor, "at": self.position.created_at, "id": self.position.id}


def keeps_bodies(connection: RawConnection, project_id: object) -> bool:
    """False if the project wants no prompts and answers in its logs, those from before included."""
    row = connection.execute("SELECT log_bodies = 'full' AS full FROM project WHERE id = %s", (project_id,)).fetchone()
    return bool(row and row["full"])


def bodies_of(
    principal: Principal, rows: list[DictRow], *, max_bytes: int | None = None
) -> Iterator[tuple[DictRow, Bodies]]:
    """The rows with their bodies.

    Parameters
    ----------
    max_bytes : of one body; a longer one is left out.
    """
    if not rows:
        return
    with db.connection(principal.tenant_id) as connection:
        kept = keeps_bodies(connection, principal.project_id)
        requests = _bodies(connection, principal.tenant_id, "completion_request", rows, max_bytes) if kept else {}
        responses = _bodies(connection, principal.tenant_id, "completion_response", rows, max_bytes) if kept else {}
    for row in rows:
        if row["id"] not in requests:
            yield row, NOT_KEPT
            continue
        request, response = requests[row["id"]], responses.get(row["id"], "")
        state = "too_long" if request is None or response is None else "included"
        yield row, Bodies(request, response or None, state)


def _bodies(
    connection: RawConnection, tenant_id: UUID, table: str, rows: list[DictRow], max_bytes: int | None
) -> dict[int, str | None]:
    found = connection.execute(
        f"SELECT completion_id, CASE WHEN octet_length(body) <= %(most)s THEN body END AS body FROM {table}"  # noqa: S608
        " WHERE tenant_id = %(tenant)s AND completion_id = ANY(%(ids)s) AND created_at BETWEEN %(first)s AND %(last)s",
        {
            "tenant": tenant_id,
            "ids": [row["id"] for row in rows],
            "first": rows[-1]["created_at"],
            "last": rows[0]["created_at"],
            "most": max_bytes or 1 << 30,
        },
    )
    return {row["completion_id"]: row["body"] for row in found}


def _of(row: DictRow) -> Position:
    return Position(row["created_at"], row["id"])


# Both bounds are comparisons of the whole key of the index completion_log, and nothing says `project_id =`: so the
# index is entered exactly there, be it in the middle of a batch whose million rows share one time, and no other index
# will do. The conditions on created_at alone choose the partitions.
ROWS = f"""
SELECT {COLUMNS} FROM completion c
WHERE (c.project_id, c.created_at, c.id) < (%(project)s, %(at)s, %(id)s)
  AND (c.project_id, c.created_at, c.id) >= (%(project)s, %(floor)s, 0)
  AND c.created_at >= %(floor)s AND c.created_at <= %(at)s AND c.tenant_id = %(tenant)s
ORDER BY c.project_id DESC, c.created_at DESC, c.id DESC
"""  # noqa: S608 (a constant)

_WITH_TEXT = """
SELECT c.*, request.body AS request_body, response.body AS response_body
FROM (SELECT * FROM ({rows} LIMIT %(size)s) c WHERE true{conditions}) c
LEFT JOIN completion_request request ON request.completion_id = c.id AND request.created_at = c.created_at
     AND request.tenant_id = %(tenant)s AND request.created_at BETWEEN %(floor)s AND %(at)s
LEFT JOIN completion_response response ON response.completion_id = c.id AND response.created_at = c.created_at
     AND response.tenant_id = %(tenant)s AND response.created_at BETWEEN %(floor)s AND %(at)s
WHERE request.body ILIKE %(like)s OR response.body ILIKE %(like)s
ORDER BY c.created_at DESC, c.id DESC
"""
