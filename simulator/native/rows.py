"""One row of a native batch, answered by the same code as a live call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simulator.faults import KINDS
from simulator.prompt import Plan, Refusal

if TYPE_CHECKING:
    from simulator.simulation import Simulation


@dataclass(slots=True)
class Outcome:
    """What became of a row: a body and its plan, or a refusal, or neither where it vanished. `times`: its lines."""

    number: str
    body: bytes = b""
    plan: Plan | None = None
    refusal: Refusal | None = None
    times: int = 1


def answer(
    simulation: Simulation, surface: Any, key: str, body: dict[str, Any], headers: dict[bytes, bytes], tier: str | None
) -> Outcome:
    """Answer a row and enter it in the ledger. `tier`: the service tier that usage names, where it names a batch's."""
    outcome = Outcome(simulation.number())
    ledger = simulation.ledger
    try:
        plan = read(simulation, surface, body, headers)
    except Refusal as refusal:
        outcome.refusal = refusal
        ledger.native_asks(None)
        ledger.native_ends(None, None, executed=False)
        return outcome
    attempt = ledger.native_asks(plan.nonce)
    fault = None
    if simulation.faults.rules:
        fault = simulation.faults.choose(
            vendor=surface.vendor,
            key=key,
            model=plan.model,
            prompt=plan.prompt,
            nonce=plan.nonce,
            attempt=attempt,
            on="row",
        )
    kind = fault.kind if fault is not None else None
    executed = kind is None or KINDS[kind].executed
    if fault is not None and KINDS[fault.kind].stage == "refuse":
        outcome.refusal = surface.manners.fault(fault, fault.kind, plan.model, key)
    elif executed:
        simulation.cache.look(surface.vendor, key, body, plan)
        simulation.cache.store(plan)
        plan.service_tier = tier or plan.service_tier
        outcome.plan = plan
        outcome.body = surface.answer(plan, outcome.number)
    outcome.times = {"vanish": 0, "duplicate": 2}.get(kind or "", 1)
    ledger.native_ends(plan.nonce, kind, executed)
    return outcome


def read(simulation: Simulation, surface: Any, body: dict[str, Any], headers: dict[bytes, bytes]) -> Plan:
    """The plan of a row's answer. Raises Refusal, for a wrong type in some corner as well."""
    if body.get("stream"):
        raise Refusal(400, "stream: a batch's requests cannot be streamed", param="stream")
    try:
        return surface.read(simulation, body, headers)
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise Refusal(400, f"The request was not understood: {error}") from None
