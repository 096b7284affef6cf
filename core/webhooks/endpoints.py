"""A project's webhook endpoints: where events go beside the `webhook_url` of batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from core import db, egress, sessions
from core.errors import AddressRefused, Conflict, InvalidInput, NotFound
from core.ids import new_id, public
from core.principal import Principal
from core.tables.webhooks import WebhookEndpoint
from core.text_input import Problems
from core.time_and_money import time_text
from core.webhooks import health, outbox, signing

MAX_ENDPOINTS = 20


def create(principal: Principal, given: Mapping[str, Any]) -> WebhookEndpoint:
    """Add an endpoint, with a secret of its own.

    Parameters
    ----------
    given : {"url", "event_types", "description", "enabled"}; without event_types it gets all events.

    Raises
    ------
    InvalidInput
        With all that is wrong; also for a URL that leads to an address which is not allowed.
    Conflict
        The project has MAX_ENDPOINTS.
    """
    wanted = _checked(given, new=True)
    endpoint_id = new_id()
    with db.connection(principal.tenant_id) as connection:
        # One at a time, so that the limit holds.
        connection.execute("SELECT id FROM project WHERE id = %s FOR NO KEY UPDATE", (principal.project_id,))
        row = connection.execute(
            "SELECT count(*) AS n FROM webhook_endpoint WHERE project_id = %s", (principal.project_id,)
        ).fetchone()
        if row is not None and row["n"] >= MAX_ENDPOINTS:
            raise Conflict(f"The project has {MAX_ENDPOINTS} endpoints, as many as there can be; delete one.")
        connection.execute(
            "INSERT INTO webhook_endpoint (id, tenant_id, project_id, url) VALUES (%s, %s, %s, %s)",
            (endpoint_id, principal.tenant_id, principal.project_id, wanted["url"]),
        )
        signing.new_endpoint_secret(connection, principal, endpoint_id)
        _apply(connection, endpoint_id, {name: value for name, value in wanted.items() if name != "url"})
    return get(principal, endpoint_id)


def get(principal: Principal, endpoint_id: UUID) -> WebhookEndpoint:
    """One endpoint of the project. Raises NotFound."""
    with sessions.tenant_session(principal.tenant_id) as session:
        return _one(session, principal, endpoint_id)


def page(principal: Principal, *, limit: int = 20, before: UUID | None = None) -> list[WebhookEndpoint]:
    """Endpoints of the project, newest first; `before` is the id where the last page ended."""
    query = _own(principal).order_by(col(WebhookEndpoint.id).desc()).limit(limit)
    if before is not None:
        query = query.where(col(WebhookEndpoint.id) < before)
    with sessions.tenant_session(principal.tenant_id) as session:
        return list(session.exec(query))


def change(principal: Principal, endpoint_id: UUID, given: Mapping[str, Any]) -> WebhookEndpoint:
    """Change what is given; `enabled: true` gives a disabled endpoint another chance. Raises NotFound, InvalidInput.

    What is pending goes to the new URL; what was pending when it was disabled has failed and can be resent.
    """
    wanted = _checked(given, new=False)
    with db.connection(principal.tenant_id) as connection:
        _lock(connection, principal, endpoint_id)
        _apply(connection, endpoint_id, wanted)
    return get(principal, endpoint_id)


def delete(principal: Principal, endpoint_id: UUID) -> None:
    """Remove an endpoint and its secrets; its deliveries stay in the log. Raises NotFound."""
    with db.connection(principal.tenant_id) as connection:
        _lock(connection, principal, endpoint_id)
        connection.execute("DELETE FROM webhook_endpoint WHERE id = %s", (endpoint_id,))
        connection.execute("DELETE FROM webhook_secret WHERE endpoint_id = %s", (endpoint_id,))
        health.drop_pending(connection, endpoint_id, "the endpoint was deleted")


def test(principal: Principal, endpoint_id: UUID) -> UUID:
    """Send an endpoint a `webhook.test` event, disabled or not, in one attempt; the delivery's id. Raises NotFound."""
    with db.connection(principal.tenant_id) as connection:
        row = _lock(connection, principal, endpoint_id)
        return outbox.write_test(
            connection,
            tenant_id=principal.tenant_id,
            project_id=principal.project_id,
            endpoint_id=endpoint_id,
            url=row["url"],
            data={"endpoint_id": public("hook", endpoint_id)},
        )


