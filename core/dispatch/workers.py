"""The lives of worker processes: one row each, whose heartbeat keeps all of its leases alive."""

from __future__ import annotations

import os
import socket
from uuid import UUID

from core import db
from core.ids import new_id
from core.settings import settings


def register(capacity: int) -> UUID:
    """Begin a life; its id marks the leases of this process."""
    worker_id = new_id()
    with db.connection() as connection:
        connection.execute(
            "INSERT INTO worker (id, host, pid, lease_expires_at, capacity)"
            " VALUES (%s, %s, %s, now() + make_interval(secs => %s), %s)",
            (worker_id, socket.gethostname(), os.getpid(), settings().worker_lease_seconds, capacity),
        )
    return worker_id


def heartbeat(worker_id: UUID, in_flight: int, *, draining: bool) -> bool:
    """Extend the life. False if it has been taken for dead: its leases are others' now, begin a new one."""
    with db.connection() as connection:
        found = connection.execute(
            "UPDATE worker SET lease_expires_at = now() + make_interval(secs => %s), in_flight = %s, draining = %s"
            " WHERE id = %s RETURNING id",
            (settings().worker_lease_seconds, in_flight, draining, worker_id),
        ).fetchone()
    return found is not None


def retire(worker_id: UUID) -> None:
    """End the life: leases that are still its own are rescued at the scheduler's next look."""
    with db.connection() as connection:
        connection.execute(
            "UPDATE worker SET lease_expires_at = now(), draining = true, in_flight = 0 WHERE id = %s", (worker_id,)
        )
        connection.execute("NOTIFY llm_dispatch")


def held(worker_id: UUID) -> list[tuple[int, int]]:
    """(completion id, fence) of the rows that the database says this worker is calling."""
    with db.connection() as connection:
        rows = connection.execute("SELECT completion_id, fence FROM lease WHERE worker_id = %s", (worker_id,))
        return [(row["completion_id"], row["fence"]) for row in rows]
