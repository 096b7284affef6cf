"""Taking in: a provider's results become the rows' outcomes as they stream by, each row ended once.

Read again after a crash, the same results change nothing: rows that they ended are ended. Rows that the provider did
not run, or failed for a passing reason, stay in the shard and are handed back (core/native/handback.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from core import db, loaded_connections, metrics_native
from core.dispatch.outcome import answered
from core.dispatch.record import Ended
from core.loaded_connections import LoadedConnection
from core.native import shards
from core.native.record import Wasted, end_rows
from core.native.remote import Remote
from core.native.shards import Shard
from core.native.states import ShardState
from core.providers.batches import RemoteBatch, RowResult
from core.providers.types import Failure, Success
from core.states import Action, RowStatus

log = logging.getLogger(__name__)

#: Results that one transaction ends.
CHUNK_ROWS = 250


def take_in(
    shard: Shard, connection: LoadedConnection, remote: Remote, batch: RemoteBatch, *, pause: Callable[[], None]
) -> None:
    """Read the results of a batch that has ended, and let the shard go.

    Parameters
    ----------
    pause : called between two chunks: gives others the processor, raises when this process is to stop.

    Raises
    ------
    RemoteProblem, Superseded
        Begin anew later; what was read is kept.
    """
    wasted = Wasted()
    chunk: list[RowResult] = []
    ours = others = 0
    last_problem: str | None = None
    for result in remote.results(batch):
        if result.row_id is None or not shard.first_id <= result.row_id < shard.end_id:
            others += 1
            continue
        ours += 1
        if isinstance(result.outcome, Failure):
            last_problem = result.outcome.message
        chunk.append(result)
        if len(chunk) >= CHUNK_ROWS:
            _write(shard, connection, chunk, wasted)
            chunk = []
            pause()
    _write(shard, connection, chunk, wasted)
    if others:
        log.warning("shard %s: %d results of rows that are not its own were left out", shard.id, others)
    with db.connection() as transaction:
        shards.change(
            transaction,
            shard,
            state=ShardState.TAKEN_IN,
            taken_in_at=shard.now,
            handing_back=shard.remaining > 0,
            remote_status=batch.status,
            last_error=shards.in_words(last_problem) if last_problem else None,
            # Somebody else's batch, taken for ours after a lost answer, is not ours to delete.
            adopted=shard.adopted and not ours,
        )
        transaction.execute(
            "UPDATE native_shard SET wasted_rows = wasted_rows + %s, wasted_usd = wasted_usd + %s WHERE id = %s",
            (wasted.rows, wasted.usd, shard.id),
        )
        shards.wake_waiting(transaction, shard)
        db.after_commit(transaction, lambda: metrics_native.taken_in(shard.provider, wasted.rows, wasted.usd))


def _write(shard: Shard, connection: LoadedConnection, chunk: list[RowResult], wasted: Wasted) -> None:
    ended = [found for result in chunk if (found := _ended(shard, connection, result)) is not None]
    if not ended:
        return
    try:
        with db.connection() as transaction:
            late = end_rows(transaction, shard, ended, sent_at=shard.sent_at)
    except Exception as error:
        if not db.is_unstorable(error):
            raise
        # One answer that cannot be stored must not keep the others from being stored.
        if len(chunk) > 1:
            for result in chunk:
                _write(shard, connection, [result], wasted)
        else:
            log.exception("shard %s: the answer to one of its rows cannot be stored", shard.id)
        return
    wasted.rows += late.rows
    wasted.usd += late.usd


def _ended(shard: Shard, connection: LoadedConnection, result: RowResult) -> Ended | None:
    """The end that a result means for its row; None if the row is to be answered otherwise."""
    assert result.row_id is not None
    if isinstance(result.outcome, Success):
        return answered(
            result.outcome,
            connection,
            row_id=result.row_id,
            fence=0,
            created_at=shard.created_at,
            batch_id=shard.batch_id,
            attempts=shard.rounds,
            batch=True,
        )
    failure = result.outcome
    if failure.reason.action is Action.STOP_CONNECTION:
        loaded_connections.stop(connection, failure.reason, shards.in_words(failure.message))
        return None
    if not result.executed or failure.reason.action is Action.RETRY:
        return None
    return Ended(
        id=result.row_id,
        fence=0,
        created_at=shard.created_at,
        batch_id=shard.batch_id,
        status=RowStatus.FAILED,
        attempts=shard.rounds,
        reason=failure.reason,
        message=shards.in_words(failure.message),
        provider_status=failure.provider_status,
    )
