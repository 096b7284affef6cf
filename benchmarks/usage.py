"""Memory and processor time of running processes, sampled from outside."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType

import psutil

MIB = 2**20
_EVERY_SECONDS = 0.25


def tree(pids: Sequence[int]) -> list[psutil.Process]:
    """The processes and their descendants that are alive."""
    found: list[psutil.Process] = []
    for pid in pids:
        try:
            top = psutil.Process(pid)
            found += [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    return found


def memory(pids: Sequence[int]) -> int:
    """Bytes that the trees of these processes hold: their proportional share, so that shared pages count once.

    Where the system does not tell it (it is Linux's), the resident size.
    """
    total = 0
    for process in tree(pids):
        try:
            full = process.memory_full_info()
            total += getattr(full, "pss", 0) or full.rss
        except psutil.Error:
            continue
    return total


def processor_seconds(pids: Sequence[int]) -> float:
    """Processor time that the trees of these processes have used, of children that have ended too."""
    total = 0.0
    for process in tree(pids):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


class MemoryWatch:
    """The highest memory of some processes' trees while the block runs, against what they held before it.

    Parameters
    ----------
    pids
        Process ids; their descendants are counted with them.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = list(pids)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.before = self.peak = 0

    @property
    def growth(self) -> int:
        """Bytes by which the peak lies above the start."""
        return self.peak - self.before

    def __enter__(self) -> MemoryWatch:
        self.before = self.peak = memory(self._pids)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, memory(self._pids))

    def _run(self) -> None:
        while not self._done.wait(_EVERY_SECONDS):
            self.peak = max(self.peak, memory(self._pids))
