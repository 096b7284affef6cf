"""Dispatch: chooses the rows that run next within fairness, limits and budgets, claims them, rings their doorbells."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

import dramatiq
import psycopg
import redis

from core import budgets, db, limits, metrics_dispatch, pricing, tracing
from core.aside import Aside
from core.dispatch import claim, pauses
from core.dispatch.claim import Flight, OpenLane
from core.dispatch.doorbell import FIRST_SLICE_ROWS, SLICE_ROWS, DoorbellBroker, ring
from core.errors import Unavailable
from core.limits import Configured, LimitKey
from scheduler.fairness import Demand, shares

log = logging.getLogger(__name__)

#: Rows released ahead of what workers have started: what they start in this time, so that a cancel, a pause or a new
#: tenant's first row does not wait behind more than that.
WINDOW_SECONDS = 0.15
MIN_WINDOW_ROWS = 256
#: Between two looks while there is work, in seconds: while a limit is what bounds it, while the window is full (a third
#: of it will have been started by then, so that claims and slices are large), while rows are only in flight, and else.
BUSY_SECONDS, FULL_SECONDS, IN_FLIGHT_SECONDS, IDLE_SECONDS = 0.02, 0.05, 0.2, 5.0
#: Estimates of a lane's next rows that are read at once.
PEEK_ROWS = 2000


def _demand(lanes: Sequence[OpenLane], rung: int, running: int) -> Demand:
    """What a tenant wants; one without open lanes wants nothing more than it holds."""
    weight = lanes[0].weight if lanes else 1
    return Demand(weight, rung + running, sum(lane.due + lane.fresh for lane in lanes), rung)


@dataclass(slots=True)
class _Peek:
    """Estimates of a lane's rows from `at` on, read ahead of their dispatch."""

    at: int
    tokens: deque[tuple[int, int]] = field(default_factory=deque)


