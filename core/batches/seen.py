"""Which custom_ids came before, in a few bytes each: for checks that keep nothing in the database."""

from __future__ import annotations

from array import array

_SHARDS = 256
_FIRST_SLOTS = 16
_MASK = (1 << 64) - 1


class Seen:
    """A set of texts that only tells whether one is new; 8 to 32 bytes each, where a set of str takes over 100.

    It holds 64-bit hashes, keyed anew in every process, in open addressing. Two different texts among a million are
    taken for the same with a probability of 3 in 10^8. Each of many small tables grows by itself, so that no growth
    takes long.
    """

    def __init__(self) -> None:
        self._tables = [array("Q", bytes(8 * _FIRST_SLOTS)) for _ in range(_SHARDS)]
        self._counts = [0] * _SHARDS

    def add(self, text: str) -> bool:
        """True if the text is new."""
        # A slot that is 0 is free.
        mark = hash(text) & _MASK or 1
        shard = mark % _SHARDS
        table = self._tables[shard]
        if not _insert(table, mark):
            return False
        self._counts[shard] += 1
        if 2 * self._counts[shard] > len(table):
            wider = array("Q", bytes(16 * len(table)))
            for held in table:
                if held:
                    _insert(wider, held)
            self._tables[shard] = wider
        return True

    def size(self) -> int:
        """Bytes that the tables take."""
        return sum(len(table) * table.itemsize for table in self._tables)


def _insert(table: array[int], mark: int) -> bool:
    last = len(table) - 1
    at = (mark // _SHARDS) & last
    while held := table[at]:
        if held == mark:
            return False
        at = (at + 1) & last
    table[at] = mark
    return True
