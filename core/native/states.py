"""The closed vocabulary of native shards.

    gathered           created at the provider            ended there, results taken in       cleaned up there
       │                        │                                    │                               │
    waiting ──────────────────► sent ──────────────────────────► taken_in ───────────────────────► cleaned
       ▲  │                                                          │
       │  └── its rows are wanted back before it was sent ──────────►│
       └───────── another round for rows without an answer ──────────┘

Rows leave a shard by ending (core/native/intake.py) or by being handed back (core/native/handback.py): to real time, to
another round, or, in a batch that was stopped, to their end. A row that has a lease has left.
"""

from __future__ import annotations

from enum import StrEnum


class ShardState(StrEnum):
    """Where a shard stands."""

    WAITING = "waiting"
    SENT = "sent"
    TAKEN_IN = "taken_in"
    CLEANED = "cleaned"


class CancelReason(StrEnum):
    """Why a shard is taken back from its provider."""

    #: the last moment at which its rows can still make the window in real time
    WINDOW = "window"
    #: its batch was cancelled, has expired, or was stopped at a limit
    STOPPED = "stopped"
