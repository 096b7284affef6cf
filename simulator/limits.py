"""Rate limits as providers keep them: token buckets that refill continuously, per key, and honest about the wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simulator.config import Limit, Limits

#: what "no limit" is advertised as, per minute
MANY_REQUESTS = 10_000_000
MANY_TOKENS = 10_000_000_000

Resource = Literal["requests", "tokens", "input", "output", "concurrency"]


class Bucket:
    """`per_minute` units a minute, at most `burst_seconds` of them at once. Times are loop seconds."""

    __slots__ = ("capacity", "level", "per_minute", "rate", "updated")

    def __init__(self, per_minute: float, burst_seconds: float, now: float) -> None:
        self.per_minute = per_minute
        self.rate = per_minute / 60.0
        self.capacity = max(1.0, self.rate * burst_seconds)
        self.level = self.capacity
        self.updated = now

    def refill(self, now: float) -> None:
        level = self.level + (now - self.updated) * self.rate
        self.level = level if level < self.capacity else self.capacity
        self.updated = now

    def wait(self, units: float) -> float:
        """Seconds until `units` are there, at the level of the last refill; 0 if they are."""
        missing = units - self.level
        # Floating-point crumbs must not send a caller away who waited exactly as long as it was told.
        return missing / self.rate if missing > 1e-6 else 0.0

    def until_full(self) -> float:
        """Seconds until the bucket is full again."""
        return (self.capacity - self.level) / self.rate


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a call is not admitted. `wait_seconds` is None when no waiting helps: it alone exceeds the limit."""

    resource: Resource
    limit: float
    used: float
    requested: float
    wait_seconds: float | None


class Allowance:
    """What is left to one key (and model)."""

    __slots__ = ("input", "limit", "output", "requests", "running", "tokens")

    def __init__(self, limit: Limit, now: float) -> None:
        burst = limit.burst_seconds
        self.limit = limit
        self.requests = Bucket(limit.requests_per_minute or MANY_REQUESTS, burst, now)
        self.tokens = Bucket(limit.tokens_per_minute or MANY_TOKENS, burst, now)
        self.input = Bucket(limit.input_tokens_per_minute or limit.tokens_per_minute or MANY_TOKENS, burst, now)
        self.output = Bucket(limit.output_tokens_per_minute or MANY_TOKENS, burst, now)
        self.running = 0

    def refill(self, now: float) -> None:
        for bucket in (self.requests, self.tokens, self.input, self.output):
            bucket.refill(now)

    def admit_total(self, now: float, tokens: int) -> Refused | None:
        """OpenAI's way: one request, and the prompt plus the output asked for, are taken at once."""
        self.requests.refill(now)
        self.tokens.refill(now)
        refused = self._crowded() or _short("requests", self.requests, 1) or _short("tokens", self.tokens, tokens)
        if refused is None:
            self.requests.level -= 1
            self.tokens.level -= tokens
        return refused

    def admit_input(self, now: float, tokens: int) -> Refused | None:
        """Anthropic's way: input is taken at once, output as it is produced (`produced`)."""
        self.requests.refill(now)
        self.input.refill(now)
        self.output.refill(now)
        refused = (
            self._crowded()
            or _short("requests", self.requests, 1)
            or _short("input", self.input, tokens)
            or _short("output", self.output, 1)
        )
        if refused is None:
            self.requests.level -= 1
            self.input.level -= tokens
        return refused

    def produced(self, now: float, tokens: int) -> None:
        """Output was written; its bucket may go below zero, which later calls wait for."""
        self.output.refill(now)
        self.output.level -= tokens

    def _crowded(self) -> Refused | None:
        most = self.limit.max_concurrency
        if most is None or self.running < most:
            return None
        return Refused("concurrency", most, self.running, 1, 1.0)


def _short(resource: Resource, bucket: Bucket, units: float) -> Refused | None:
    wait = bucket.wait(units)
    if wait <= 0:
        return None
    too_large = units > bucket.capacity
    return Refused(resource, bucket.per_minute, bucket.capacity - bucket.level, units, None if too_large else wait)


class Allowances:
    """Every key's allowance, made when it first calls."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._found: dict[tuple[str, str], Allowance] = {}
        self._made: dict[tuple[str, str], Allowance] = {}

    def of(self, key: str, model: str, now: float) -> Allowance:
        """The one that holds for this key and model: the key's own limit, else the model's, else the default."""
        found = self._found.get((key, model))
        if found is None:
            limit = self._limits.keys.get(key)
            per_model = limit is None and model in self._limits.models
            if limit is None:
                limit = self._limits.models.get(model, self._limits.default)
            bucket_of = (key, model if per_model or limit.per_model else "")
            found = self._made.get(bucket_of)
            if found is None:
                found = self._made[bucket_of] = Allowance(limit, now)
            self._found[key, model] = found
        return found
