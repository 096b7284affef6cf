"""The limiter's keys in Redis and the arguments that its scripts share."""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

from core.limits.types import Configured, LimitKey, counts_produced_output


def of_connection(connection_id: UUID) -> str:
    """The hash of a connection; the braces put all keys of one connection on one node of a cluster."""
    return f"limits:{{{connection_id}}}"


def live(connection_id: UUID) -> str:
    return f"{of_connection(connection_id)}:live"


def families(connection_id: UUID) -> str:
    return f"{of_connection(connection_id)}:families"


def of_family(key: LimitKey) -> str:
    return f"{of_connection(key.connection_id)}:of:{key.family}"


@lru_cache(maxsize=4096)
def all_of(key: LimitKey) -> tuple[str, str, str, str]:
    """KEYS of the scripts that stand on common.lua."""
    return of_connection(key.connection_id), of_family(key), live(key.connection_id), families(key.connection_id)


def arguments(key: LimitKey, configured: Configured | None, now: float | None) -> tuple[str | int | float, ...]:
    """ARGV[1] to ARGV[6] of the scripts that stand on common.lua; `configured` None: as take and acquire said last."""
    if configured is None:
        of_owner: tuple[str | int, ...] = ("as before", "", "")
    else:
        of_owner = (
            configured.requests_per_minute or "",
            configured.tokens_per_minute or "",
            configured.max_concurrency or "",
        )
    return (
        "" if now is None else repr(now),
        *of_owner,
        "1" if counts_produced_output(key.family) else "0",
        key.family,
    )
