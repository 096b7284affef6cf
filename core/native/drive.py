"""One step of one shard: sent, looked after, taken back, taken in, cleaned up. Run by a worker that holds the shard.

What a step leaves behind when its process dies between any two of its lines is found by the next: a file by its name, a
batch by its tag, results by reading them again. `create_started_at` is committed before the provider is asked to make a
batch; while it is set, the batch may exist, and it is looked for before another is made.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from uuid import UUID

from core import db, loaded_connections, metrics_native
from core.errors import NotFound
from core.loaded_connections import LoadedConnection
from core.native import holds, intake, sending, shards
from core.native.remote import Remote, RemoteProblem
from core.native.sending import CROWDED, QUEUE
from core.native.shards import Shard, Superseded, pace
from core.native.states import ShardState
from core.native.step import Step, Stopping
from core.providers.batches import Phase, RemoteBatch
from core.providers.failures import unreadable
from core.states import Action

log = logging.getLogger(__name__)

#: A step that failed is tried again: doubled each time, up to the second; multiples of `native_poll_seconds`.
RETRY, RETRY_MOST = 0.2, 30.0
#: A shard is looked at after this part of its age, between once and so many times `native_poll_seconds`.
POLL_SHARE, POLL_MOST = 0.05, 30
#: A batch that its provider says it does not know is asked for so often: there may be copies that are behind.
MAX_UNKNOWN = 3
#: So many workers die one after the other while they read results, and end none of their rows: the rest of the shard is
#: handed back.
MAX_DEATHS = 3
#: Cleaning up is given up after so many tries: what is left goes away by itself.
MAX_CLEANING = 5


def drive(shard_id: UUID, fence: int, *, stopping: Callable[[], bool]) -> None:
    """Take the shard's next step. A doorbell that came late or twice finds an older fence and does nothing."""
    shard = holds.begin(shard_id, fence)
    if shard is None:
        return
    step = _Step(shard, stopping)
    beating = threading.Thread(target=step.beat, name="shard", daemon=True)
    beating.start()
    try:
        after = step.run()
        holds.release(shard, after_seconds=after)
    except Superseded:
        log.info("shard %s is another worker's now", shard_id)
    except Stopping:
        holds.release(shard, after_seconds=0.0)
    except RemoteProblem as problem:
        log.warning("shard %s (%s): %s", shard_id, shard.state, problem.failure.message)
        metrics_native.STEP_FAILURES.labels(shard.provider, shard.state).inc()
        holds.release(shard, after_seconds=_backoff(shard, problem), error=problem.failure.message)
    except Exception as error:
        log.exception("shard %s (%s) failed inside the service", shard_id, shard.state)
        metrics_native.STEP_FAILURES.labels(shard.provider, shard.state).inc()
        holds.release(shard, after_seconds=_backoff(shard), error=type(error).__name__)
    finally:
        step.done.set()


def _backoff(shard: Shard, problem: RemoteProblem | None = None) -> float:
    hint = (problem.failure.retry_after_seconds or 0.0) if problem is not None else 0.0
    return max(min(RETRY * 2 ** min(shard.failures, 10), RETRY_MOST) * pace(), min(hint, 3600.0))


class _Step(Step):
    """The next step of a shard, whichever it is."""

    def run(self) -> float:
        """Do the step; returns the seconds until the next one."""
        shard = self.shard
        try:
            connection = loaded_connections.load(shard.connection_id)
        except NotFound:
            return self._without_connection()
        remote = Remote(connection)
        try:
            match shard.state:
                case ShardState.WAITING:
                    return sending.send(self, remote)
                case ShardState.SENT:
                    return self._look(connection, remote)
                case _:
                    return self._clean_up(remote)
        except RemoteProblem as problem:
            if problem.failure.reason.action is Action.STOP_CONNECTION:
                loaded_connections.stop(connection, problem.failure.reason, shards.in_words(problem.failure.message))
            raise

    def _look(self, connection: LoadedConnection, remote: Remote) -> float:
        shard = self.shard
        assert shard.remote_id is not None
        try:
            if shard.cancel_reason is not None and shard.cancel_sent_at is None and not shard.adopted:
                batch = remote.cancel(shard.remote_id)
                if batch is not None:
                    self.change(cancel_sent_at=shard.now)
            else:
                batch = remote.get(shard.remote_id)
        except RemoteProblem as problem:
            if not problem.gone:
                raise
            batch = None
        if batch is None:
            if shard.failures + 1 < MAX_UNKNOWN:
                raise RemoteProblem(unreadable(404, "the provider says that it does not know the batch"), sent=False)
            return self.let_go("the provider no longer knows the batch")
        self.change(remote_status=batch.status, remote_completed=batch.completed, remote_failed=batch.failed)
        match batch.phase:
            case Phase.DONE:
                if shard.deaths >= MAX_DEATHS:
                    return self.let_go(f"{shard.deaths} workers died while they read its results")
                try:
                    intake.take_in(shard, connection, remote, batch, pause=self.pause)
                except RemoteProblem as problem:
                    if not problem.gone or shard.failures + 1 < MAX_UNKNOWN:
                        raise
                    return self.let_go("the provider no longer has the results")
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
        if batch.error is None or batch.error.reason not in CROWDED:
            return self.let_go(message, refused=True)
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

    def _without_connection(self) -> float:
        """Its owner has removed the provider, and with it the key: what is left there cannot be reached any more."""
        if self.shard.state is not ShardState.TAKEN_IN:
            self.let_go("the provider was removed", refused=True)
        return self._cleaned()

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
