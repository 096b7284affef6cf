"""What came of a row's call, as it is recorded: ended with its answer, ended without one, or to be tried again."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from core import metrics_dispatch
from core.call import priced
from core.dispatch.record import Again, Ended
from core.dispatch.start import Started
from core.ids import new_public
from core.loaded_connections import LoadedConnection
from core.providers.types import Failure, Success
from core.retry import decide
from core.states import FailureReason, RowStatus


def answered(
    success: Success,
    connection: LoadedConnection,
    *,
    row_id: int,
    fence: int,
    created_at: datetime,
    batch_id: UUID,
    attempts: int,
    batch: bool = False,
) -> Ended:
    """The end of a row with its answer, priced.

    Parameters
    ----------
    created_at : the batch's, which the row carries.
    attempts : calls made, this one included.
    batch : the provider's batch API gave the answer.
    """
    request_id = new_public("req")
    price = priced(success, connection, request_id=request_id, batch=batch)
    return Ended(
        id=row_id,
        fence=fence,
        created_at=created_at,
        batch_id=batch_id,
        status=RowStatus.SUCCEEDED,
        attempts=attempts,
        model=success.model,
        usage=success.usage,
        cost_usd=price.cost_usd,
        list_cost_usd=price.list_cost_usd,
        price_version=price.version,
        response=price.body,
        provider_status=200,
        request_id=request_id,
    )


def unanswered(row: Started, failure: Failure, *, sent: bool = False) -> Ended | Again:
    """What becomes of a row whose call failed: tried again, or ended.

    Parameters
    ----------
    sent : the request may have reached the provider, so the call counts as an attempt.
    """
    retry = decide(
        failure.reason,
        strikes=row.strikes,
        attempts=row.attempts,
        retry_after_seconds=failure.retry_after_seconds,
    )
    if retry is not None:
        metrics_dispatch.RETRIES.labels(row.provider, failure.reason).inc()
        return Again(
            id=row.id,
            fence=row.fence,
            delay_seconds=retry.delay_seconds,
            attempts=1 if sent else 0,
            strike=retry.strike,
            failure=failure,
        )
    return Ended(
        id=row.id,
        fence=row.fence,
        created_at=row.created_at,
        batch_id=row.batch_id,
        status=RowStatus.FAILED,
        attempts=row.attempts + 1,
        reason=failure.reason,
        message=failure.message,
        provider_status=failure.provider_status,
    )


def unstorable(outcome: Ended | Again) -> Ended | None:
    """What is recorded of an answer that the database refuses: else its row would be called, and paid, again.

    None for an outcome that is no answer.
    """
    if isinstance(outcome, Again) or outcome.status is not RowStatus.SUCCEEDED:
        return None
    return Ended(
        id=outcome.id,
        fence=outcome.fence,
        created_at=outcome.created_at,
        batch_id=outcome.batch_id,
        status=RowStatus.FAILED,
        attempts=outcome.attempts,
        reason=FailureReason.INTERNAL,
        message="the provider's answer could not be stored",
        provider_status=outcome.provider_status,
    )
