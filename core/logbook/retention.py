"""Removes what a project no longer keeps: whole partitions where nobody keeps anything of the day, else in chunks.

What has not ended stays, however old it is, and so do the hourly sums of statistics.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import sql

from core import db

#: Rows, and batches, that one transaction deletes.
CHUNK_ROWS = 5_000
CHUNK_BATCHES = 100
#: How long dropping waits for the lock that it needs on the parent table; until then others wait behind it.
LOCK_TIMEOUT = "1s"
#: The youngest partition that is dropped: a submission or a live row of its day may still be on its way before.
MIN_AGE = timedelta(days=2)

_PARTITION = re.compile(r"completion_p(\d{8})\Z")
_TABLES = ("completion_response", "completion_request", "completion")


def drop_partitions() -> int:
    """Drop the days of which no project keeps anything; returns how many."""
    with db.connection() as connection:
        names = connection.execute(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'completion'::regclass"
        ).fetchall()
    days = sorted(found[1] for row in names if (found := _PARTITION.match(row["name"])))
    return sum(_drop(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)) for day in days)


def _drop(day: datetime) -> bool:
    """Drop one day, unless a project keeps rows of it, something of it has not ended, or it is in use now.

    A provider's answers to rows that are gone are read to their end like others, so a shard needs its day, too.
    """
    end = day + timedelta(days=1)
    if end > datetime.now(UTC) - MIN_AGE:
        return False
    suffix = f"_p{day:%Y%m%d}"
    try:
        with db.connection() as connection:
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
            kept = connection.execute(
                sql.SQL(_KEPT).format(partition=sql.Identifier("completion" + suffix)), {"day": day, "end": end}
            ).fetchone()
            if kept is not None:
                return False
            _forget_batches(connection, "created_at >= %(day)s AND created_at < %(end)s", {"day": day, "end": end})
            for table in _TABLES:
                connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(table + suffix)))
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def delete_chunk() -> int:
    """Delete one chunk of what is over its time in partitions that others still need; returns the rows and batches.

    Call it again until it returns 0.
    """
    deleted = 0
    with db.connection() as connection:
        projects = connection.execute(
            "SELECT id, now() - make_interval(days => retention_days) AS until FROM project"
            " WHERE retention_days IS NOT NULL ORDER BY id"
        ).fetchall()
    for project in projects:
        with db.connection() as connection:
            # Its batches first: what is left of their rows then belongs to nobody.
            deleted += _forget_batches(
                connection,
                "id IN (SELECT id FROM batch WHERE project_id = %(id)s AND created_at < %(until)s"
                " AND ended_at IS NOT NULL ORDER BY created_at LIMIT %(limit)s)",
                {**project, "limit": CHUNK_BATCHES},
            )
        with db.connection() as connection:
            rows = connection.execute(_OVER, {**project, "limit": CHUNK_ROWS}).fetchall()
            if rows:
                values = {
                    "ids": [row["id"] for row in rows],
                    "first": rows[0]["created_at"],
                    "last": rows[-1]["created_at"],
                }
                for table in _TABLES:
                    column = "id" if table == "completion" else "completion_id"
                    connection.execute(
                        f"DELETE FROM {table} WHERE {column} = ANY(%(ids)s)"  # noqa: S608 (constants)
                        " AND created_at BETWEEN %(first)s AND %(last)s",
                        values,
                    )
            deleted += len(rows)
    return deleted


def _forget_batches(connection: db.RawConnection, which: str, values: dict[str, object]) -> int:
    """Delete batches that have ended, their lanes with them; their rows are then nobody's."""
    rows = connection.execute(
        f"DELETE FROM batch WHERE {which} AND ended_at IS NOT NULL RETURNING id",  # noqa: S608 (callers pass constants)
        values,
    ).fetchall()
    if rows:
        connection.execute("DELETE FROM batch_error WHERE batch_id = ANY(%s)", ([row["id"] for row in rows],))
    return len(rows)


# A look into the index per project that may keep something: none of it is a scan.
_KEPT = """
SELECT 1 FROM batch WHERE created_at >= %(day)s AND created_at < %(end)s AND ended_at IS NULL
UNION ALL
SELECT 1 FROM native_shard WHERE created_at >= %(day)s AND created_at < %(end)s AND state <> 'cleaned'
UNION ALL
SELECT 1 FROM project
WHERE (retention_days IS NULL OR now() - make_interval(days => retention_days) < %(end)s)
  AND EXISTS (SELECT FROM {partition} c WHERE c.project_id = project.id)
LIMIT 1
"""

_OVER = """
SELECT id, created_at FROM completion c
WHERE project_id = %(id)s AND created_at < %(until)s
  AND (batch_id IS NULL OR NOT EXISTS (SELECT FROM batch WHERE batch.id = c.batch_id))
ORDER BY created_at, id LIMIT %(limit)s
"""
