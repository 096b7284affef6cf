"""How many requests a project may make of this API in a minute, counted in Redis by the library `limits`."""

from __future__ import annotations

import logging
import math
import os
import time
from dataclasses import dataclass

import redis
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from redis.exceptions import NoScriptError

from core import limits
from core.principal import Principal
from core.settings import settings

log = logging.getLogger(__name__)

WINDOW_SECONDS = 60
#: After a failure Redis is left alone for so long: a limit must not make every request wait for a store that hangs.
_REST_SECONDS = 1.0
#: Longer than it takes to find out that Redis does not answer; so long one request tries, and the others pass.
_TRY_SECONDS = 10.0

#: monotonic seconds; 0 while Redis answers
_resting_until = 0.0
_ours: tuple[int, str, _Storage] | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """How a project stands after a request.

    `reset_seconds` is the time until nothing of what was used counts any more; `refused_seconds` that until the next
    request may come if this one may not, None if it may.
    """

    limit: int
    remaining: int
    reset_seconds: float
    refused_seconds: float | None = None


def limit_of(principal: Principal) -> int | None:
    """Requests a minute: the project's own limit or the service's, whichever is lower; None if there is neither."""
    found = [each for each in (principal.requests_per_minute, settings().api_requests_per_minute) if each]
    return min(found, default=None)


def hit(principal: Principal) -> Window | None:
    """Count a request; one round trip to Redis.

    None if the project has no limit (then Redis is not asked), or if it cannot be counted: without Redis everybody
    passes. What spends money asks the limiter of its connection as well, and is refused there.
    """
    global _resting_until
    limit = limit_of(principal)
    now = time.monotonic()
    if limit is None or now < _resting_until:
        return None
    if _resting_until:
        _resting_until = now + _TRY_SECONDS
    try:
        window = _storage().count(RateLimitItemPerMinute(limit), principal.project_id.hex)
    except (redis.RedisError, OSError) as error:
        _rest(error)
        return None
    _resting_until = 0.0
    return window


def _rest(error: Exception) -> None:
    global _resting_until
    _resting_until = time.monotonic() + _REST_SECONDS
    log.warning("Redis is away: requests are not counted against their projects' limits (%s)", type(error).__name__)


class _Storage(RedisStorage):
    """The library's storage and its scripts, taking a request and reading how it stands in one round trip."""

    def count(self, item: RateLimitItemPerMinute, project: str) -> Window:
        """Count one request by the library's sliding window. Raises redis.RedisError."""
        key = item.key_for(project)
        keys = [self.prefixed_key(self._previous_window_key(key)), self.prefixed_key(self._current_window_key(key))]
        calls = (
            (self.lua_acquire_sliding_window, (item.amount, item.get_expiry(), 1)),
            (self.lua_sliding_window, (item.get_expiry(),)),
        )
        # A pipeline that is given the scripts themselves asks first whether the server knows them.
        client: redis.Redis = self.storage
        pipeline = client.pipeline(transaction=False)
        for script, arguments in calls:
            pipeline.evalsha(script.sha, 2, *keys, *arguments)
        found = pipeline.execute(raise_on_error=False)
        if any(isinstance(each, NoScriptError) for each in found):
            # Nothing was counted: the server knows none of them, or it has lost both.
            found = [script(keys, arguments) for script, arguments in calls]
        for each in found:
            if isinstance(each, redis.RedisError):
                raise each
        return _window(item.amount, bool(found[0]), *(max(0, int(each or 0)) for each in found[1]))


def _window(
    limit: int, passed: bool, previous: int, previous_milliseconds: int, current: int, current_milliseconds: int
) -> Window:
    """The window that the library's counters make: the last minute's count fades as this minute goes by.

    Parameters
    ----------
    previous_milliseconds, current_milliseconds : until that counter is forgotten; this minute's is kept for two.
    """
    fading, ends = previous_milliseconds / 1000, max(0.0, current_milliseconds / 1000 - WINDOW_SECONDS)
    remaining = limit - current - math.floor(previous * fading / WINDOW_SECONDS)
    reset = current_milliseconds / 1000 if current else fading
    if passed:
        return Window(limit, max(0, remaining), reset)
    if current < limit:
        # Until enough of the last minute has faded.
        wait = fading - WINDOW_SECONDS * (limit - current) / previous if previous else 0.0
    else:
        # Until this minute ends, and enough of it has faded.
        wait = ends + WINDOW_SECONDS * (1 - limit / current)
    return Window(limit, 0, reset, max(0.05, wait))


def _storage() -> _Storage:
    """This process's storage on REDIS_URL; made when it is first needed, after any fork."""
    global _ours
    url = settings().redis_url
    if _ours is None or _ours[:2] != (os.getpid(), url):
        _ours = (
            os.getpid(),
            url,
            _Storage(url, connection_pool=limits.client(url).connection_pool, key_prefix="requests"),
        )
    return _ours[2]
