"""The ledger: what was called, charged, and charged twice. Columns, so that a million calls are cheap."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

#: the status of a call whose client went away before the answer, as nginx writes it
CLIENT_GONE = 499


@lru_cache(maxsize=65536)
def key_label(key: str) -> str:
    """How the ledger names an API key: eight hex digits of its SHA-256 and its last four characters."""
    return f"{hashlib.sha256(key.encode()).hexdigest()[:8]}-{key[-4:]}"


class _Names:
    """Numbers for strings that repeat in a column."""

    def __init__(self) -> None:
        self.names: list[str | None] = [None]
        self._numbers: dict[str | None, int] = {None: 0}

    def number(self, name: str | None) -> int:
        found = self._numbers.get(name)
        if found is None:
            found = self._numbers[name] = len(self.names)
            self.names.append(name)
        return found


class Ledger:
    """One row per inference call; `row` is its index, or -1 where rows are not kept."""

    def __init__(self, *, calls: bool, nonces: bool) -> None:
        self._keep_calls = calls
        self._keep_nonces = nonces
        self.calls = self.executed = self.rate_limited = self.abandoned = 0
        self.in_flight = self.max_concurrency = 0
        self.duplicates = 0
        self.first_call_at: float | None = None
        self.last_call_at: float | None = None
        self.by_status: Counter[int] = Counter()
        self.by_key: Counter[str] = Counter()
        self.by_model: Counter[str] = Counter()
        self.by_fault: Counter[str] = Counter()
        self.other: Counter[str] = Counter()
        #: what native batches did: batches, files, rows by outcome
        self.native: Counter[str] = Counter()
        #: nonce -> calls << 20 | executed, rows of native batches included
        self._nonces: dict[str, int] = {}
        #: the same of native rows alone
        self._native_nonces: dict[str, int] = {}
        self._t_start = array("d")
        self._t_end = array("d")
        self._status = array("H")
        self._executed = array("B")
        self._key = array("I")
        self._model = array("I")
        self._fault = array("H")
        self._hash = array("Q")
        self._nonce: list[str | None] = []
        self._keys, self._models, self._faults = _Names(), _Names(), _Names()

    def begin(self, now: float) -> int:
        """A call has come in, at `now` in Unix seconds."""
        self.calls += 1
        self.in_flight += 1
        if self.in_flight > self.max_concurrency:
            self.max_concurrency = self.in_flight
        if self.first_call_at is None:
            self.first_call_at = now
        self.last_call_at = now
        if not self._keep_calls:
            return -1
        self._t_start.append(now)
        self._t_end.append(0.0)
        self._status.append(0)
        self._executed.append(0)
        self._key.append(0)
        self._model.append(0)
        self._fault.append(0)
        self._hash.append(0)
        self._nonce.append(None)
        return len(self._nonce) - 1

    def by(self, row: int, key: str) -> None:
        """Whose call it is."""
        label = key_label(key)
        self.by_key[label] += 1
        if row >= 0:
            self._key[row] = self._keys.number(label)

    def asks(self, row: int, model: str, nonce: str | None, prompt_hash: int) -> int:
        """What it asks. Answers the number of this call among those with its nonce, from 1; 0 without a nonce."""
        self.by_model[model] += 1
        if row >= 0:
            self._model[row] = self._models.number(model)
            self._hash[row] = prompt_hash
            self._nonce[row] = nonce
        if nonce is None or not self._keep_nonces:
            return 0
        counts = self._nonces.get(nonce, 0) + (1 << 20)
        self._nonces[nonce] = counts
        return counts >> 20

    def end(self, row: int, now: float, status: int, fault: str | None, executed: bool, nonce: str | None) -> None:
        """It is over. `executed`: a provider would charge for it. Status 0: no answer was sent."""
        self.in_flight -= 1
        self.by_status[status] += 1
        if fault is not None:
            self.by_fault[fault] += 1
        if executed:
            self._charge(nonce)
        if row >= 0:
            self._t_end[row] = now
            self._status[row] = status
            self._executed[row] = executed
            self._fault[row] = self._faults.number(fault)

    def _charge(self, nonce: str | None) -> None:
        self.executed += 1
        if nonce is not None and self._keep_nonces:
            counts = self._nonces.get(nonce, 0) + 1
            self._nonces[nonce] = counts
            if counts & 0xFFFFF == 2:
                self.duplicates += 1

    def native_asks(self, nonce: str | None) -> int:
        """A native batch takes a row. Answers its number among the calls and rows of its nonce, as `asks` does."""
        self.native["rows"] += 1
        if nonce is None or not self._keep_nonces:
            return 0
        self._native_nonces[nonce] = self._native_nonces.get(nonce, 0) + (1 << 20)
        counts = self._nonces.get(nonce, 0) + (1 << 20)
        self._nonces[nonce] = counts
        return counts >> 20

    def native_ends(self, nonce: str | None, fault: str | None, executed: bool) -> None:
        """A row of a native batch is done; `executed`: it is charged for."""
        if fault is not None:
            self.by_fault[fault] += 1
        self.native["executed" if executed else "not_executed"] += 1
        if executed:
            self._charge(nonce)
            if nonce is not None and self._keep_nonces:
                self._native_nonces[nonce] = self._native_nonces.get(nonce, 0) + 1

    def summary(self) -> dict[str, Any]:
        """The counters, as GET /_sim/ledger gives them."""
        return {
            "calls": self.calls,
            "executed": self.executed,
            "native_executed": self.native["executed"],
            "duplicates": self.duplicates,
            "rate_limited": self.rate_limited,
            "abandoned": self.abandoned,
            "in_flight": self.in_flight,
            "max_concurrency": self.max_concurrency,
            "first_call_at": self.first_call_at,
            "last_call_at": self.last_call_at,
            "by_status": {str(status): count for status, count in sorted(self.by_status.items())},
            "by_key": dict(self.by_key),
            "by_model": dict(self.by_model),
            "by_fault": dict(self.by_fault),
            "other": dict(self.other),
            "native": dict(self.native),
        }

    def rows(self, offset: int, limit: int | None) -> Iterator[dict[str, Any]]:
        """One record per call in order of arrival; a call in flight has status null."""
        end = len(self._nonce) if limit is None else min(len(self._nonce), offset + limit)
        for n in range(offset, end):
            done = self._t_end[n] != 0.0
            yield {
                "n": n,
                "t_start": self._t_start[n],
                "t_end": self._t_end[n] if done else None,
                "key": self._keys.names[self._key[n]],
                "model": self._models.names[self._model[n]],
                "nonce": self._nonce[n],
                "status": self._status[n] if done else None,
                "fault": self._faults.names[self._fault[n]],
                "executed": bool(self._executed[n]),
                "prompt_hash": f"{self._hash[n]:016x}",
            }

    def nonces(self) -> dict[str, dict[str, int]]:
        """Calls and charged calls per nonce; `native_calls` and `native_executed` say how many were native rows."""
        found = {n: {"calls": counts >> 20, "executed": counts & 0xFFFFF} for n, counts in self._nonces.items()}
        for nonce, counts in self._native_nonces.items():
            found[nonce] |= {"native_calls": counts >> 20, "native_executed": counts & 0xFFFFF}
        return found
