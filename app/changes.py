"""Hears what changes in projects, and forgets what this API process keeps of them."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from uuid import UUID

from core import budgets, changes, db, loaded_connections, notifications, project_routes
from core.errors import Unavailable
from core.principal import Principal

log = logging.getLogger(__name__)


def start() -> None:
    """Listen from now on, in a thread."""
    threading.Thread(target=_listen, name="changes", daemon=True).start()


def _listen() -> None:
    for channel, payload in notifications.listen((changes.CHANNEL,)):
        take(channel, payload)


def take(channel: str, payload: str) -> None:
    """Act on one notification: of one project, or (when something may have been missed) of all."""
    try:
        project_id = None if channel == notifications.CONNECTED else UUID(hex=payload)
        project_routes.forget(project_id)
        budgets.forget(project_id)
        loaded_connections.forget_project(project_id)
    except Exception:
        log.exception("a change was not followed; it is seen within a few seconds")


def routes_changed(principal: Principal) -> None:
    """Providers or mappings have changed: this process reads them now, the others with the next call."""
    project_routes.of(principal, fresh=True)
    # (the change stands: without the word others see it within two seconds)
    with suppress(Unavailable), db.single_statement() as connection:
        changes.announce(connection, principal.project_id)
