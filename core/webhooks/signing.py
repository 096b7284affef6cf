"""Secrets that sign webhooks, and the headers of Standard Webhooks made with them.

A project has one for the `webhook_url` of its batches, each endpoint one of its own. For a day after a rotation what is
sent carries two signatures, one with the old secret and one with the new, so that a receiver can change over in between
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, "Key rotation").
"""

from __future__ import annotations

import base64
import os
from uuid import UUID

from psycopg.rows import DictRow
from standardwebhooks.webhooks import Webhook

from core import crypto, db
from core.db import RawConnection
from core.errors import NotFound
from core.ids import new_id, public
from core.principal import Principal
from core.secret import Secret
from core.webhooks.attempts import Delivery

#: How long the old secret signs too after a rotation.
OLD_SECRET_SECONDS = 86400


def headers(delivery: Delivery) -> dict[str, str]:
    """The headers of one attempt; the id stays the same over all attempts. Raises crypto.KeyProblem, NotFound."""
    message_id = public("evt", delivery.id)
    signatures = [
        Webhook(secret.reveal()).sign(message_id, delivery.begun_at, delivery.payload)
        for secret in _valid(delivery.tenant_id, delivery.project_id, delivery.endpoint_id)
    ]
    return {
        "content-type": "application/json",
        "user-agent": "llm-service-webhooks/1",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(delivery.begun_at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def project_secret(principal: Principal) -> Secret:
    """The secret for the project's batches with a `webhook_url` (`whsec_...`), made when first asked for."""
    return _of_project(principal.tenant_id, principal.project_id)


def rotate_project_secret(principal: Principal) -> Secret:
    """A new secret for the project's batches; the old one signs too for OLD_SECRET_SECONDS. Raises NotFound."""
    tenant_id, project_id = principal.tenant_id, principal.project_id
    made = _new()
    with db.connection(tenant_id) as connection:
        row = connection.execute(_PROJECT + " FOR NO KEY UPDATE", (project_id, tenant_id)).fetchone()
        if row is None:
            raise NotFound
        if row["ciphertext"] is not None:
            connection.execute(
                "DELETE FROM webhook_secret WHERE project_id = %s AND tenant_id = %s AND endpoint_id IS NULL",
                (project_id, tenant_id),
            )
            old = crypto.decrypt(bytes(row["ciphertext"]), row["version"], tenant_id=tenant_id, row_id=project_id)
            _store(connection, principal, None, old, seconds=OLD_SECRET_SECONDS)
        _store_of_project(connection, tenant_id, project_id, made)
    return made


def endpoint_secret(principal: Principal, endpoint_id: UUID) -> Secret:
    """The secret of one endpoint. Raises NotFound."""
    with db.connection(principal.tenant_id) as connection:
        row = connection.execute(
            "SELECT id, tenant_id, ciphertext, version FROM webhook_secret WHERE endpoint_id = %s AND tenant_id = %s"
            " AND project_id = %s AND expires_at IS NULL",
            (endpoint_id, principal.tenant_id, principal.project_id),
        ).fetchone()
    if row is None:
        raise NotFound
    return _open(row)


def rotate_endpoint_secret(principal: Principal, endpoint_id: UUID) -> Secret:
    """A new secret for one endpoint; the old one signs too for OLD_SECRET_SECONDS. Raises NotFound."""
    with db.connection(principal.tenant_id) as connection:
        found = connection.execute(
            "SELECT id FROM webhook_endpoint WHERE id = %s AND tenant_id = %s AND project_id = %s FOR NO KEY UPDATE",
            (endpoint_id, principal.tenant_id, principal.project_id),
        ).fetchone()
        if found is None:
            raise NotFound
        connection.execute(
            "DELETE FROM webhook_secret WHERE endpoint_id = %s AND tenant_id = %s AND expires_at IS NOT NULL",
            (endpoint_id, principal.tenant_id),
        )
        connection.execute(
            "UPDATE webhook_secret SET expires_at = now() + make_interval(secs => %s)"
            " WHERE endpoint_id = %s AND tenant_id = %s",
            (OLD_SECRET_SECONDS, endpoint_id, principal.tenant_id),
        )
        return new_endpoint_secret(connection, principal, endpoint_id)


def new_endpoint_secret(connection: RawConnection, principal: Principal, endpoint_id: UUID) -> Secret:
    """Make an endpoint's secret, in the transaction that makes the endpoint."""
    made = _new()
    _store(connection, principal, endpoint_id, made, seconds=None)
    return made


def _valid(tenant_id: UUID, project_id: UUID, endpoint_id: UUID | None) -> list[Secret]:
    """The secrets that sign now, the newest first."""
    with db.connection(tenant_id) as connection:
        rows = connection.execute(
            "SELECT id, tenant_id, ciphertext, version FROM webhook_secret"
            " WHERE project_id = %s AND tenant_id = %s AND endpoint_id IS NOT DISTINCT FROM %s::uuid"
            " AND (expires_at IS NULL OR expires_at > now()) ORDER BY id DESC",
            (project_id, tenant_id, endpoint_id),
        ).fetchall()
    secrets = [_open(row) for row in rows]
    if endpoint_id is None:
        return [_of_project(tenant_id, project_id), *secrets]
    if not secrets:
        raise NotFound("The endpoint was deleted.")
    return secrets


def _of_project(tenant_id: UUID, project_id: UUID) -> Secret:
    with db.connection(tenant_id) as connection:
        row = connection.execute(_PROJECT, (project_id, tenant_id)).fetchone()
        if row is not None and row["ciphertext"] is None:
            # Nobody has made it yet; whoever gets the lock first does.
            row = connection.execute(_PROJECT + " FOR NO KEY UPDATE", (project_id, tenant_id)).fetchone()
        if row is None:
            raise NotFound
        if row["ciphertext"] is None:
            made = _new()
            _store_of_project(connection, tenant_id, project_id, made)
            return made
    return crypto.decrypt(bytes(row["ciphertext"]), row["version"], tenant_id=tenant_id, row_id=project_id)


def _store_of_project(connection: RawConnection, tenant_id: UUID, project_id: UUID, secret: Secret) -> None:
    ciphertext, version = crypto.encrypt(secret, tenant_id=tenant_id, row_id=project_id)
    connection.execute(
        "UPDATE project SET webhook_secret_ciphertext = %s, webhook_secret_version = %s"
        " WHERE id = %s AND tenant_id = %s",
        (ciphertext, version, project_id, tenant_id),
    )


def _store(
    connection: RawConnection, principal: Principal, endpoint_id: UUID | None, secret: Secret, *, seconds: int | None
) -> None:
    row_id = new_id()
    ciphertext, version = crypto.encrypt(secret, tenant_id=principal.tenant_id, row_id=row_id)
    connection.execute(
        "INSERT INTO webhook_secret (id, tenant_id, project_id, endpoint_id, ciphertext, version, expires_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, now() + make_interval(secs => %s))",
        (row_id, principal.tenant_id, principal.project_id, endpoint_id, ciphertext, version, seconds),
    )


def _open(row: DictRow) -> Secret:
    return crypto.decrypt(
        bytes(row["ciphertext"]),
        row["version"],
        tenant_id=row["tenant_id"],
        row_id=row["id"],
    )


def _new() -> Secret:
    return Secret("whsec_" + base64.b64encode(os.urandom(32)).decode())


_PROJECT = (
    "SELECT webhook_secret_ciphertext AS ciphertext, webhook_secret_version AS version FROM project"
    " WHERE id = %s AND tenant_id = %s"
)
