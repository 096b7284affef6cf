"""Calls that failed before the one that decided a completion: kept in its row, shown by its log.

A failure costs a line of JSON where its row is put back anyway; a completion whose first call answers costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from core.providers.types import Failure

#: Of a completion's failed calls the last so many are kept, with so much of each message, in characters.
KEPT = 20
MESSAGE_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A live call that failed, or a route that could not be called."""

    failure: Failure
    provider: str
    model: str
    #: epoch seconds
    started_at: float
    ended_at: float


def why(failure: Failure) -> dict[str, Any]:
    """The failure's part of what is kept: type, message, provider_status."""
    # No text of the database holds NUL.
    message = failure.message[:MESSAGE_CHARACTERS].replace("\0", "")
    return {"type": failure.reason, "message": message, "provider_status": failure.provider_status}


def documents(calls: list[FailedCall], decided: Failure | None) -> list[dict[str, Any]] | None:
    """What a live completion's row keeps, oldest first; None: nothing.

    Parameters
    ----------
    decided : the failure that the row itself has as its error, which is left out.
    """
    earlier = [call for call in calls if call.failure is not decided]
    return [
        {
            "started_at": datetime.fromtimestamp(call.started_at, UTC),
            "ended_at": datetime.fromtimestamp(call.ended_at, UTC),
            "provider": call.provider,
            "model": call.model,
            **why(call.failure),
        }
        for call in earlier[-KEPT:]
    ] or None


def appended(failure: str) -> str:
    """SQL: a lease's failures with one more, an expression of jsonb with what `why` gives."""
    return (
        f"CASE WHEN jsonb_array_length(lease.failures) >= {KEPT} THEN lease.failures - 0"
        " ELSE coalesce(lease.failures, '[]') END"
        f" || (jsonb_build_object('started_at', lease.call_started_at, 'ended_at', now()) || {failure})"
    )
