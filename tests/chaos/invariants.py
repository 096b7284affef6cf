"""I1 to I7 of a trial, checked from outside: what clients and receivers got, the database, the provider's ledger."""

from __future__ import annotations

from collections import Counter
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.chaos.trial import Planned, Report, Trial, uuids
from tests.e2e.batches import ENDED, faults_of_results, nonce, results

#: Of each kind of violation, so many are reported.
SHOWN = 5


def check(trial: Trial, report: Report) -> None:
    """Add what does not hold to the report."""
    found: dict[str, list[dict[str, Any]]] = {}
    for batch in trial.batches:
        if batch.id is None:
            report.notes.append(f"{batch.name} was not accepted; its key was {'held' if batch.locked else 'free'}")
        elif batch.last.get("ended_at") is None:
            report.violations.append(f"I1: {batch.name} has not ended: {batch.last}")
        else:
            found[batch.name] = results(batch.client, batch.id)
            report.violations += _shorten(
                f"I1: {batch.name}: {fault}" for fault in faults_of_results(found[batch.name], batch.name, batch.count)
            )
            _count_failures(report, batch, found[batch.name])
    report.violations += _counters(trial, found)
    report.violations += _left_over(trial)
    report.violations += _webhooks(trial)
    report.violations += _calls(trial, report)
    report.violations += _submissions(trial)
    report.violations += _tenants(trial)


def _shorten(violations: Any) -> list[str]:
    every = list(violations)
    return every[:SHOWN] + ([f"... and {len(every) - SHOWN} more"] if len(every) > SHOWN else [])


def _count_failures(report: Report, batch: Planned, rows: list[dict[str, Any]]) -> None:
    """Rows may fail, with bad providers; the reader of the report should know how many."""
    failed = Counter(row["error"]["type"] for row in rows if row["error"])
    if failed:
        report.notes.append(f"{batch.name}: {dict(failed)}")


