"""The garbage collector, set for a process that holds thousands of rows: it looked at all of them again and again."""

from __future__ import annotations

import gc

#: Objects made between two looks at the young ones, and how many such looks lead to one at the older ones. With
#: Python's own 700 the collector took 8 % of a worker's processor time.
THRESHOLDS = (20_000, 20, 50)


def settle() -> None:
    """Leave out of all further collections what is there now: code and tables. Call it once a process is ready."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
