"""Work beside the caller's own: it waits for the database, mostly, while the caller reads or writes bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Beside(Generic[T]):
    """Begins `work` at once in a thread (under gevent a greenlet, so the caller must let others have a turn)."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._found: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="beside", daemon=True)
        self._thread.start()

    def result(self) -> T:
        """Wait for it. Raises what the work raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._found[0]

    def wait(self) -> None:
        """Wait until it has ended, however that was."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self._found.append(self._work())
        except BaseException as error:
            self._error = error


def ahead(found: Iterable[T]) -> Iterator[T]:
    """The same, each being fetched while the caller has the one before in hand."""
    rest = iter(found)
    end = object()
    following: Beside[T | object] = Beside(lambda: next(rest, end))
    while (one := following.result()) is not end:
        following = Beside(lambda: next(rest, end))
        yield one  # type: ignore[misc]
