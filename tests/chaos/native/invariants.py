"""I1 to I7 with native rows counted: beyond tests/chaos/invariants.py, what shards and providers' batches must show."""

from __future__ import annotations

from tests.chaos import invariants
from tests.chaos.native.trial import NativeTrial
from tests.chaos.trial import Report, uuids
from tests.e2e.batches import nonce


def check(trial: NativeTrial, report: Report) -> None:
    """Add what does not hold to the report."""
    invariants.check(trial, report)
    report.violations += _shards(trial)
    report.violations += _executions(trial, report)
    report.violations += _batches_made(trial)


def _shards(trial: NativeTrial) -> list[str]:
    """I2 and I3: every shard is cleaned up, holds no rows, no money and no worker."""
    left = trial.ground.query(_LEFT, {"batches": uuids(trial.batches)})
    return [f"I3: left over: {row}" for row in left]


def _executions(trial: NativeTrial, report: Report) -> list[str]:
    """I5: what providers ran beyond the attempts of each row was of unknown outcome, or is counted as wasted."""
    ran = trial.ground.simulator.nonces()
    values = {"batches": uuids(trial.batches)}
    attempts = {(row["name"], row["custom_id"]): row["attempts"] for row in trial.ground.query(_ATTEMPTS, values)}
    wasted = trial.ground.query(_WASTED, values)[0]["wasted"]
    beyond = 0
    for batch in trial.batches:
        for n in range(batch.count):
            executed = ran.get(nonce(batch.name, n), {"executed": 0})["executed"]
            beyond += max(0, executed - max(1, attempts.get((batch.name, f"row-{n}"), 0)))
    if beyond > report.unknown + wasted:
        return [
            f"I5: {beyond} rows ran beyond their attempts; {wasted} are counted as wasted, {report.unknown} unknown"
        ]
    return []


def _batches_made(trial: NativeTrial) -> list[str]:
    """I5: no provider has more batches than rounds were sent; those that it turned down count for nothing."""
    simulator = trial.ground.simulator
    counts = simulator.ledger()["native"]
    made = counts.get("openai_batches", 0) + counts.get("anthropic_batches", 0)
    refused = sum(batch["status"] == "failed" for batch in simulator.native()["batches"])
    sent = trial.ground.query(_SENT, {"batches": uuids(trial.batches)})[0]["rounds"]
    return [f"I5: {made} batches were made, {refused} turned down, for {sent} rounds"] if made - refused > sent else []


_LEFT = """
SELECT id::text, state, remaining, reserved_usd, rounds, handing_back, cancel_reason, lease_expires_at,
       create_started_at, failures, last_error
FROM native_shard
WHERE batch_id = ANY(%(batches)s::uuid[])
  AND (state <> 'cleaned' OR remaining <> 0 OR reserved_usd <> 0 OR lease_expires_at IS NOT NULL
       OR create_started_at IS NOT NULL OR handing_back)
"""

_ATTEMPTS = """
SELECT batch.name, custom_id, attempts FROM completion JOIN batch ON batch.id = completion.batch_id
WHERE batch.id = ANY(%(batches)s::uuid[])
"""

_WASTED = """
SELECT coalesce(sum(wasted_rows), 0)::int AS wasted FROM native_shard WHERE batch_id = ANY(%(batches)s::uuid[])
"""

_SENT = "SELECT coalesce(sum(rounds), 0)::int AS rounds FROM native_shard WHERE batch_id = ANY(%(batches)s::uuid[])"
