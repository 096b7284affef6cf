"""Budgets: what a project may spend in a month or a day, counted where rows end and asked before money is spent.

`plans` is what a project set, `spending` counts and warns, `gate` holds back what does not fit: rows of batches in the
scheduler, live calls where they are made.
"""

from core.budgets.gate import Room, fits, forget, forget_old, hold, none_of, pause, resume_funded, rooms
from core.budgets.spending import charge, reconcile, warn_of

__all__ = [
    "Room",
    "charge",
    "fits",
    "forget",
    "forget_old",
    "hold",
    "none_of",
    "pause",
    "reconcile",
    "resume_funded",
    "rooms",
    "warn_of",
]
