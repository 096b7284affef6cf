"""Who may start how many rows now: weighted max-min sharing over tenants, then priority and age. A pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Demand:
    """What one tenant holds and wants, in calls. Of those in flight, `ahead` are rung and not started yet."""

    weight: int
    in_flight: int
    wanted: int
    ahead: int = 0


def shares(demands: Mapping[UUID, Demand], *, capacity: int, window: int, startable: int) -> dict[UUID, int]:
    """How many rows each tenant may start now.

    Every tenant gets what it wants or its weighted share of the capacity, whichever is less; what one leaves is
    shared by the others in the same way. What it holds already counts, so that a tenant with slow calls does not keep
    the rest from a tenant that comes later. The window is shared likewise: a tenant that comes while others have
    filled it gets its part at once, and they get nothing more until theirs has shrunk.

    Parameters
    ----------
    capacity : calls that all workers together can hold.
    window : rows that may be rung ahead of what workers have started.
    startable : rows that may be started now, over all tenants; shared by weight too.
    """
    held = _fill(
        {tenant: (demand.weight, demand.in_flight + demand.wanted) for tenant, demand in demands.items()}, capacity
    )
    room = {tenant: min(demands[tenant].wanted, max(0, held[tenant] - demands[tenant].in_flight)) for tenant in demands}
    ahead = _fill({tenant: (demand.weight, demand.ahead + room[tenant]) for tenant, demand in demands.items()}, window)
    room = {tenant: min(room[tenant], max(0, ahead[tenant] - demands[tenant].ahead)) for tenant in demands}
    return _fill({tenant: (demands[tenant].weight, wanted) for tenant, wanted in room.items()}, startable)


def _fill(wants: Mapping[UUID, tuple[int, int]], amount: int) -> dict[UUID, int]:
    """Weighted max-min: whole numbers that add up to at most `amount`."""
    given = dict.fromkeys(wants, 0)
    open_wants = {tenant: want for tenant, (_, want) in wants.items() if want > 0}
    while open_wants and amount > 0:
        weights = sum(max(1, wants[tenant][0]) for tenant in open_wants)
        satisfied = [
            tenant
            for tenant, want in open_wants.items()
            if (want - given[tenant]) * weights <= amount * max(1, wants[tenant][0])
        ]
        if not satisfied:
            return _divide(wants, list(open_wants), given, amount, weights)
        for tenant in satisfied:
            amount -= open_wants[tenant] - given[tenant]
            given[tenant] = open_wants.pop(tenant)
    return given


def _divide(
    wants: Mapping[UUID, tuple[int, int]], tenants: Sequence[UUID], given: dict[UUID, int], amount: int, weights: int
) -> dict[UUID, int]:
    """Nobody can be satisfied: each gets its part, the odd ones go to the largest remainders."""
    parts = [(tenant, amount * max(1, wants[tenant][0])) for tenant in tenants]
    for tenant, part in parts:
        given[tenant] += part // weights
    left = amount - sum(part // weights for _, part in parts)
    for tenant, _ in sorted(parts, key=lambda item: item[1] % weights, reverse=True)[:left]:
        given[tenant] += 1
    return given