def _counters(trial: Trial, found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """I2: counters equal rows in the API, the results and the database; a batch has ended just when its rows have."""
    wrong = []
    rows = {str(row["id"]): row for row in trial.ground.query(_COUNTERS, {"batches": uuids(trial.batches)})}
    for batch in trial.batches:
        if batch.id is None:
            continue
        row = rows[str(_dashed(batch.id))]
        stored = {status: row[status] for status in ENDED}
        counted = {status: row[f"{status}_rows"] for status in ENDED}
        if stored != counted:
            wrong.append(f"I2: {batch.name}: counters {stored}, rows {counted}")
        if (row["ended_at"] is not None) != (row["pending_rows"] == 0):
            wrong.append(f"I2: {batch.name} ended at {row['ended_at']} with {row['pending_rows']} rows pending")
        if row["cost_usd"] != row["cost_of_rows"] or row["reserved_usd"] != 0:
            wrong.append(
                f"I2: {batch.name}: cost {row['cost_usd']}, of rows {row['cost_of_rows']}, {row['reserved_usd']}"
            )
        if row["ended_at"] is not None and row["dispatched"] != row["total"]:
            wrong.append(f"I2: {batch.name}: {row['dispatched']} of {row['total']} rows counted as dispatched")
        if batch.name in found:
            shown = {status: batch.last["request_counts"][status] for status in ENDED}
            listed = Counter(result["status"] for result in found[batch.name])
            if shown != {status: listed[status] for status in ENDED}:
                wrong.append(f"I2: {batch.name}: the API counts {shown}, results {dict(listed)}")
    return wrong


def _left_over(trial: Trial) -> list[str]:
    """I3: no lease and no unsent event."""
    left = trial.ground.query(_LEFT_OVER, {"batches": uuids(trial.batches)})
    return _shorten(f"I3: left over: {row}" for row in left)


def _webhooks(trial: Trial) -> list[str]:
    """I4: the end of each batch was delivered, signed, under one id; what was not delivered is visible as such."""
    wrong = []
    for batch in trial.batches:
        if batch.last.get("ended_at") is None:
            continue
        signer = Webhook(batch.client.get("/v1/webhooks/secret").json()["secret"])
        kinds: dict[str, set[tuple[bytes, str]]] = {}
        for received in trial.ground.receiver.received(batch.path):
            try:
                event = signer.verify(received.body, received.headers)
            except WebhookVerificationError as error:
                wrong.append(f"I4: {batch.name}: {error}")
                continue
            kinds.setdefault(received.id, set()).add((received.body, event["type"]))
        ends = [key for key, bodies in kinds.items() if any(kind != "batch.paused" for _, kind in bodies)]
        if len(ends) != 1:
            wrong.append(f"I4: {batch.name}: its end came under {len(ends)} ids")
        wrong += [
            f"I4: {batch.name}: {key} has {len(bodies)} bodies" for key, bodies in kinds.items() if len(bodies) > 1
        ]
    return _shorten(wrong)


def _calls(trial: Trial, report: Report) -> list[str]:
    """I5: calls <= attempts that were counted + calls in flight at ungraceful kills."""
    called = trial.ground.simulator.nonces()
    rows = trial.ground.query(_ATTEMPTS, {"batches": uuids(trial.batches)})
    attempts = {(str(row["batch_id"]), row["custom_id"]): max(1, row["attempts"]) for row in rows}
    wrong, beyond = [], 0
    accepted = [batch for batch in trial.batches if batch.id is not None]
    for batch in accepted:
        for n in range(batch.count):
            counts = called.get(nonce(batch.name, n), {"calls": 0, "executed": 0})
            report.calls += counts["calls"]
            report.executed += counts["executed"]
            counted = attempts.get((_dashed(batch.id or ""), f"row-{n}"), 0)
            report.attempts += counted
            beyond += max(0, counts["calls"] - counted)
    if beyond > report.unknown:
        wrong.append(f"I5: {beyond} calls beyond those counted as attempts; {report.unknown} were of unknown outcome")
    # Only rows that a cancel kept from running need not have run; any other row that did not is a fault.
    once = sum(batch.count for batch in accepted) - sum(row["called_off"] for row in rows)
    if trial.weather == "fair" and not report.unknown and report.executed != once:
        wrong.append(f"I5: {report.executed} calls were paid for, and {once} rows were to run")
    return wrong


def _submissions(trial: Trial) -> list[str]:
    """I6: one batch for each key, the one that was answered, and the same answer again."""
    wrong = []
    tenants = [_dashed(tenant) for tenant in {batch.client.tenant_id for batch in trial.batches}]
    stored: dict[str, list[str]] = {}
    for row in trial.ground.query("SELECT id, name FROM batch WHERE tenant_id = ANY(%(t)s::uuid[])", {"t": tenants}):
        stored.setdefault(row["name"], []).append(str(row["id"]))
    for batch in trial.batches:
        own = stored.get(batch.name, [])
        if len(own) > 1:
            wrong.append(f"I6: the key {batch.name} made {len(own)} batches")
        if batch.id is None:
            continue
        if _dashed(batch.id) not in own:
            wrong.append(f"I6: {batch.name} was answered 201 with {batch.id} and is lost")
        again = batch.post()
        if again.status_code == 503:
            # The first call of a process after an outage may meet a dead connection.
            again = batch.post()
        if again.status_code != 201 or again.content != batch.answer:
            wrong.append(f"I6: {batch.name} again: {again.status_code} {again.text[:200]}")
    return wrong


def _tenants(trial: Trial) -> list[str]:
    """I7: no nonce of the other tenant's in one's answers, and no way to its batches."""
    wrong = []
    for batch in trial.batches:
        if batch.last.get("ended_at") is None:
            continue
        foreign = [other for other in trial.batches if other.tenant != batch.tenant]
        text = batch.client.get(f"/v1/batch/{batch.id}/results").text
        wrong += [
            f"I7: {batch.name} holds a nonce of {other.name}" for other in foreign if f"nonce-{other.name}-" in text
        ]
        for other in foreign:
            status = other.client.get(f"/v1/batch/{batch.id}").status_code
            if status != 404:
                wrong.append(f"I7: {other.name}'s tenant was answered {status} for {batch.name}")
    return wrong


def _dashed(public: str) -> str:
    """A public id as PostgreSQL prints the UUID."""
    text = public.rpartition("_")[2]
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


_COUNTERS = """
SELECT batch.id, total, dispatched, succeeded, failed, cancelled, expired, ended_at, cost_usd, reserved_usd, own.*
FROM batch JOIN LATERAL (
    SELECT count(*) FILTER (WHERE status = 'succeeded') AS succeeded_rows,
           count(*) FILTER (WHERE status = 'failed') AS failed_rows,
           count(*) FILTER (WHERE status = 'cancelled') AS cancelled_rows,
           count(*) FILTER (WHERE status = 'expired') AS expired_rows,
           count(*) FILTER (WHERE status = 'pending') AS pending_rows,
           coalesce(sum(completion.cost_usd), 0) AS cost_of_rows
    FROM completion WHERE completion.batch_id = batch.id
) AS own ON true
WHERE batch.id = ANY(%(batches)s::uuid[])
"""

_LEFT_OVER = """
SELECT 'lease' AS what, completion_id::text AS id, fence AS n, due_at, rung_at, call_started_at,
       worker_id::text AS who, NULL AS last_error
FROM lease WHERE batch_id = ANY(%(batches)s::uuid[])
UNION ALL
SELECT 'webhook', id::text, attempts, due_at, lease_expires_at, NULL, status, last_error
FROM webhook_delivery WHERE batch_id = ANY(%(batches)s::uuid[]) AND status <> 'delivered'
"""

_ATTEMPTS = """
SELECT c.batch_id, c.custom_id, c.attempts, c.status = 'cancelled' AND batch.status = 'cancelled' AS called_off
FROM completion c JOIN batch ON batch.id = c.batch_id WHERE c.batch_id = ANY(%(batches)s::uuid[])
"""
