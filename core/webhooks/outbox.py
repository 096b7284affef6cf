"""The outbox: events written, for each receiver that wants them, with the change that made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import orjson

from core.batches import read
from core.db import RawConnection
from core.ids import new_id

#: What an endpoint can ask for.
EVENT_TYPES = (
    "batch.completed",
    "batch.failed",
    "batch.cancelled",
    "batch.expired",
    "batch.paused",
    "budget.threshold",
    "provider.stopped",
)
#: Sent to one endpoint when its owner asks for it, and tried once.
TEST_EVENT = "webhook.test"


@dataclass(frozen=True, slots=True)
class _Receiver:
    url: str
    endpoint_id: UUID | None = None

    def key(self, project_id: UUID) -> str:
        """What shares one allowance of attempts: an endpoint, or all URLs of a project on one host."""
        return f"{project_id.hex}/{(urlsplit(self.url).netloc if self.endpoint_id is None else self.endpoint_id.hex)}"


def emit(connection: RawConnection, batch_id: UUID, event_type: str) -> None:
    """Write the event of a batch, for its `webhook_url` and its project's endpoints.

    Call it in the transaction that changed the batch.
    """
    row = connection.execute(
        "SELECT tenant_id, project_id, webhook_url FROM batch WHERE id = %s", (batch_id,)
    ).fetchone()
    if row is None:
        return
    receivers = _endpoints(connection, row["project_id"], event_type)
    if row["webhook_url"]:
        receivers.append(_Receiver(row["webhook_url"]))
    if receivers:
        data = read.batch_object(connection, batch_id)
        _write(connection, row["tenant_id"], row["project_id"], event_type, data, receivers, batch_id)


def announce(
    connection: RawConnection, *, tenant_id: UUID, project_id: UUID, event_type: str, data: dict[str, Any]
) -> None:
    """Write an event of a project for its endpoints, in the transaction that made the event."""
    receivers = _endpoints(connection, project_id, event_type)
    if receivers:
        _write(connection, tenant_id, project_id, event_type, data, receivers)


def write_test(
    connection: RawConnection, *, tenant_id: UUID, project_id: UUID, endpoint_id: UUID, url: str, data: dict[str, Any]
) -> UUID:
    """Write the test event for one endpoint; the delivery's id."""
    receiver = _Receiver(url, endpoint_id)
    return _write(connection, tenant_id, project_id, TEST_EVENT, data, [receiver])[0]


def _endpoints(connection: RawConnection, project_id: UUID, event_type: str) -> list[_Receiver]:
    rows = connection.execute(
        "SELECT id, url FROM webhook_endpoint WHERE project_id = %s AND enabled"
        " AND (event_types IS NULL OR event_types @> to_jsonb(%s::text)) ORDER BY id",
        (project_id, event_type),
    )
    return [_Receiver(row["url"], row["id"]) for row in rows]


def _write(
    connection: RawConnection,
    tenant_id: UUID,
    project_id: UUID,
    event_type: str,
    data: dict[str, Any],
    receivers: list[_Receiver],
    batch_id: UUID | None = None,
) -> list[UUID]:
    now = connection.execute("SELECT now() AS now").fetchone()
    assert now is not None
    event = {"type": event_type, "timestamp": now["now"], "data": data}
    payload = orjson.dumps(event, option=orjson.OPT_UTC_Z).decode()
    ids = [new_id() for _ in receivers]
    for delivery_id, receiver in zip(ids, receivers, strict=True):
        connection.execute(
            "INSERT INTO webhook_delivery"
            " (id, tenant_id, project_id, batch_id, endpoint_id, receiver, event_type, url, payload)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                delivery_id,
                tenant_id,
                project_id,
                batch_id,
                receiver.endpoint_id,
                receiver.key(project_id),
                event_type,
                receiver.url,
                payload,
            ),
        )
    connection.execute("NOTIFY llm_dispatch")
    return ids
