"""One step of one shard: sent, looked after, taken back, taken in, cleaned up. Run by a worker that holds the shard.

What a step leaves behind when its process dies between any two of its lines is found by the next: a file by its name, a
batch by its tag, results by reading them again. `create_started_at` is committed before the provider is asked to make a
batch; while it is set, the batch may exist, and it is looked for before another is made.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from core import connections, db, metrics_native
from core.connections import LoadedConnection
from core.dispatch.record import Ended
from core.errors import NotFound
from core.native import intake, shards
from core.native.draft import Draft, lines, measure
from core.native.record import end_rows
from core.native.remote import Remote, RemoteProblem
from core.native.shards import Shard, Superseded, lease_seconds, pace
from core.native.states import ShardState
from core.providers.batches import Phase, RemoteBatch
from core.providers.failures import unreadable
from core.states import Action, FailureReason, Processing, RowStatus

log = logging.getLogger(__name__)

# Paces, as multiples of `native_poll_seconds`:
#: a batch whose answer was lost is looked for again after the first, and made anew if it is not found in the second;
LOOK, LOST = 0.3, 2.0
#: a shard that finds no room in the provider's queue is tried again, unless another one there ends before;
QUEUE = 12.0
#: a step that failed is tried again: doubled each time, up to the second.
RETRY, RETRY_MOST = 0.2, 30.0
#: The provider's clock may be so far from the database's.
CLOCK_SKEW = timedelta(minutes=2)
#: A shard is looked at after this part of its age, between once and so many times `native_poll_seconds`.
POLL_SHARE, POLL_MOST = 0.05, 30
#: Steps that may fail in a row before the rows are let go.
MAX_FAILURES = 12
#: A batch that its provider says it does not know is asked for so often: there may be copies that are behind.
MAX_UNKNOWN = 3
#: Cleaning up is given up after so many tries: what is left goes away by itself.
MAX_CLEANING = 5
_TOO_LARGE = (FailureReason.REQUEST_TOO_LARGE,)
_CROWDED = (FailureReason.RATE_LIMITED, FailureReason.OVERLOADED)


class Stopping(Exception):
    """This process stops: the step is left to another."""


def drive(shard_id: UUID, fence: int, *, stopping: Callable[[], bool]) -> None:
    """Take the shard's next step. A doorbell that came late or twice finds an older fence and does nothing."""
    shard = shards.begin(shard_id, fence)
    if shard is None:
        return
    step = _Step(shard, stopping)
    beating = threading.Thread(target=step.beat, name="shard", daemon=True)
    beating.start()
    try:
        after = step.run()
        shards.release(shard, after_seconds=after)
    except Superseded:
        log.info("shard %s is another worker's now", shard_id)
    except Stopping:
        shards.release(shard, after_seconds=0.0)
    except RemoteProblem as problem:
        log.warning("shard %s (%s): %s", shard_id, shard.state, problem.failure.message)
        metrics_native.STEP_FAILURES.labels(shard.provider, shard.state).inc()
        shards.release(shard, after_seconds=_backoff(shard, problem), error=problem.failure.message)
    except Exception as error:
        log.exception("shard %s (%s) failed inside the service", shard_id, shard.state)
        metrics_native.STEP_FAILURES.labels(shard.provider, shard.state).inc()
        shards.release(shard, after_seconds=_backoff(shard), error=type(error).__name__)
    finally:
        step.done.set()


def _now(transaction: db.RawConnection) -> datetime:
    row = transaction.execute("SELECT now() AS now").fetchone()
    assert row is not None
    now: datetime = row["now"]
    return now


def _backoff(shard: Shard, problem: RemoteProblem | None = None) -> float:
    hint = (problem.failure.retry_after_seconds or 0.0) if problem is not None else 0.0
    return max(min(RETRY * 2**shard.failures, RETRY_MOST) * pace(), min(hint, 3600.0))


