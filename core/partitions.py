"""The partition that holds a moment's rows, by name: hot statements address it directly.

A condition on created_at would do the same through the parent table, but the planner may then take an index that
begins with time: a batch's rows all carry the same time, newer than the last statistics, so it expects one row where
there are a million. Without the condition only the primary key serves.
"""

from __future__ import annotations

from datetime import UTC, datetime

from core.db import RawConnection

_known: set[str] = set()


def holding(connection: RawConnection, table: str, created_at: datetime) -> str:
    """The name of the partition of `completion`, `completion_request` or `completion_response` for this time.

    Row-level security and the tenants' rights are those of the parent. Safe to put into a statement as it is.
    """
    name = f"{table}_p{created_at.astimezone(UTC):%Y%m%d}"
    if name not in _known:
        row = connection.execute("SELECT to_regclass(%s) IS NOT NULL AS there", (name,)).fetchone()
        if row is None or not row["there"]:
            # Not remembered: the day's partition may still be made.
            return f"{table}_default"
        _known.add(name)
    return name
