"""What a project may set for itself."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from core import db, identity, ids
from core.errors import NotFound
from core.principal import Principal
from core.time_and_money import time_text

#: Values are checked at the border.
_SHOWN = ("name", "log_bodies", "retention_days", "on_unknown_outcome", "requests_per_minute")
CHANGEABLE = frozenset(_SHOWN)


def get(principal: Principal) -> dict[str, Any]:
    """The project object. Raises NotFound if the project is gone."""
    return change(principal, {})


def change(principal: Principal, values: dict[str, Any]) -> dict[str, Any]:
    """Set what `values` names, of CHANGEABLE; the project object as it then is. Raises NotFound."""
    assert values.keys() <= CHANGEABLE
    with db.connection(principal.tenant_id) as connection:
        if values:
            assignments = sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in values
            )
            connection.execute(
                sql.SQL("UPDATE project SET {} WHERE id = %(id)s AND tenant_id = %(tenant)s").format(assignments),
                {**values, "id": principal.project_id, "tenant": principal.tenant_id},
            )
        row = connection.execute(
            "SELECT * FROM project WHERE id = %s AND tenant_id = %s", (principal.project_id, principal.tenant_id)
        ).fetchone()
    if row is None:
        raise NotFound
    if "requests_per_minute" in values:
        # It is known with the keys: here at once, in other processes as soon as those are looked up again.
        identity.forget()
    return {
        "id": ids.public("proj", row["id"]),
        "tenant_id": ids.public("tenant", row["tenant_id"]),
        **{name: row[name] for name in _SHOWN},
        "created_at": time_text(row["created_at"]),
    }
