"""Sending a shard: drafted, uploaded, and made a batch at the provider once, whatever answer is lost."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from core import db, metrics_native
from core.dispatch.record import Ended
from core.native import shards
from core.native.draft import Draft, lines, measure
from core.native.record import end_rows
from core.native.remote import Remote, RemoteProblem
from core.native.shards import Superseded, lease_seconds, pace
from core.native.states import ShardState
from core.native.step import Step
from core.providers.batches import Phase, RemoteBatch
from core.states import Action, FailureReason, Processing, RowStatus

log = logging.getLogger(__name__)

# Paces, as multiples of `native_poll_seconds`:
#: a batch whose answer was lost is looked for again after the first, and made anew if it is not found in the second;
LOOK, LOST = 0.3, 2.0
#: a shard that finds no room in the provider's queue is tried again, unless another one there ends before.
QUEUE = 12.0
#: The provider's clock may be so far from the database's.
CLOCK_SKEW = timedelta(minutes=2)
#: Steps that may fail in a row before the rows are let go.
MAX_FAILURES = 12
CROWDED = (FailureReason.RATE_LIMITED, FailureReason.OVERLOADED)


def send(step: Step, remote: Remote) -> float:
    """Send the shard, or find out what became of an earlier try; returns the seconds until its next step."""
    shard = step.shard
    if shard.create_started_at is not None:
        found = _lost_batch(step, remote)
        if found is not None:
            return _sent(step, found, adopted=not remote.uploads)
        if shard.create_lost_at is None:
            # From now on nobody waits for its answer any more.
            step.change(create_lost_at=shard.now)
        # A worker that is only slow, and was taken for dead, may still be about to ask.
        patience = timedelta(seconds=max(LOST * pace(), lease_seconds()))
        if shard.now - (shard.create_lost_at or shard.now) < patience:
            return LOOK * pace()
        step.change(create_started_at=None, create_lost_at=None)
    if shard.cancel_reason is not None:
        return step.let_go("it was wanted back before it was sent")
    if shard.failures >= MAX_FAILURES:
        return step.let_go(f"it could not be sent in {shard.failures} tries")
    with db.connection() as transaction:
        if not remote.uploads and shards.twin_in_doubt(transaction, shard, shard.remaining):
            return pace()
    draft = _draft(step, remote)
    if not draft.rows:
        return step.let_go("no row of it can go through the provider's batch API", refused=True)
    try:
        file_id = _uploaded(step, remote, draft) if remote.uploads else None
        return _create(step, remote, draft, file_id)
    except RemoteProblem as problem:
        return _refused(step, problem, draft)


def _draft(step: Step, remote: Remote) -> Draft:
    """What is to be sent; rows that cannot be sent at all end here, and rows too many become another shard."""
    shard = step.shard
    draft = measure(shard, remote, pause=step.pause)
    if draft.refused and shard.processing == Processing.NATIVE:
        # In `auto` they stay, and are handed back to real time with whatever else is left.
        ended = [
            Ended(
                id=row_id,
                fence=0,
                created_at=shard.created_at,
                batch_id=shard.batch_id,
                status=RowStatus.FAILED,
                attempts=0,
                reason=FailureReason.INVALID_REQUEST,
                message=message,
            )
            for row_id, message in draft.refused.items()
        ]
        with db.connection() as transaction:
            end_rows(transaction, shard, ended, sent_at=None)
    if draft.keep is not None and draft.rows:
        with db.connection() as transaction:
            shards.change(transaction, shard, failures=0)
            shards.split(transaction, shard, draft.keep)
    return draft


def _uploaded(step: Step, remote: Remote, draft: Draft) -> str:
    """The file of this round, uploaded now or before."""
    shard = step.shard
    if shard.file_id is not None and shard.sent_rows == draft.rows:
        return shard.file_id
    name = f"llm-service-{shard.tag}.jsonl"
    file_id = None
    if shard.failures:
        file_id = remote.find_upload(name, remote.framed_length(draft.rows, draft.line_bytes))
    if file_id is None:
        file_id = remote.upload(
            name, lambda: lines(shard, remote, draft, pause=step.pause), draft.rows, draft.line_bytes
        )
    step.change(file_id=file_id, sent_rows=draft.rows)
    return file_id


def _create(step: Step, remote: Remote, draft: Draft, file_id: str | None) -> float:
    shard = step.shard
    with db.connection() as transaction:
        shards.change(transaction, shard, sent_rows=draft.rows, endpoint=draft.endpoint)
        wanted = shards.may_send(transaction, shard)
        if wanted and not remote.uploads:
            wanted = not shards.twin_in_doubt(transaction, shard, draft.rows)
        if wanted:
            shards.change(transaction, shard, create_started_at=_now(transaction))
    if not wanted:
        # Since its doorbell it was asked back, or its batch was paused, or another one goes before it.
        return 1.0
    batch = remote.create(
        endpoint=draft.endpoint,
        tag=shard.tag,
        file_id=file_id,
        lines=lambda: lines(shard, remote, draft, pause=step.pause),
        rows=draft.rows,
        line_bytes=draft.line_bytes,
    )
    try:
        return _sent(step, batch)
    except Superseded:
        _take_back_orphan(step, remote, batch)
        raise


def _take_back_orphan(step: Step, remote: Remote, batch: RemoteBatch) -> None:
    """Cancel the batch that this worker made after it had been taken for dead, unless its successor found it."""
    with db.connection() as connection:
        row = connection.execute(
            "SELECT remote_id, create_lost_at FROM native_shard WHERE id = %s", (step.shard.id,)
        ).fetchone()
    if row is None or (row["remote_id"] != batch.remote_id and row["create_lost_at"] is None):
        log.warning("shard %s: a second batch was made of it, which is cancelled", step.shard.id)
        remote.cancel(batch.remote_id)


def _sent(step: Step, batch: RemoteBatch, *, adopted: bool = False) -> float:
    shard = step.shard
    with db.connection() as transaction:
        shards.change(
            transaction,
            shard,
            state=ShardState.SENT,
            remote_id=batch.remote_id,
            file_id=shard.file_id,
            rounds=shard.rounds + 1,
            sent_at=_now(transaction),
            create_started_at=None,
            create_lost_at=None,
            adopted=adopted,
            failures=0,
            remote_status=batch.status,
            remote_completed=batch.completed,
            remote_failed=batch.failed,
        )
        db.after_commit(transaction, lambda: metrics_native.sent(shard.provider, shard.sent_rows or 0))
    return pace()


def _lost_batch(step: Step, remote: Remote) -> RemoteBatch | None:
    """The batch that a create made whose answer was lost."""
    shard = step.shard
    asked_at = shard.create_started_at
    assert asked_at is not None
    found = remote.find(tag=shard.tag, rows=shard.sent_rows or 0, since=asked_at - CLOCK_SKEW)
    with db.connection() as connection:
        known = {
            row["remote_id"]
            for row in connection.execute(
                "SELECT remote_id FROM native_shard WHERE remote_id = ANY(%s) AND id <> %s",
                ([batch.remote_id for batch in found], shard.id),
            )
        }
    # One that was refused ran nothing: it is of an earlier try, or may as well be.
    ours = [batch for batch in found if batch.phase is not Phase.REFUSED and batch.remote_id not in known]
    # Of several that look alike the first since we asked: later ones are of others, and so are earlier ones if the
    # provider's clock is right.
    return min(ours, key=lambda batch: (batch.created_at < asked_at, abs(batch.created_at - asked_at)), default=None)


def _refused(step: Step, problem: RemoteProblem, draft: Draft) -> float:
    """The provider did not take the file or make the batch."""
    shard = step.shard
    if shard.create_started_at is not None and problem.sent:
        # The batch may exist: it is looked for before anything else.
        raise problem
    if shard.create_started_at is not None:
        step.change(create_started_at=None)
    reason = problem.failure.reason
    if reason is FailureReason.REQUEST_TOO_LARGE and shard.rows > 1:
        _halve(step)
        return 0.0
    if reason in CROWDED:
        return max(QUEUE * pace(), min(problem.failure.retry_after_seconds or 0.0, 3600.0))
    if reason.action is Action.FAIL:
        return step.let_go(problem.failure.message, refused=True)
    raise problem


def _halve(step: Step) -> None:
    with db.connection() as transaction:
        shards.change(transaction, step.shard, failures=0)
        shards.split(transaction, step.shard, -(-step.shard.rows // 2))


def _now(transaction: db.RawConnection) -> datetime:
    row = transaction.execute("SELECT now() AS now").fetchone()
    assert row is not None
    now: datetime = row["now"]
    return now
