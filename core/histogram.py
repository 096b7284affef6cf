"""Histograms of durations that are added up by `+` and `sum()` of PostgreSQL, with percentiles of a known error.

Bucket i counts durations above 2^((i-1)/8) and up to 2^(i/8) milliseconds; bucket 0 those up to 1 ms, the last all
above 70 minutes. A percentile is the geometric middle of the bucket in which the exact one lies, so it is off by at
most a factor of 2^(1/16): 4.5 %.

A histogram is stored as one number: 12 decimal digits for each bucket, the first bucket's last. Adding two such numbers
adds them bucket by bucket as long as no bucket passes 10^12 - 1, so PostgreSQL's `numeric` merges histograms at the
speed of an addition, in an upsert as well as in a `sum` over any grouping. An array of counters has no `+` there.
They are read in the form in which `numeric` crosses the wire, where a bucket is three digits of base 10,000: its text
would cost ten times as much, on both sides.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate, zip_longest
from operator import mul
from typing import NamedTuple

BUCKETS_PER_OCTAVE = 8
#: 2^22 ms are 70 minutes: longer than any call may last.
LAST = 22 * BUCKETS_PER_OCTAVE
#: The most that a percentile differs from the exact one, as a share of it, between 1 ms and 70 minutes.
RELATIVE_ERROR = 2 ** (1 / (2 * BUCKETS_PER_OCTAVE)) - 1

_DIGITS = 12
#: numeric_send: digits there are, the power of 10,000 of the first, sign, decimals; then the digits, 0 to 9,999 each.
_HEAD = struct.Struct("!HhHH")
_BASE = 10_000
_EMPTY = "0" * _DIGITS


class Histogram:
    """Counts of durations in logarithmic buckets."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, milliseconds: float) -> None:
        bucket = math.ceil(math.log2(milliseconds) * BUCKETS_PER_OCTAVE) if milliseconds > 1 else 0
        self.counts[min(bucket, LAST)] += 1

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


class Counts(NamedTuple):
    """How many durations lie in each bucket, from the last that has any down to the first."""

    last: int
    counts: Sequence[int]


def counts_of(sent: bytes) -> Counts:
    """The counts of a stored number or of a sum of such.

    Parameters
    ----------
    sent : as PostgreSQL's numeric_send() gives it; the number is whole and not negative.
    """
    there, power, _, _ = _HEAD.unpack_from(sent)
    if not there:
        return NOTHING
    last, before = divmod(power, 3)
    # Zeros before the first digit are not sent, nor those at the end.
    digits = bytes(2 * (2 - before)) + sent[_HEAD.size :] + bytes(2 * (-(there + 2 - before) % 3))
    buckets = len(digits) // 6
    counts: Sequence[int] = _lower_digits(buckets).unpack(digits)
    # Few buckets pass 9,999, so that this is a matter of the low digit most times.
    if digits[2::6].count(0) < buckets or digits[3::6].count(0) < buckets:
        counts = [two if two < _BASE else two - (two >> 16) * (0x10000 - _BASE) for two in counts]
    if digits[0::6].count(0) < buckets or digits[1::6].count(0) < buckets:
        high = struct.unpack(f"!{3 * buckets}H", digits)[::3]
        counts = [count + _BASE * _BASE * digit for count, digit in zip(counts, high, strict=True)]
    return Counts(last, counts)


@cache
def _lower_digits(buckets: int) -> struct.Struct:
    """Reads the two lower digits of each bucket as one integer of 32 bits."""
    return struct.Struct("!" + "xxI" * buckets)


def added(them: Iterable[Counts]) -> Counts:
    """The counts of all together."""
    found = list(them)
    last = max((one.last for one in found), default=0)
    columns = zip_longest(*((0,) * (last - one.last) + tuple(one.counts) for one in found), fillvalue=0)
    return Counts(last, [*map(sum, columns)])


def percentiles(found: Counts, shares: Sequence[float]) -> list[float | None]:
    """Milliseconds that each share (0 to 1) of the durations does not pass; None if there are none."""
    seen = list(accumulate(found.counts))
    if not seen or not seen[-1]:
        return [None] * len(shares)
    total = seen[-1]
    # Counted from the longest: as many are longer as do not have to be within the share.
    return [_MIDDLES[found.last - bisect_left(seen, total - max(1, math.ceil(share * total)) + 1)] for share in shares]


def mean(found: Counts) -> float | None:
    """Milliseconds, each duration taken as the middle of its bucket; None if there are none."""
    total = sum(found.counts)
    return sum(map(mul, _MIDDLES[found.last :: -1], found.counts)) / total if total else None


def _middle(bucket: int) -> float:
    return 2.0 ** ((bucket - 0.5) / BUCKETS_PER_OCTAVE) if bucket else 1.0


_MIDDLES = [_middle(bucket) for bucket in range(LAST + 1)]

NOTHING = Counts(0, ())
