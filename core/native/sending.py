"""Sending a shard: drafted, uploaded, and made a batch at the provider once, whatever answer is lost."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta

from core import db, metrics_native
from core.dispatch.record import Ended
from core.native import shards
from core.native.draft import Draft, lines, measure
from core.native.holds import lease_seconds
from core.native.record import end_rows
from core.native.remote import Remote, RemoteProblem
from core.native.shards import Superseded, pace
from core.native.states import ShardState
from core.native.step import Step
from core.providers.batches import Phase, RemoteBatch
from core.states import Action, FailureReason, Processing, RowStatus

log = logging.getLogger(__name__)

# Paces, as multiples of `native_poll_seconds`:
#: a batch whose answer was lost is looked for again after the first, and made anew if it is not found in the second;
LOOK, LOST = 0.3, 2.0
#: a second batch that was made by mistake is tried to be cancelled after this, so many times;
CANCEL_AGAIN, CANCEL_TRIES = 0.1, 5
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
        if shard.remote_id is not None:
            # The worker that asked for it was only slow, and left it to us.
            with db.connection() as transaction:
                return _sent(transaction, step, shard.remote_id)
        found = _lost_batch(step, remote)
        with db.connection() as transaction:
            # Until this commits nobody hands over another.
            if shards.handed_over(transaction, shard):
                return 0.0
            if found is not None:
                return _sent(transaction, step, found.remote_id, found, adopted=not remote.uploads)
            if shard.create_lost_at is None:
                # From now on nobody waits for its answer any more.
                shards.change(transaction, shard, create_lost_at=shard.now)
            # A worker that is only slow, and was taken for dead, may still be about to ask.
            patience = timedelta(seconds=max(LOST * pace(), lease_seconds()))
            if shard.now - (shard.create_lost_at or shard.now) < patience:
                return LOOK * pace()
            shards.change(transaction, shard, create_started_at=None, create_lost_at=None)
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
        with db.connection() as transaction:
            return _sent(transaction, step, batch.remote_id, batch)
    except Superseded:
        _hand_over(step, remote, batch)
        raise


def _hand_over(step: Step, remote: Remote, batch: RemoteBatch) -> None:
    """Leave the batch that this worker made, after it had been taken for dead, to its successor.

    A successor that has given up looking for it makes another: then it is cancelled.
    """
    with db.connection() as transaction:
        left = shards.hand_over(transaction, step.shard, batch.remote_id)
    if not left:
        log.warning("shard %s: a second batch was made of it, which is cancelled", step.shard.id)
        _cancel(remote, batch)


def _cancel(remote: Remote, batch: RemoteBatch) -> None:
    """Nobody else knows of it: what is not cancelled now is paid for."""
    for _ in range(CANCEL_TRIES - 1):
        try:
            remote.cancel(batch.remote_id)
            return
        except RemoteProblem as problem:
            log.warning("batch %s is not cancelled yet: %s", batch.remote_id, problem.failure.message)
            time.sleep(CANCEL_AGAIN * pace())
    remote.cancel(batch.remote_id)


def _sent(
    transaction: db.RawConnection,
    step: Step,
    remote_id: str,
    batch: RemoteBatch | None = None,
    *,
    adopted: bool = False,
) -> float:
    """Note that the shard is at the provider. `batch`: how it stands there, if that is known."""
    shard = step.shard
    shards.change(
        transaction,
        shard,
        state=ShardState.SENT,
        remote_id=remote_id,
        file_id=shard.file_id,
        rounds=shard.rounds + 1,
        sent_at=_now(transaction),
        create_started_at=None,
        create_lost_at=None,
        adopted=adopted,
        failures=0,
        remote_status=batch.status if batch else None,
        remote_completed=batch.completed if batch else None,
        remote_failed=batch.failed if batch else None,
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
