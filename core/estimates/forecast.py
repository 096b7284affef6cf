"""The figures of an estimate: what a batch's rows add up to, what they cost either way, how long they take. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from core import catalogue, ids, pricing
from core.batches.options import BatchOptions
from core.estimates.history import Recent
from core.native.choice import Choice, choose, obstacle_to
from core.native.duration import TYPICAL_CALL_SECONDS, realtime_seconds
from core.native.outlook import Limits
from core.pricing import RateCard
from core.providers.types import Usage
from core.routing import Route
from core.settings import settings
from core.states import Processing, ProviderType
from core.time_and_money import money_text


class Sums:
    """What the rows of one lane add up to: of one connection and model, with or without a service tier of their own."""

    def __init__(self, route: Route, *, names_tier: bool = False) -> None:
        self.route = route
        self.names_tier = names_tier
        self.model = catalogue.find(route.model, route.provider)
        self.card: RateCard | None = pricing.card_for(route.provider, route.model)
        self.rows = 0
        self.input_tokens = 0
        #: of each row its limit, or where it has none a typical answer (core/tokens.py)
        self.output_tokens = 0
        self.without_limit = 0
        #: [input, output tokens] that one price holds for: above the long-context threshold or not, and the tier
        self.priced: dict[tuple[bool, str], list[int]] = {}
        self._long_above = self.card.long_above if self.card is not None else None

    def add(self, body: bytes, input_tokens: int, output_tokens: int) -> None:
        """Add a checked row: its request as JSON, and the estimates of its tokens."""
        tier, limit = "", None
        # Parsed again only where it can make a difference.
        if b'"max_' in body or self.names_tier:
            params = orjson.loads(body)
            limit = params.get("max_completion_tokens") or params.get("max_tokens")
            if self.names_tier and self.route.provider == ProviderType.OPENAI:
                tier = str(params["service_tier"])
        self.rows += 1
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        # Embeddings have no output that could be limited.
        self.without_limit += limit is None and output_tokens > 0
        long = self._long_above is not None and input_tokens > self._long_above
        part = self.priced.setdefault((long, tier if self.card and tier in self.card.tiers else ""), [0, 0])
        part[0] += input_tokens
        part[1] += output_tokens

    def cost(self, *, batch: bool, output_share: float = 1.0) -> Decimal | None:
        """USD of all rows, in real time or in the provider's batch API; None if no price is known.

        Parameters
        ----------
        output_share : how much of the output is counted.
        """
        if self.card is None:
            return None
        total = Decimal(0)
        for (long, tier), (input_tokens, output_tokens) in self.priced.items():
            # The rates follow from one row's prompt, not from the sum.
            rates = self.card.rates((self._long_above or 0) + 1 if long else 0, batch=batch)
            if tier and not batch:
                rates = rates.scaled(*self.card.tiers[tier])
            total += rates.cost(Usage(input_tokens=input_tokens, output_tokens=int(output_tokens * output_share)))
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """All that the answer is made of."""

    sums: Sequence[Sums]
    #: of each of `sums`
    limits: Sequence[Limits]
    history: Mapping[tuple[str, str], Recent]
    #: calls that the workers hold at once
    capacity: int
    workers_alive: bool
    #: False: Redis was away, and only configured limits are known
    limits_asked: bool


@dataclass(slots=True)
class _Lane:
    """One entry of `models`, on its way into the totals."""

    sums: Sums
    limits: Limits
    call_seconds: float
    choice: Choice
    native: bool
    shown: dict[str, Any] = field(default_factory=dict)
    costs: dict[str, Decimal | None] = field(default_factory=dict)
    expected: tuple[int, Decimal | None] | None = None


def answer(known: Forecast, options: BatchOptions) -> dict[str, Any]:
    """The part of the answer after the errors: options that matter, `models`, `totals`."""
    lanes = [_lane(each, limits, known, options) for each, limits in zip(known.sums, known.limits, strict=True)]
    lanes.sort(key=lambda lane: -lane.sums.rows)
    return {
        "processing": options.processing,
        "completion_window_seconds": options.window_seconds,
        "max_cost_usd": money_text(options.max_cost_usd),
        "models": [lane.shown for lane in lanes],
        "totals": _totals(lanes, known, options),
    }


def _lane(sums: Sums, limits: Limits, known: Forecast, options: BatchOptions) -> _Lane:
    route = sums.route
    recent = known.history.get((route.provider, route.model))
    call_seconds = (recent.seconds if recent else None) or TYPICAL_CALL_SECONDS
    seconds = limits.seconds(
        sums.rows, sums.input_tokens, sums.output_tokens, capacity=known.capacity, seconds_per_call=call_seconds
    )
    choice = choose(
        options.processing,
        route.model,
        rows=sums.rows,
        min_rows=settings().native_min_rows,
        window_seconds=options.window_seconds,
        # As it is decided when the batch is submitted (core/batches/ingest.py): without the project's own call times.
        realtime_seconds=limits.seconds(sums.rows, sums.input_tokens, sums.output_tokens, capacity=known.capacity),
        obstacle=obstacle_to(options.processing, sums.model, tier_of_its_own=sums.names_tier),
    )
    # What would keep the rows out if their owner asked for native, which auto may be more careful about.
    obstacle = obstacle_to(Processing.NATIVE, sums.model, tier_of_its_own=sums.names_tier)
    lane = _Lane(sums, limits, call_seconds, choice, native=obstacle is None)
    lane.costs = {"realtime": sums.cost(batch=False), "native": sums.cost(batch=True) if lane.native else None}
    chosen_native = choice.processing is Processing.NATIVE
    lane.costs["chosen"] = lane.costs["native" if chosen_native else "realtime"]
    if not sums.output_tokens:
        lane.expected = 0, lane.costs["chosen"]
    elif recent is not None and recent.output_tokens is not None:
        output = min(sums.output_tokens, round(recent.output_tokens * sums.rows))
        lane.expected = output, sums.cost(batch=chosen_native, output_share=output / sums.output_tokens)
    lane.shown = {
        "provider": route.provider,
        "provider_id": ids.public("prov", UUID(route.connection.id)),
        "model": route.model,
        "rows": sums.rows,
        "input_tokens": sums.input_tokens,
        "output_tokens_max": sums.output_tokens,
        "rows_without_max_tokens": sums.without_limit,
        "cost_usd": {name: money_text(cost) for name, cost in lane.costs.items()},
        "expected": _expected(lane.expected),
        "processing": choice.processing,
        "processing_reason": choice.reason,
        "expected_duration_seconds": round(seconds, 1),
        "seconds_per_call": round(call_seconds, 3),
        "limits": {
            "requests_per_minute": limits.requests_per_minute,
            "tokens_per_minute": limits.tokens_per_minute,
            "input_tokens_per_minute": limits.input_tokens_per_minute,
            "output_tokens_per_minute": limits.output_tokens_per_minute,
            "max_concurrency": limits.max_concurrency,
        },
        "notes": list(_notes(lane, known, obstacle, measured=bool(recent and recent.seconds))),
    }
    return lane


def _notes(lane: _Lane, known: Forecast, obstacle: str | None, *, measured: bool) -> list[str]:
    """What is not known, or assumed, in words."""
    sums, route = lane.sums, lane.sums.route
    found = []
    if sums.card is None:
        found.append(f"no price of {route.model} is known: its cost is not in the totals")
    elif obstacle is not None:
        found.append(f"no native cost: {obstacle}")
    if sums.without_limit:
        found.append(
            f"{sums.without_limit:,} rows set no max_tokens: a typical answer is assumed for them, theirs can be longer"
        )
    if not lane.limits.known:
        found.append(
            "no limit per minute of this provider is known: configure it, or it is learned from the first answers"
            if known.limits_asked
            else "limits learned from answers cannot be read at the moment: only configured ones count"
        )
    if not measured:
        found.append(f"too few calls of {route.model} lately: {TYPICAL_CALL_SECONDS:g} s a call are assumed")
    if route.connection.state != "active":
        found.append("this provider's key has stopped working: rows wait until it is replaced or resumed")
    return found


def _totals(lanes: list[_Lane], known: Forecast, options: BatchOptions) -> dict[str, Any]:
    unpriced = sum(lane.sums.rows for lane in lanes if lane.sums.card is None)
    costs: dict[str, Decimal] = {
        "realtime": sum((lane.costs["realtime"] or Decimal(0) for lane in lanes), Decimal(0)),
        # What the provider's batch API does not take runs in real time, whatever is asked for.
        "native": sum(
            (lane.costs["native" if lane.native else "realtime"] or Decimal(0) for lane in lanes), Decimal(0)
        ),
        "chosen": sum((lane.costs["chosen"] or Decimal(0) for lane in lanes), Decimal(0)),
    }
    expected = None
    if lanes and all(lane.expected is not None for lane in lanes):
        outputs = [lane.expected for lane in lanes if lane.expected is not None]
        expected = (
            sum(output for output, _ in outputs),
            None if unpriced else sum((cost or Decimal(0) for _, cost in outputs), Decimal(0)),
        )
    seconds = _all_at_once(lanes, known.capacity)
    return {
        "rows": sum(lane.sums.rows for lane in lanes),
        "unpriced_rows": unpriced,
        "input_tokens": sum(lane.sums.input_tokens for lane in lanes),
        "output_tokens_max": sum(lane.sums.output_tokens for lane in lanes),
        "rows_without_max_tokens": sum(lane.sums.without_limit for lane in lanes),
        "cost_usd": {name: money_text(cost) for name, cost in costs.items()},
        "expected": _expected(expected),
        "within_max_cost": _within(costs["chosen"], options.max_cost_usd, unpriced),
        "expected_duration_seconds": round(seconds, 1),
        "within_window": seconds <= options.window_seconds,
        "notes": []
        if known.workers_alive
        else [
            f"no worker is running: nothing starts before one does; one that holds {known.capacity:,} calls is assumed"
        ],
    }


def _all_at_once(lanes: list[_Lane], capacity: int) -> float:
    """Seconds in real time of all rows together: each limit is shared by those that fall under it.

    Limits per minute are a family's, concurrency is a connection's, and the workers are everybody's.
    """
    families: dict[tuple[str, str], list[_Lane]] = {}
    connections: dict[str, list[_Lane]] = {}
    for lane in lanes:
        connection_id = lane.sums.route.connection.id
        families.setdefault((connection_id, lane.limits.family), []).append(lane)
        connections.setdefault(connection_id, []).append(lane)
    bounds = [0.0]
    for group in families.values():
        rows = sum(lane.sums.rows for lane in group)
        tokens = [sum(lane.sums.input_tokens for lane in group), sum(lane.sums.output_tokens for lane in group)]
        bounds.append(group[0].limits.seconds(rows, *tokens, capacity=capacity, seconds_per_call=_call_seconds(group)))
    for group in (*connections.values(), lanes):
        rows = sum(lane.sums.rows for lane in group)
        most = group[0].limits.max_concurrency if group is not lanes else capacity
        if rows:
            bounds.append(
                realtime_seconds(
                    rows, 0, 0, max_concurrency=most, capacity=capacity, seconds_per_call=_call_seconds(group)
                )
            )
    return max(bounds)


def _call_seconds(group: list[_Lane]) -> float:
    """The mean over a group's rows."""
    return sum(lane.call_seconds * lane.sums.rows for lane in group) / sum(lane.sums.rows for lane in group)


def _within(cost: Decimal, limit: Decimal | None, unpriced: int) -> bool | None:
    """Whether a batch stays within its max_cost_usd; None: it has none, or unpriced rows make it unsure."""
    if limit is None:
        return None
    if cost > limit:
        return False
    return None if unpriced else True


def _expected(found: tuple[int, Decimal | None] | None) -> dict[str, Any] | None:
    return None if found is None else {"output_tokens": found[0], "cost_usd": money_text(found[1])}
