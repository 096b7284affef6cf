"""A small cache for what may be seconds old: bounded, and loaded anew beside the callers, who go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, TypeVar

from core.errors import Unavailable

K = TypeVar("K")
V = TypeVar("V")


class ShortCache(Generic[K, V]):
    """Values by key, each trusted for `seconds`.

    When a value has run out it is loaded anew in a thread of its own, and callers that come meanwhile get the old one
    for at most `grace_seconds` more; after these, or if there is none, the first of them loads it and the others wait.
    So a thousand greenlets make one query, none of them waits where callers keep coming, and no value is ever used
    that is older than both together. Beyond `size` entries the oldest go.
    """

    def __init__(self, *, seconds: float, grace_seconds: float, size: int) -> None:
        self._seconds = seconds
        self._grace_seconds = grace_seconds
        self._size = size
        self._values: dict[K, tuple[float, V]] = {}
        self._loading: dict[K, Future[V]] = {}
        self._lock = threading.Lock()
        self._forgotten_at = 0.0

    def get(self, key: K, load: Callable[[], V]) -> V:
        """The value, from the cache or from `load()`; what that raises is raised to all who wait and not kept."""
        now = time.monotonic()
        held = self._values.get(key)
        if held is not None and now < held[0]:
            return held[1]
        with self._lock:
            future = self._loading.get(key)
            first = future is None
            if future is None:
                future = self._loading[key] = Future()
        if held is not None and now < held[0] + self._grace_seconds:
            if first:
                threading.Thread(target=self._reload, args=(key, load, future, now), daemon=True).start()
            return held[1]
        return self._load(key, load, future, now) if first else future.result()

    def peek(self, key: K) -> V | None:
        """The value if one is held that `get` could give, without loading any."""
        held = self._values.get(key)
        return held[1] if held is not None and time.monotonic() < held[0] + self._grace_seconds else None

    def renew(self, key: K, load: Callable[[], V]) -> V:
        """The value from `load()` now, for who knows that it has changed; what it raises is raised."""
        now = time.monotonic()
        value = load()
        self._keep(key, now, value)
        return value

    def _reload(self, key: K, load: Callable[[], V], future: Future[V], now: float) -> None:
        # Nobody hears of an error here: once the old value is no longer good, the next caller meets it himself.
        with suppress(Exception):
            self._load(key, load, future, now)

    def _load(self, key: K, load: Callable[[], V], future: Future[V], now: float) -> V:
        try:
            value = load()
        except BaseException as error:
            self._loading.pop(key, None)
            # A killed greenlet must not kill those that waited for it.
            future.set_exception(error if isinstance(error, Exception) else Unavailable())
            raise
        self._keep(key, now, value)
        self._loading.pop(key, None)
        future.set_result(value)
        return value

    def _keep(self, key: K, now: float, value: V) -> None:
        """Keep what was read no earlier than `now`, unless something later is there."""
        held = self._values.get(key)
        # What began to be read before something was forgotten may be what was to be forgotten.
        if now <= self._forgotten_at or (held is not None and held[0] > now + self._seconds):
            return
        # To the end of the dict, so that the first is the oldest.
        self._values.pop(key, None)
        self._values[key] = (now + self._seconds, value)
        while len(self._values) > self._size:
            self._values.pop(next(iter(self._values)), None)

    def forget(self, key: K) -> None:
        """Drop one value."""
        self._forgotten_at = time.monotonic()
        self._values.pop(key, None)

    def forget_where(self, forgotten: Callable[[V], bool]) -> None:
        """Drop the values of which this is true."""
        self._forgotten_at = time.monotonic()
        for key in [key for key, (_, value) in list(self._values.items()) if forgotten(value)]:
            self._values.pop(key, None)

    def clear(self) -> None:
        """Drop all values."""
        self._forgotten_at = time.monotonic()
        self._values.clear()
