"""The health of endpoints: one that says it is gone, or has taken nothing for days, is disabled."""

from __future__ import annotations

from uuid import UUID

from psycopg.rows import DictRow

from core.db import RawConnection

#: An endpoint that took nothing for three days, about as long as a delivery is tried, is disabled at its next failure.
DISABLE_SECONDS = 3 * 86400


def lock(connection: RawConnection, endpoint_id: UUID | None) -> DictRow | None:
    """The row of an endpoint, locked; None for the batch's own `webhook_url`, or if the endpoint was deleted."""
    if endpoint_id is None:
        return None
    return connection.execute(
        "SELECT id, enabled, failing_since,"
        " failing_since < now() - make_interval(secs => %s) AS failed_long"
        " FROM webhook_endpoint WHERE id = %s FOR NO KEY UPDATE",
        (DISABLE_SECONDS, endpoint_id),
    ).fetchone()


def judge(connection: RawConnection, endpoint: DictRow, *, delivered: bool, status: int | None) -> None:
    """Write what an attempt says about the endpoint (as `lock` gives it), and disable it if that is enough.

    Parameters
    ----------
    status : the receiver's; None if it did not answer.
    """
    if delivered:
        if endpoint["failing_since"] is not None:
            connection.execute("UPDATE webhook_endpoint SET failing_since = NULL WHERE id = %s", (endpoint["id"],))
        return
    connection.execute(
        "UPDATE webhook_endpoint SET failing_since = coalesce(failing_since, now()) WHERE id = %s", (endpoint["id"],)
    )
    if not endpoint["enabled"]:
        return
    if status == 410:
        disable(connection, endpoint["id"], "the receiver answered 410 Gone")
    elif endpoint["failed_long"]:
        disable(connection, endpoint["id"], f"it has taken nothing for {DISABLE_SECONDS // 86400} days")


def disable(connection: RawConnection, endpoint_id: UUID, reason: str) -> None:
    """Send an endpoint nothing more; what is pending for it fails, and can be resent later. Its row is locked."""
    connection.execute(
        "UPDATE webhook_endpoint SET enabled = false, disabled_reason = %s, disabled_at = now() WHERE id = %s",
        (reason, endpoint_id),
    )
    drop_pending(connection, endpoint_id, f"the endpoint was disabled: {reason}")


def drop_pending(connection: RawConnection, endpoint_id: UUID, reason: str) -> None:
    """Let what is pending for an endpoint fail; an attempt under way may still deliver it."""
    connection.execute(
        "UPDATE webhook_delivery SET status = 'failed', last_error = %s WHERE endpoint_id = %s AND status = 'pending'",
        (reason, endpoint_id),
    )