class Dispatcher:
    """One tick after the other, by whoever leads."""

    def __init__(self, broker: DoorbellBroker) -> None:
        self._broker = broker
        self._peeks: dict[int, _Peek] = {}
        self._aside: Aside[int] = Aside("dispatch", "lane")
        self._rooms: dict[UUID, budgets.Room] = {}
        self._starts_per_second = 0.0
        self._last_rung = 0
        self._last_time = time.monotonic()

    def tick(self) -> float:
        """Dispatch what may start now; returns the seconds until the next tick is worth while."""
        began = time.monotonic()
        wait = self._tick()
        # With very many rows in flight a look costs more, and is taken less often.
        return max(wait, time.monotonic() - began)

    def _tick(self) -> float:
        with db.one_trip() as connection:
            flight, capacity = claim.look(connection)
            lanes = claim.open_lanes(connection, flight)
            self._rooms = budgets.rooms(connection) if lanes else {}
        self._forget_ended({lane.id for lane in lanes})
        self._measure(flight)
        if not lanes:
            # Rows in flight may come back to be tried again at any time.
            return IN_FLIGHT_SECONDS if flight.lanes else IDLE_SECONDS
        startable = capacity - flight.running - flight.rung
        released, wait = self._release(lanes, flight, capacity, startable) if startable > 0 else (0, BUSY_SECONDS)
        self._last_rung = flight.rung + released
        if self._last_rung >= self._window():
            return FULL_SECONDS
        return BUSY_SECONDS if released else max(BUSY_SECONDS, min(wait, IN_FLIGHT_SECONDS))

    def _window(self) -> int:
        return max(MIN_WINDOW_ROWS, int(self._starts_per_second * WINDOW_SECONDS))

    def _measure(self, flight: Flight) -> None:
        """Follow how fast workers start rows: what was rung last time and is no longer."""
        now = time.monotonic()
        elapsed = max(0.001, now - self._last_time)
        rate = max(0, self._last_rung - flight.rung) / elapsed
        weight = min(1.0, elapsed / 0.5)
        self._starts_per_second += (rate - self._starts_per_second) * weight
        self._last_time = now
        self._last_rung = flight.rung

    def _forget_ended(self, open_ids: set[int]) -> None:
        for lane_id in self._peeks.keys() - open_ids:
            del self._peeks[lane_id]

    def _release(self, lanes: list[OpenLane], flight: Flight, capacity: int, startable: int) -> tuple[int, float]:
        """Share `startable` rows out; what a limiter refuses one tenant is offered to the others."""
        by_tenant: dict[UUID, list[OpenLane]] = defaultdict(list)
        for lane in lanes:
            by_tenant[lane.tenant_id].append(lane)
        in_flight = flight.by_connection()
        held = defaultdict(lambda: (0, 0), flight.by_tenant())
        window = self._window()
        released, wait = 0, IN_FLIGHT_SECONDS
        while startable > 0 and by_tenant:
            allowed = shares(
                {
                    tenant: _demand(by_tenant.get(tenant, ()), *held[tenant])
                    for tenant in held.keys() | by_tenant.keys()
                },
                capacity=capacity,
                window=window,
                startable=startable,
            )
            if not any(allowed.values()):
                break
            # Those with little in flight first: what is claimed for them must not wait for the claims of the others.
            for tenant, own in sorted(by_tenant.items(), key=lambda item: sum(held[item[0]])):
                # A tenant with little in flight passes those with much, so that it is not served behind all of theirs.
                most = max((sum(other) for name, other in held.items() if name != tenant), default=0)
                first = 2 * (sum(held[tenant]) + allowed[tenant]) <= most
                count, limited = self._release_tenant(own, allowed[tenant], in_flight, first=first)
                released += count
                startable -= count
                held[tenant] = (held[tenant][0] + count, held[tenant][1])
                wait = min(wait, limited)
                if count < allowed[tenant] or not allowed[tenant]:
                    del by_tenant[tenant]
        return released, wait

    def _release_tenant(
        self, lanes: list[OpenLane], allowed: int, in_flight: dict[UUID, int], *, first: bool
    ) -> tuple[int, float]:
        """One tenant's lanes, by priority and age (the order they come in). Returns rows released, and a wait."""
        released, wait = 0, IN_FLIGHT_SECONDS
        for lane in lanes:
            if released >= allowed:
                break
            if lane.due + lane.fresh <= 0 or self._aside.waits(lane.id):
                continue
            with self._aside.turn(lane.id):
                count, limited = self._release_lane(lane, allowed - released, in_flight, first=first)
                released += count
                wait = min(wait, limited)
        return released, wait

    def _release_lane(
        self, lane: OpenLane, wanted: int, in_flight: dict[UUID, int], *, first: bool
    ) -> tuple[int, float]:
        """Rows that wait to be tried again first, then fresh ones."""
        room = self._rooms.get(lane.batch_id)
        if room is not None and room.closed_to(Decimal(0)):
            budgets.pause(lane.batch_id, room, Decimal(0))
            return 0, IN_FLIGHT_SECONDS
        with db.single_statement() as connection:
            due = claim.due_rows(connection, lane.id, min(wanted, lane.due)) if lane.due else []
            fresh = self._peek(connection, lane, wanted - len(due))
        reserved = self._reserve(lane, fresh)
        fresh = fresh[: len(reserved)]
        candidates = [(row[1], row[2]) for row in due] + fresh
        if not candidates:
            return 0, IN_FLIGHT_SECONDS
        span = _span_of(lane)
        key = LimitKey(lane.connection_id, limits.family(lane.model))
        grant = limits.take(
            key,
            Configured(lane.requests_per_minute, lane.tokens_per_minute, lane.max_concurrency),
            candidates,
            in_flight=in_flight.get(lane.connection_id, 0),
        )
        metrics_dispatch.granted(lane.provider, grant.granted, grant.waiting_for)
        if not grant.granted:
            return 0, grant.wait_seconds
        again = [row[0] for row in due[: grant.granted]]
        count = grant.granted - len(again)
        try:
            claimed = self._claim(lane, due, again, fresh[:count], reserved[:count])
        except Unavailable:
            # They may have been claimed: it is not known.
            raise
        except Exception:
            for tokens in candidates[: grant.granted]:
                limits.settle(key, tokens, None)
            raise
        lane.due -= len(again)
        in_flight[lane.connection_id] = in_flight.get(lane.connection_id, 0) + len(claimed)
        for tokens in candidates[len(claimed) : grant.granted]:
            # The batch was paused or stopped in this moment: what was taken for its rows goes back.
            limits.settle(key, tokens, None)
        metrics_dispatch.CLAIMED.labels(lane.provider).inc(len(claimed))
        self._ring(lane, claimed, first=first)
        span.set({"llm_service.rows": len(claimed), "llm_service.waiting_for": grant.waiting_for})
        span.end()
        return len(claimed), grant.wait_seconds

    def _claim(
        self,
        lane: OpenLane,
        due: list[tuple[int, int, int, float]],
        again: list[int],
        fresh: list[tuple[int, int]],
        reserved: list[Decimal],
    ) -> list[tuple[int, int]]:
        """Claim the rows `again` of those that are due, and the next fresh ones: (completion id, fence) of each."""
        claimed: list[tuple[int, int]] = []
        # A claim alone is a transaction of its own: what it locks is not held while its end travels.
        with db.connection() if again and fresh else db.single_statement() as connection:
            if again:
                claimed += claim.claim_due(connection, lane, again)
                metrics_dispatch.DUE_TO_RUNG.observe(due[0][3])
            if fresh:
                claimed += self._claim_fresh(connection, lane, fresh, reserved)
        return claimed

    def _peek(self, connection: db.RawConnection, lane: OpenLane, count: int) -> list[tuple[int, int]]:
        count = min(count, lane.fresh)
        if count <= 0:
            return []
        peek = self._peeks.get(lane.id)
        if peek is None or peek.at != lane.next_n:
            peek = self._peeks[lane.id] = _Peek(lane.next_n)
        if len(peek.tokens) < count:
            peek.tokens.extend(claim.estimates(connection, lane, lane.next_n + len(peek.tokens), max(PEEK_ROWS, count)))
        return [peek.tokens[at] for at in range(min(count, len(peek.tokens)))]

    def _claim_fresh(
        self, connection: db.RawConnection, lane: OpenLane, tokens: list[tuple[int, int]], reserved: list[Decimal]
    ) -> list[tuple[int, int]]:
        room = self._rooms.get(lane.batch_id)
        with connection.transaction() if room is not None else nullcontext() as savepoint:
            claimed = claim.claim_fresh(connection, lane, tokens, reserved)
            if savepoint is not None and any(reserved) and not budgets.fits(connection, lane.batch_id):
                # Live calls took the room in this moment.
                lane.next_n -= len(claimed)
                claimed = []
                raise psycopg.Rollback(savepoint)
        peek = self._peeks[lane.id]
        for _ in claimed:
            peek.tokens.popleft()
        peek.at = lane.next_n
        if room is not None:
            room.left -= sum(reserved[: len(claimed)], Decimal(0))
        return claimed

    def _reserve(self, lane: OpenLane, fresh: list[tuple[int, int]]) -> list[Decimal]:
        """The most each fresh row can cost, for as many as the batch's max_cost_usd and the project's budget have room.

        A batch whose next row can find no room is paused; one that has to see first what rows in flight cost waits.
        """
        room = self._rooms.get(lane.batch_id)
        bounds = [] if room is None else [room.left]
        if lane.budget_left_usd is not None:
            bounds.append(lane.budget_left_usd)
        if not bounds:
            return [Decimal(0)] * len(fresh)
        left = min(bounds)
        reserved: list[Decimal] = []
        ceiling = Decimal(0)
        for tokens in fresh:
            ceiling = pricing.ceiling(lane.provider, lane.model, *tokens)
            if ceiling > left:
                break
            left -= ceiling
            reserved.append(ceiling)
        if fresh and not reserved:
            if room is not None and room.closed_to(ceiling):
                budgets.pause(lane.batch_id, room, ceiling)
            elif (
                lane.budget_left_usd is not None
                and ceiling > lane.budget_left_usd
                and not (lane.rung or lane.running or lane.due)
            ):
                pauses.pause_over_budget([lane.batch_id])
        return reserved

    def _ring(self, lane: OpenLane, claimed: list[tuple[int, int]], *, first: bool) -> None:
        # Small batches are spread over the workers too; but where others keep those busy, a slice's way costs more than
        # its rows do one after the other.
        size = FIRST_SLICE_ROWS if first else max(8, min(SLICE_ROWS, -(-len(claimed) // 4)))
        try:
            ring(self._broker, claim.slices(lane, claimed, size), first=first)
        except (dramatiq.errors.ConnectionError, redis.RedisError):
            log.warning("Redis is away: %d claimed rows are rung when it is back", len(claimed))


def _span_of(lane: OpenLane) -> tracing.Span:
    """The span of one claim; it is sent if something was claimed."""
    batch_id = tracing.of_batch(lane.batch_id)
    return tracing.root(
        "dispatch",
        tracing.INTERNAL,
        trace=batch_id,
        llm_service__batch_id=batch_id,
        gen_ai__provider__name=lane.provider,
        gen_ai__request__model=lane.model[:100],
    )
