"""What bounds rows in real time now: a connection's limits, configured and learned, and the workers' capacity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from core import limits
from core.db import RawConnection
from core.dispatch import claim
from core.errors import Unavailable
from core.limits.tuning import FIRST_OUTPUT_RATIO
from core.limits.types import Configured, counts_produced_output, family
from core.native.duration import TYPICAL_CALL_SECONDS, realtime_seconds
from core.settings import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a connection lets the rows of one model family do; None where no limit is known."""

    family: str
    requests_per_minute: int | None
    tokens_per_minute: int | None
    input_tokens_per_minute: int | None
    output_tokens_per_minute: int | None
    #: configured, or the service's own default
    max_concurrency: int
    #: how much of the estimated output counts: less than 1 where only what is produced does (Anthropic)
    output_ratio: float

    @property
    def known(self) -> bool:
        """True if some limit per minute is known; if none is, concurrency alone bounds the rows."""
        return not (
            self.requests_per_minute is None
            and self.tokens_per_minute is None
            and self.input_tokens_per_minute is None
            and self.output_tokens_per_minute is None
        )

    def seconds(
        self,
        rows: int,
        input_tokens: int,
        output_tokens: int,
        *,
        capacity: int,
        seconds_per_call: float = TYPICAL_CALL_SECONDS,
    ) -> float:
        """`realtime_seconds` of rows with these estimates (core/tokens.py) under these limits."""
        return realtime_seconds(
            rows,
            input_tokens,
            int(output_tokens * self.output_ratio),
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            input_tokens_per_minute=self.input_tokens_per_minute,
            output_tokens_per_minute=self.output_tokens_per_minute,
            max_concurrency=self.max_concurrency,
            capacity=capacity,
            seconds_per_call=seconds_per_call,
        )


def limits_of(connection_id: UUID, model: str, configured: Configured) -> Limits:
    """The limits of a model on a connection; without Redis those that its owner configured."""
    return combine(model, configured, learned(connection_id))


def learned(connection_id: UUID) -> dict[str, Any] | None:
    """What the limiter knows of a connection's families (`core.limits.state`); None if Redis is away."""
    try:
        found: dict[str, Any] = limits.state(connection_id)["families"]
    except Unavailable:
        return None
    return found


def combine(model: str, configured: Configured, families: dict[str, Any] | None) -> Limits:
    """The tighter of what is configured and what was learned, as the limiter itself takes it."""
    name = family(model)
    state = (families or {}).get(name, {})
    taught = state.get("learned_per_minute", {})
    ratio = 1.0
    if counts_produced_output(name):
        ratio = FIRST_OUTPUT_RATIO if state.get("output_ratio") is None else state["output_ratio"]
    return Limits(
        family=name,
        requests_per_minute=_tighter(configured.requests_per_minute, taught.get("requests")),
        tokens_per_minute=_tighter(configured.tokens_per_minute, taught.get("tokens")),
        input_tokens_per_minute=_tighter(None, taught.get("input_tokens")),
        output_tokens_per_minute=_tighter(None, taught.get("output_tokens")),
        max_concurrency=configured.max_concurrency or settings().default_max_concurrency,
        output_ratio=ratio,
    )


def capacity(connection: RawConnection) -> int:
    """Calls that the live workers hold at once; with none alive, those of one worker: it is expected back."""
    return claim.capacity(connection) or settings().worker_concurrency


def _tighter(configured: int | None, taught: int | None) -> int | None:
    """A limit of zero says nothing: neither the owner nor a provider means it."""
    given = [limit for limit in (configured, taught) if limit]
    return min(given, default=None)
