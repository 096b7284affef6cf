"""Takes slices of rows and runs each row to its outcome, thousands at once, one greenlet each."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import gevent
import orjson
import structlog

from core import feedback, limits, loaded_connections, metrics_calls, metrics_dispatch, tracing
from core.call import call
from core.crypto import KeyProblem
from core.dispatch import workers
from core.dispatch.outcome import answered, unanswered, unstorable
from core.dispatch.record import Again, Ended, record
from core.dispatch.recorder import Recorder
from core.dispatch.start import Started, start
from core.errors import NotFound, Unavailable
from core.ids import BLOCK_BITS, public
from core.limits import LimitKey
from core.providers.types import Failure, Success
from core.settings import settings
from core.states import Action, FailureReason
from workers.runners import Runners

log = logging.getLogger(__name__)

#: A worker whose event loop turns slower than this takes no further slices: what it has started would wait for the
#: processor, a cancel could no longer keep it from being sent, and each step of another tenant's rows takes a turn.
MAX_LOOP_LAG_SECONDS = 0.02
_PROBE_SECONDS, _IDLE_PROBE_SECONDS = 0.01, 0.2
#: A row whose connection's credential cannot be decrypted here is tried again after this long.
KEYLESS_SECONDS = 30.0
#: Lanes whose outcomes are written at once.
_FLUSHES = 2
#: Greenlets kept for the rows to come: as many as are busy at once where calls are short.
_IDLE_RUNNERS = 256
#: Batches that were stopped lately, of which no row is sent any more.
_STOPPED_REMEMBERED = 10_000


class Executor:
    """The rows in hand of one worker process."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.draining = False
        self.worker_id: UUID | None = None
        #: completion id -> fence of every row in hand, until its outcome is committed
        self.in_hand: dict[int, int] = {}
        self._aside = 0
        self._lag = 0.0
        self._stopped: set[UUID] = set()
        self._stopped_order: deque[UUID] = deque()
        self._runners: Runners[Started] = Runners(lambda row: self._run(row), keep=_IDLE_RUNNERS)
        self._recorder: Recorder[Ended | Again] = Recorder(
            self._write,
            key=lambda outcome: outcome.id >> BLOCK_BITS,
            threads=_FLUSHES,
            size=_body_bytes,
            instead=unstorable,
        )
        self._life = threading.Lock()
        self._turnstile = threading.Lock()

    def begin(self) -> None:
        """Register this process; from here on it may take rows."""
        self.worker_id = workers.register(self.capacity)
        gevent.spawn(self._probe)

    def beat(self) -> None:
        """Keep the leases alive; a worker that was taken for dead begins a new life."""
        assert self.worker_id is not None
        if not workers.heartbeat(self.worker_id, len(self.in_hand), draining=self.draining):
            log.warning("this worker was taken for dead; its rows are run elsewhere unless they answer first")
            self.worker_id = workers.register(self.capacity)

    def take(self, created_at: datetime, rows: list[tuple[int, int]], *, first: bool = False) -> None:
        """Start the rows of a slice that are still to be started, each in a greenlet.

        Parameters
        ----------
        first : even while the event loop lags; rows of a tenant that has little in hand must not pay for others'.
        """
        if first:
            self._wait(lag=False)
        else:
            # One slice a turn: a lag is seen only once what was taken runs.
            with self._turnstile:
                self._wait(lag=True)
                gevent.sleep(0)
        if self.draining or self.worker_id is None:
            return
        began, life = time.perf_counter(), self.worker_id
        # What is being started is in hand for a drain: to the database these rows are in a call from its commit on.
        self._aside += 1
        try:
            started = start(life, created_at, rows)
            if time.perf_counter() - began > settings().worker_lease_seconds / 2:
                # Did the life end while it waited? Then its rows are not ours.
                self.beat()
            for row in started:
                if self.worker_id == life:
                    self.in_hand[row.id] = row.fence
                    self._runners.start(row)
                else:
                    self._recorder.put(Again(id=row.id, fence=row.fence, delay_seconds=0.0, attempts=0, strike=False))
        finally:
            self._aside -= 1
        metrics_dispatch.started(time.perf_counter() - began, len(rows), [row.rung_seconds for row in started])

    def _wait(self, *, lag: bool) -> None:
        while not self.draining and (len(self.in_hand) >= self.capacity or (lag and self._lag > MAX_LOOP_LAG_SECONDS)):
            gevent.sleep(0.005)

    def sample(self) -> None:
        """Tell the metrics what is in hand now."""
        metrics_calls.IN_FLIGHT.labels("batch").set(len(self.in_hand))
        metrics_dispatch.PENDING.labels("batch").set(self._recorder.pending())

    def aside(self, work: Callable[[], None]) -> None:
        """Run something that is no row in a greenlet of its own; a drain waits for it too."""

        def run() -> None:
            try:
                work()
            except Exception:
                log.exception("work beside the rows failed")
            finally:
                self._aside -= 1

        self._aside += 1
        gevent.spawn(run)

    def stop_batch(self, batch_id: UUID) -> None:
        """Send no further row of this batch, also of those that have been started."""
        if batch_id not in self._stopped:
            self._stopped.add(batch_id)
            self._stopped_order.append(batch_id)
            if len(self._stopped_order) > _STOPPED_REMEMBERED:
                self._stopped.discard(self._stopped_order.popleft())

    def resume_batch(self, batch_id: UUID) -> None:
        self._stopped.discard(batch_id)

    def forget_stops(self) -> None:
        self._stopped.clear()
        self._stopped_order.clear()

    def drain(self, timeout_seconds: float) -> bool:
        """Take nothing more and wait until every row in hand is committed; False if some are left after the time."""
        self.draining = True
        deadline = time.monotonic() + timeout_seconds
        while (self.in_hand or self._aside) and time.monotonic() < deadline:
            gevent.sleep(0.02)
        return self._recorder.drain(max(1.0, deadline - time.monotonic())) and not self.in_hand

    def end(self) -> None:
        """End the life: what is still in hand is rescued by the scheduler at once."""
        if self.worker_id is not None:
            workers.retire(self.worker_id)

    def release_strays(self, strays: set[int]) -> set[int]:
        """Put back rows that the database holds to be ours and we do not know, if they were strays last time too.

        A start whose reply was lost leaves such rows. Returns the strays of this look, for the next.
        """
        assert self.worker_id is not None
        found = {row_id: fence for row_id, fence in workers.held(self.worker_id) if row_id not in self.in_hand}
        for row_id in found.keys() & strays:
            self._recorder.put(Again(id=row_id, fence=found[row_id], delay_seconds=0.0, attempts=0, strike=False))
        return set(found)

    def _probe(self) -> None:
        """Measure how late the event loop turns; seldom while there is nothing to do."""
        while True:
            before = time.monotonic()
            pause = _PROBE_SECONDS if self.in_hand else _IDLE_PROBE_SECONDS
            gevent.sleep(pause)
            self._lag = time.monotonic() - before - pause

    def _run(self, row: Started) -> None:
        batch_id = public("batch", row.batch_id)
        structlog.contextvars.bind_contextvars(batch_id=batch_id, row_id=row.id)
        span = tracing.root(
            "row",
            tracing.CONSUMER,
            trace=f"row {row.id}",
            part_of=batch_id,
            llm_service__batch_id=batch_id,
            llm_service__row_id=row.id,
            llm_service__attempt=row.attempts + 1,
        )
        with span:
            outcome = self._outcome_or_why_not(row)
            _describe(span, outcome)
        self._recorder.put(outcome)

    def _outcome_or_why_not(self, row: Started) -> Ended | Again:
        try:
            return self._outcome(row)
        except Unavailable:
            # A store went away before the call; the row is as it was.
            return Again(id=row.id, fence=row.fence, delay_seconds=1.0, attempts=0, strike=False)
        except Exception as error:
            log.exception("row %d failed inside the service", row.id)
            return unanswered(row, Failure(reason=FailureReason.INTERNAL, message=type(error).__name__), sent=True)

    def _outcome(self, row: Started) -> Ended | Again:
        key = LimitKey(row.connection_id, limits.family(row.model))
        reserved = (row.estimated_input, row.estimated_output)
        if row.batch_id in self._stopped:
            limits.settle(key, reserved, None)
            return Again(id=row.id, fence=row.fence, delay_seconds=0.0, attempts=0, strike=False)
        try:
            connection = loaded_connections.load(row.connection_id)
        except (NotFound, KeyProblem, Unavailable) as error:
            # The call is not made.
            limits.settle(key, reserved, None)
            if isinstance(error, KeyProblem):
                # Nothing is wrong with the row: it waits for its operator, or for a worker that has the key.
                log.error("row %d waits: %s", row.id, error.detail)
                return Again(id=row.id, fence=row.fence, delay_seconds=KEYLESS_SECONDS, attempts=0, strike=False)
            if isinstance(error, Unavailable):
                raise
            return unanswered(row, Failure(reason=FailureReason.NOT_CONFIGURED, message="the provider was removed"))
        with tracing.call(metrics_calls.CHAT, row.provider, row.model) as span:
            called = call(
                connection, row.model, orjson.loads(row.body), timeout_seconds=settings().call_timeout_seconds
            )
            metrics_calls.describe(span, called.outcome)
        metrics_calls.called(row.provider, row.model, called.outcome, called.ended_at - called.started_at)
        feedback.report(key, reserved, called)
        if isinstance(called.outcome, Success):
            return answered(
                called.outcome,
                connection,
                row_id=row.id,
                fence=row.fence,
                created_at=row.created_at,
                batch_id=row.batch_id,
                attempts=row.attempts + 1,
            )
        if called.outcome.reason.action is Action.STOP_CONNECTION:
            loaded_connections.stop(connection, called.outcome.reason, called.outcome.message)
        return unanswered(row, called.outcome, sent=called.sent)

    def _write(self, outcomes: list[Ended | Again]) -> None:
        ended = [outcome for outcome in outcomes if isinstance(outcome, Ended)]
        again = [outcome for outcome in outcomes if isinstance(outcome, Again)]
        with metrics_dispatch.flush("batch", len(outcomes)):
            record(ended, again)
        for outcome in outcomes:
            if self.in_hand.get(outcome.id) == outcome.fence:
                del self.in_hand[outcome.id]


def _body_bytes(outcome: Ended | Again) -> int:
    return len(outcome.response or b"") if isinstance(outcome, Ended) else 0


def _describe(span: tracing.Span, outcome: Ended | Again) -> None:
    """Say in a row's span what came of this try."""
    if isinstance(outcome, Again):
        span.set({"llm_service.again_in_seconds": outcome.delay_seconds})
        return
    span.set({"llm_service.status": outcome.status, "llm_service.request_id": outcome.request_id})
    if outcome.reason is not None:
        span.failed(outcome.reason)