def as_object(row: WebhookEndpoint) -> dict[str, Any]:
    """An endpoint as the API shows it: never its secret."""
    return {
        "id": public("hook", row.id),
        "url": row.url,
        "description": row.description,
        "event_types": row.event_types,
        "enabled": row.enabled,
        "disabled_reason": row.disabled_reason,
        "disabled_at": time_text(row.disabled_at),
        "failing_since": time_text(row.failing_since),
        "created_at": time_text(row.created_at),
        "updated_at": time_text(row.updated_at),
    }


def _checked(given: Mapping[str, Any], *, new: bool) -> dict[str, Any]:
    problems = Problems()
    problems.unknown(given, {"url", "event_types", "description", "enabled"})
    wanted: dict[str, Any] = {}
    if new and given.get("url") is None:
        problems.add("/url", "Required: where the events go.")
    elif "url" in given and (url := problems.text(given["url"], "/url", longest=2048)) is not None:
        try:
            egress.check(url)
        except AddressRefused as refused:
            problems.add("/url", refused.detail)
        wanted["url"] = url
    if "event_types" in given:
        wanted["event_types"] = _event_types(given["event_types"], problems)
    if "description" in given:
        text = given["description"]
        wanted["description"] = None if text is None else problems.text(text, "/description", longest=500, shortest=0)
    if "enabled" in given:
        if not isinstance(given["enabled"], bool):
            problems.add("/enabled", "Must be true or false.")
        wanted["enabled"] = given["enabled"]
    if problems:
        raise InvalidInput(list(problems))
    return wanted


def _event_types(given: Any, problems: Problems) -> list[str] | None:
    """Null: all of them, those of later versions included."""
    if given is None:
        return None
    if not isinstance(given, list) or not given:
        problems.add("/event_types", "Must be an array of event types, or null for all.")
        return None
    for index, name in enumerate(given[:100]):
        if name not in outbox.EVENT_TYPES:
            problems.add(f"/event_types/{index}", "Must be one of " + ", ".join(outbox.EVENT_TYPES) + ".")
    return [name for name in outbox.EVENT_TYPES if name in given]


def _lock(connection: db.RawConnection, principal: Principal, endpoint_id: UUID) -> dict[str, Any]:
    row = connection.execute(
        "SELECT id, url FROM webhook_endpoint WHERE id = %s AND tenant_id = %s AND project_id = %s FOR UPDATE",
        (endpoint_id, principal.tenant_id, principal.project_id),
    ).fetchone()
    if row is None:
        raise NotFound
    return row


def _apply(connection: db.RawConnection, endpoint_id: UUID, wanted: dict[str, Any]) -> None:
    values: dict[str, Any] = {name: wanted[name] for name in ("url", "event_types", "description") if name in wanted}
    if values.get("event_types") is not None:
        values["event_types"] = Jsonb(values["event_types"])
    connection.execute(
        "UPDATE webhook_endpoint SET "  # noqa: S608 (names of ours)
        + "".join(f"{name} = %({name})s, " for name in values)
        + "updated_at = now() WHERE id = %(id)s",
        {**values, "id": endpoint_id},
    )
    if "url" in wanted:
        connection.execute(
            "UPDATE webhook_delivery SET url = %s WHERE endpoint_id = %s AND status = 'pending'",
            (wanted["url"], endpoint_id),
        )
    if wanted.get("enabled") is True:
        connection.execute(
            "UPDATE webhook_endpoint SET enabled = true, disabled_reason = NULL, disabled_at = NULL,"
            " failing_since = NULL WHERE id = %s AND NOT enabled",
            (endpoint_id,),
        )
    elif wanted.get("enabled") is False:
        health.disable(connection, endpoint_id, "by its owner")


def _own(principal: Principal) -> SelectOfScalar[WebhookEndpoint]:
    return select(WebhookEndpoint).where(
        WebhookEndpoint.tenant_id == principal.tenant_id, WebhookEndpoint.project_id == principal.project_id
    )


def _one(session: Session, principal: Principal, endpoint_id: UUID) -> WebhookEndpoint:
    row = session.exec(_own(principal).where(WebhookEndpoint.id == endpoint_id)).first()
    if row is None:
        raise NotFound
    return row
