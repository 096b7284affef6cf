"""Histograms of durations that are added up by `+` and `sum()` of PostgreSQL, with percentiles of a known error.

Bucket i counts durations above 2^((i-1)/8) and up to 2^(i/8) milliseconds; bucket 0 those up to 1 ms, the last all
above 70 minutes. A percentile is the geometric middle of the bucket in which the exact one lies, so it is off by at
most a factor of 2^(1/16): 4.5 %.

A histogram is stored as one number: 12 decimal digits for each bucket, the first bucket's last. Adding two such numbers
adds them bucket by bucket as long as no bucket passes 10^12 - 1, so PostgreSQL's `numeric` merges histograms at the
speed of an addition, in an upsert as well as in a `sum` over any grouping. An array of counters has no `+` there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

BUCKETS_PER_OCTAVE = 8
#: 2^22 ms are 70 minutes: longer than any call may last.
LAST = 22 * BUCKETS_PER_OCTAVE
#: The most that a percentile differs from the exact one, as a share of it, between 1 ms and 70 minutes.
RELATIVE_ERROR = 2 ** (1 / (2 * BUCKETS_PER_OCTAVE)) - 1

_DIGITS = 12
_EMPTY = "0" * _DIGITS


class Histogram:
    """Counts of durations in logarithmic buckets."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, milliseconds: float) -> None:
        bucket = math.ceil(math.log2(milliseconds) * BUCKETS_PER_OCTAVE) if milliseconds > 1 else 0
        self.counts[min(bucket, LAST)] += 1

    @property
    def total(self) -> int:
        return self.counts.total()

    def mean(self) -> float | None:
        """Milliseconds, each duration taken as the middle of its bucket; None if there are none."""
        if not self.counts:
            return None
        return sum(_middle(bucket) * count for bucket, count in self.counts.items()) / self.total

    def percentiles(self, shares: Sequence[float]) -> list[float | None]:
        """Milliseconds that each share (0 to 1, ascending) of the durations does not pass; None if there are none."""
        found: list[float | None] = []
        buckets = iter(sorted(self.counts.items()))
        bucket = seen = 0
        for share in shares if self.counts else ():
            rank = max(1, math.ceil(share * self.total))
            while seen < rank:
                bucket, count = next(buckets)
                seen += count
            found.append(_middle(bucket))
        return found or [None] * len(shares)

    def stored(self) -> str:
        """The number that stands for it in the database, as decimal text."""
        pieces = []
        next_bucket = max(self.counts, default=0)
        for bucket in sorted(self.counts, reverse=True):
            pieces.append(_EMPTY * (next_bucket - bucket))
            pieces.append(f"{self.counts[bucket]:0{_DIGITS}d}")
            next_bucket = bucket - 1
        pieces.append(_EMPTY * (next_bucket + 1))
        return "".join(pieces) or "0"

    @classmethod
    def of(cls, stored: str) -> Histogram:
        """The histogram of a stored number (or of a sum of such), given as decimal text."""
        found = cls()
        whole = stored.zfill(-(-len(stored) // _DIGITS) * _DIGITS)
        lanes = [whole[at : at + _DIGITS] for at in range(len(whole) - _DIGITS, -1, -_DIGITS)]
        found.counts.update({bucket: int(lane) for bucket, lane in enumerate(lanes) if lane != _EMPTY})
        return found


def _middle(bucket: int) -> float:
    return 2.0 ** ((bucket - 0.5) / BUCKETS_PER_OCTAVE) if bucket else 1.0
