"""What a project sets up is kept for a moment by each process: changes are announced, and then read anew at once.

Only a hint: what was announced while nobody heard is seen when the moment is over.
"""

from __future__ import annotations

from uuid import UUID

from core.db import RawConnection

CHANNEL = "llm_project"


def announce(connection: RawConnection, project_id: UUID) -> None:
    """Tell every API process that providers, mappings or budgets of a project are others, once this commits."""
    connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, project_id.hex))
