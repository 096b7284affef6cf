"""How many calls may start on a provider connection: requests, tokens and concurrency, over all processes and hosts.

See docs/limits.md.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from core.limits.limiter import Limiter, Permit
from core.limits.types import REQUESTS_KIND, TOKEN_KINDS, Configured, Grant, LimitKey, Meter, Quota, family
from core.providers.types import LimitReading, Usage
from core.redis_connection import LightConnection
from core.settings import settings

__all__ = [
    "REQUESTS_KIND",
    "TOKEN_KINDS",
    "Configured",
    "Grant",
    "LimitKey",
    "Limiter",
    "Meter",
    "Permit",
    "Quota",
    "acquire",
    "answered",
    "client",
    "failure",
    "family",
    "flush",
    "forget",
    "observe",
    "penalise",
    "refused",
    "settle",
    "settle_many",
    "state",
    "success",
    "take",
]

_ours: tuple[int, str, Limiter] | None = None
_CONNECTIONS = 64
_TIMEOUT_SECONDS = 2.0


def limiter() -> Limiter:
    """This process's limiter on REDIS_URL; made when it is first needed, after any fork."""
    global _ours
    url = settings().redis_url
    if _ours is None or _ours[:2] != (os.getpid(), url):
        _ours = (os.getpid(), url, Limiter(client(url)))
        _ours[2].feedback.start()
    return _ours[2]


def client(url: str) -> redis.Redis:
    """A client for what requests wait for: short time-outs, and a pool that waits for a free connection."""
    # Thousands of greenlets ask, and the usual one raises beyond its size. One try more, for a
    # connection that died idle; if it was only the reply that was lost, a little of the limit goes unused.
    pool = redis.BlockingConnectionPool.from_url(
        url,
        connection_class=LightConnection,
        max_connections=_CONNECTIONS,
        timeout=_TIMEOUT_SECONDS,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 1),
    )
    return redis.Redis(connection_pool=pool)


def take(key: LimitKey, configured: Configured, rows: Sequence[tuple[int, int]], *, in_flight: int) -> Grant:
    """How many of a batch's leading rows may start now.

    What is granted is charged at once; give back with `settle(key, tokens, None)` what does not start after all.

    Parameters
    ----------
    configured : what the connection's owner set; None fields are learned.
    rows : estimated input and output tokens of each row that could start, in their order.
    in_flight : batch calls in flight on the connection (all families) by the database's count. With no rows the call
        only tells this, so that live calls count right against max_concurrency.

    Raises
    ------
    core.errors.Unavailable
        Redis is away.
    """
    return limiter().take(key, configured, rows, in_flight=in_flight)


def acquire(
    key: LimitKey,
    configured: Configured,
    input_tokens: int,
    output_tokens: int,
    *,
    timeout_seconds: float,
    meter: Meter | None = None,
) -> Permit:
    """Permission for one live call: `with acquire(...): call()`. One round trip at most if nothing is short.

    Parameters
    ----------
    input_tokens, output_tokens : estimates; `settle` them when the call has ended.
    timeout_seconds : how long to wait at most.
    meter : is told how the limits stand after it.

    Raises
    ------
    core.errors.OverLimit
        It cannot be had within the time (said at once where that is clear), with retry_after_seconds.
    core.errors.Unavailable
        Redis is away.
    """
    return limiter().acquire(key, configured, input_tokens, output_tokens, timeout_seconds=timeout_seconds, meter=meter)


def settle(key: LimitKey, reserved: tuple[int, int], used: Usage | None) -> None:
    """Correct what a call was charged by what it really used. Costs no round trip (`flush`).

    Parameters
    ----------
    reserved : the estimate of input and output tokens that `take` or `acquire` was given.
    used : None if the call was not made: all of it is given back, the request too. Where output counts as it is asked
        for (OpenAI), what was asked for and not produced is not given back, for the provider does not either.
    """
    limiter().feedback.settle(key, reserved, used)


def settle_many(settlements: Sequence[tuple[LimitKey, tuple[int, int], Usage | None]]) -> None:
    """`settle` for many calls."""
    limiter().feedback.settle_many(settlements)


def refused(key: LimitKey, reserved: tuple[int, int]) -> None:
    """Give back the tokens of a call that the provider refused, the output asked for too; the request was one.

    Costs no round trip (`flush`). `reserved` as in `settle`.
    """
    limiter().feedback.refused(key, reserved)


def observe(key: LimitKey, readings: Sequence[LimitReading]) -> None:
    """What a response's headers said of limits. Costs no round trip (`flush`)."""
    limiter().feedback.observe(key, readings)


def penalise(key: LimitKey, *, retry_after_seconds: float | None, took_seconds: float = 0.0) -> None:
    """A call was answered with 429, or 503 or 529 for overload: the whole connection rests, then goes slower.

    Parameters
    ----------
    took_seconds : how long the call took: one that began before the last cut says nothing that is not known.
    """
    limiter().feedback.penalise(key, retry_after_seconds, took_seconds)


def success(key: LimitKey) -> None:
    """The provider answered, if only to refuse the request: it is alive."""
    limiter().feedback.success(key)


def answered(key: LimitKey, reserved: tuple[int, int], used: Usage) -> None:
    """`settle` and `success` of one call."""
    limiter().feedback.answered(key, reserved, used)


def failure(key: LimitKey) -> None:
    """The network failed or the provider answered 5xx: enough of them in a row open the breaker."""
    limiter().feedback.failure(key)


def flush() -> None:
    """Tell Redis now what settle, observe and the others collected; happens by itself within 50 ms."""
    limiter().feedback.flush()


def forget(connection_id: UUID) -> None:
    """Drop what was learned of a connection and what it rests for: it has another key. Raises Unavailable.

    Live calls in flight go on being counted.
    """
    limiter().forget(connection_id)


def state(connection_id: UUID) -> dict[str, Any]:
    """What the limiter knows of a connection, for progress, metrics and tests; raises Unavailable without Redis.

    blocked_seconds (Retry-After), breaker (closed, open, half-open), live_in_flight, waiting_for (words, or None), and
    by family: learned_per_minute, level (of each bucket), starts_per_second, output_ratio (produced of estimated
    output, once answers told), waiting_for.
    """
    return limiter().state(connection_id)
