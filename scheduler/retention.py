"""The scheduler's task that removes completions whose project no longer keeps them."""

from __future__ import annotations

import logging

from core.logbook import retention

log = logging.getLogger(__name__)

#: Retention counts days: looking a few times an hour is early enough.
LOOK_SECONDS = 900.0
#: Between two chunks, so that the service's own transactions come first.
PAUSE_SECONDS = 0.2


def remove_old() -> float:
    """Drops days that nobody keeps, then deletes one chunk of the rest; again soon while there is more."""
    if dropped := retention.drop_partitions():
        log.info("%d days of completions are over their retention and were dropped", dropped)
    return PAUSE_SECONDS if retention.delete_chunk() else LOOK_SECONDS