class _Step:
    """What one worker does for one shard now."""

    def __init__(self, shard: Shard, stopping: Callable[[], bool]) -> None:
        self.shard = shard
        self.done = threading.Event()
        self._stopping = stopping
        self._lost = False

    def beat(self) -> None:
        """Keep the hold while the step runs."""
        while not self.done.wait(lease_seconds() / 4):
            try:
                self._lost = not shards.beat(self.shard)
            except db.DatabaseDown:
                log.warning("the database is away; a shard's lease is not extended")
            if self._lost:
                return

    def pause(self) -> None:
        """Between two pieces of a long step: the others' turn, and the place to stop."""
        time.sleep(0)
        if self._lost:
            raise Superseded
        if self._stopping():
            raise Stopping

    def run(self) -> float:
        """Do the step; returns the seconds until the next one."""
        shard = self.shard
        try:
            connection = connections.load(shard.connection_id)
        except NotFound:
            return self._without_connection()
        remote = Remote(connection)
        try:
            match shard.state:
                case ShardState.WAITING:
                    return self._send(connection, remote)
                case ShardState.SENT:
                    return self._look(connection, remote)
                case _:
                    return self._clean_up(remote)
        except RemoteProblem as problem:
            if problem.failure.reason.action is Action.STOP_CONNECTION:
                connections.stop(connection, problem.failure.reason, shards.in_words(problem.failure.message))
            raise

    # Sending

    def _send(self, connection: LoadedConnection, remote: Remote) -> float:
        shard = self.shard
        if shard.create_started_at is not None:
            found = self._lost_batch(remote)
            if found is not None:
                return self._sent(found, adopted=not remote.uploads)
            if shard.create_lost_at is None:
                # From now on nobody waits for its answer any more.
                self._change(create_lost_at=shard.now)
            if shard.now - (shard.create_lost_at or shard.now) < timedelta(seconds=LOST * pace()):
                return LOOK * pace()
            self._change(create_started_at=None, create_lost_at=None)
        if shard.cancel_reason is not None:
            return self._let_go("it was wanted back before it was sent")
        if shard.failures >= MAX_FAILURES:
            return self._let_go(f"it could not be sent in {shard.failures} tries")
        with db.connection() as transaction:
            if not remote.uploads and shards.twin_in_doubt(transaction, shard, shard.remaining):
                return pace()
        draft = self._draft(remote)
        if not draft.rows:
            return self._let_go("no row of it can go through the provider's batch API", refused=True)
        try:
            file_id = self._uploaded(remote, draft) if remote.uploads else None
            return self._create(remote, draft, file_id)
        except RemoteProblem as problem:
            return self._refused(problem, draft)

    def _draft(self, remote: Remote) -> Draft:
        """What is to be sent; rows that cannot be sent at all end here, and rows too many become another shard."""
        shard = self.shard
        draft = measure(shard, remote, pause=self.pause)
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

    def _uploaded(self, remote: Remote, draft: Draft) -> str:
        """The file of this round, uploaded now or before."""
        shard = self.shard
        if shard.file_id is not None and shard.sent_rows == draft.rows:
            return shard.file_id
        name = f"llm-service-{shard.tag}.jsonl"
        file_id = None
        if shard.failures:
            file_id = remote.find_upload(name, remote.framed_length(draft.rows, draft.line_bytes))
        if file_id is None:
            file_id = remote.upload(
                name, lambda: lines(shard, remote, draft, pause=self.pause), draft.rows, draft.line_bytes
            )
        self._change(file_id=file_id, sent_rows=draft.rows)
        return file_id

    def _create(self, remote: Remote, draft: Draft, file_id: str | None) -> float:
        shard = self.shard
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
            lines=lambda: lines(shard, remote, draft, pause=self.pause),
            rows=draft.rows,
            line_bytes=draft.line_bytes,
        )
        try:
            return self._sent(batch)
        except Superseded:
            self._take_back_orphan(remote, batch)
            raise

    def _take_back_orphan(self, remote: Remote, batch: RemoteBatch) -> None:
        """Cancel the batch that this worker made after it had been taken for dead, unless its successor found it."""
        with db.connection() as connection:
            row = connection.execute(
                "SELECT remote_id, create_lost_at FROM native_shard WHERE id = %s", (self.shard.id,)
            ).fetchone()
        if row is None or (row["remote_id"] != batch.remote_id and row["create_lost_at"] is None):
            log.warning("shard %s: a second batch was made of it, which is cancelled", self.shard.id)
            remote.cancel(batch.remote_id)

    def _sent(self, batch: RemoteBatch, *, adopted: bool = False) -> float:
        shard = self.shard
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

    def _lost_batch(self, remote: Remote) -> RemoteBatch | None:
        """The batch that a create made whose answer was lost."""
        shard = self.shard
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
        return min(
            ours, key=lambda batch: (batch.created_at < asked_at, abs(batch.created_at - asked_at)), default=None
        )

    def _refused(self, problem: RemoteProblem, draft: Draft) -> float:
        """The provider did not take the file or make the batch."""
        shard = self.shard
        if shard.create_started_at is not None and problem.sent:
            # The batch may exist: it is looked for before anything else.
            raise problem
        if shard.create_started_at is not None:
            self._change(create_started_at=None)
        reason = problem.failure.reason
        if reason in _TOO_LARGE and shard.rows > 1:
            self._halve()
            return 0.0
        if reason in _CROWDED:
            return max(QUEUE * pace(), min(problem.failure.retry_after_seconds or 0.0, 3600.0))
        if reason.action is Action.FAIL:
            return self._let_go(problem.failure.message, refused=True)
        raise problem

    def _halve(self) -> None:
        with db.connection() as transaction:
            shards.change(transaction, self.shard, failures=0)
            shards.split(transaction, self.shard, -(-self.shard.rows // 2))

    # At the provider

    def _look(self, connection: LoadedConnection, remote: Remote) -> float:
        shard = self.shard
        assert shard.remote_id is not None
        try:
            if shard.cancel_reason is not None and shard.cancel_sent_at is None and not shard.adopted:
                batch = remote.cancel(shard.remote_id)
                if batch is not None:
                    self._change(cancel_sent_at=shard.now)
            else:
                batch = remote.get(shard.remote_id)
        except RemoteProblem as problem:
            if not problem.gone:
                raise
            batch = None
        if batch is None:
            if shard.failures + 1 < MAX_UNKNOWN:
                raise RemoteProblem(unreadable(404, "the provider says that it does not know the batch"), sent=False)
            return self._let_go("the provider no longer knows the batch")
        self._change(remote_status=batch.status, remote_completed=batch.completed, remote_failed=batch.failed)
        match batch.phase:
            case Phase.DONE:
                try:
                    intake.take_in(shard, connection, remote, batch, pause=self.pause)
                except RemoteProblem as problem:
                    if not problem.gone or shard.failures + 1 < MAX_UNKNOWN:
                        raise
                    return self._let_go("the provider no longer has the results")
                return 0.0
            case Phase.REFUSED:
                return self._turned_down(batch)
            case _:
                return self._poll_seconds()

    def _poll_seconds(self) -> float:
        """Often while it is new or is to end, seldom in between."""
        shard, base = self.shard, pace()
        if shard.cancel_reason is not None or shard.sent_at is None:
            return base
        age = (shard.now - shard.sent_at).total_seconds()
        return min(max(base, age * POLL_SHARE), base * POLL_MOST)

    def _turned_down(self, batch: RemoteBatch) -> float:
        """The provider made the batch and then did not take it in: nothing ran. A full queue passes."""
        shard = self.shard
        message = batch.error.message if batch.error is not None else f"the provider says: {batch.status}"
        if batch.error is None or batch.error.reason not in _CROWDED:
            return self._let_go(message, refused=True)
        with db.connection() as transaction:
            alone = not shards.others_sent(transaction, shard)
            back = {"state": ShardState.WAITING, "rounds": shard.rounds - 1, "remote_id": None}
            shards.change(transaction, shard, **back, last_error=shards.in_words(message))
            limit = batch.enqueued_limit
            if limit is not None and shard.input_tokens > limit and shard.rows > 1:
                shards.split(transaction, shard, max(1, int(shard.rows * 0.9 * limit / shard.input_tokens)))
            elif alone and limit is None and shard.rows > 1:
                shards.split(transaction, shard, -(-shard.rows // 2))
        return QUEUE * pace()

    # The end

    def _without_connection(self) -> float:
        """Its owner has removed the provider, and with it the key: what is left there cannot be reached any more."""
        if self.shard.state is not ShardState.TAKEN_IN:
            self._let_go("the provider was removed")
        return self._cleaned()

    def _let_go(self, why: str, *, refused: bool = False) -> float:
        """Hand all rows back that have no answer. `refused`: another round would end the same."""
        shard = self.shard
        log.warning("shard %s: %s", shard.id, why)
        with db.connection() as transaction:
            shards.change(
                transaction,
                shard,
                state=ShardState.TAKEN_IN,
                handing_back=True,
                refused=refused,
                last_error=shards.in_words(why),
                create_started_at=None,
                create_lost_at=None,
                taken_in_at=shard.now,
            )
            shards.wake_waiting(transaction, shard)
        return 0.0

    def _clean_up(self, remote: Remote) -> float:
        """Delete what is left at the provider; the shard is done unless rows are still being handed back."""
        shard = self.shard
        try:
            batch = None
            if shard.remote_id is not None and not shard.adopted:
                try:
                    batch = remote.get(shard.remote_id)
                except RemoteProblem as problem:
                    if not problem.gone:
                        raise
            if batch is not None and not batch.phase.ended:
                remote.cancel(batch.remote_id)
                return pace()
            remote.clean_up(batch, shard.file_id)
        except RemoteProblem as problem:
            if shard.failures < MAX_CLEANING:
                raise
            log.warning("shard %s: its files stay at the provider: %s", shard.id, problem.failure.message)
        return self._cleaned()

    def _cleaned(self) -> float:
        shard = self.shard
        with db.connection() as transaction:
            shards.change(transaction, shard, remote_id=None, file_id=None)
            transaction.execute(
                "UPDATE native_shard SET state = %s WHERE id = %s AND NOT handing_back", (ShardState.CLEANED, shard.id)
            )
        return 0.0

    def _change(self, **values: object) -> None:
        with db.connection() as transaction:
            shards.change(transaction, self.shard, **values)
