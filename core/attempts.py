"""The calls of a completion in real time: a mapping's providers in turn, each with retries, in the caller's time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeVar
from uuid import UUID

from core import connections
from core.errors import NotFound, OverLimit, ProviderFailed, Unavailable
from core.failed_calls import FailedCall
from core.loaded_connections import LoadedConnection
from core.providers.types import Failure
from core.retry import decide
from core.routing import Route
from core.states import Action, FailureReason

#: Calls to one provider for one completion: the first and its retries.
MAX_CALLS = 3
#: The part of the time left that a route may take while there are others behind it.
SHARE_OF_FIRST = 2 / 3
#: Reasons for which the next provider of a mapping is tried.
_FALL_BACK = frozenset(
    {
        FailureReason.NETWORK,
        FailureReason.TIMEOUT,
        FailureReason.RATE_LIMITED,
        FailureReason.OVERLOADED,
        FailureReason.PROVIDER_ERROR,
        FailureReason.INVALID_RESPONSE,
        FailureReason.QUOTA_EXHAUSTED,
        FailureReason.AUTHENTICATION,
        FailureReason.PERMISSION,
        FailureReason.NOT_CONFIGURED,
    }
)

Answer = TypeVar("Answer")
#: One call until a moment (monotonic seconds): an answer, or why there is none.
MakeCall = Callable[[LoadedConnection, Route, float], "Answer | Failure"]


@dataclass(slots=True)
class Attempt(Generic[Answer]):
    """Where a completion stands with one route: the calls so far, and what came of the last."""

    route: Route
    started_at: float
    connection: LoadedConnection | None = None
    calls: int = 0
    outcome: Answer | Failure | None = None
    #: all that failed so far, of the routes before it too; shared with them
    failed: list[FailedCall] = field(default_factory=list)

    @property
    def connection_id(self) -> UUID:
        return _id_of(self.route.connection.id)

    def fail(self, failure: Failure, started_at: float) -> None:
        """The outcome of a call begun at `started_at` (epoch seconds)."""
        self.outcome = failure
        self.failed.append(FailedCall(failure, self.route.provider, self.route.model, started_at, time.time()))


class Attempts(Generic[Answer]):
    """Tries a completion's routes in order, each with retries of what is transient, within the time there is.

    `current` is the route being tried, for whoever has to record a completion that was broken off.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self.current: Attempt[Answer] = Attempt(routes[0], time.time())

    def run(self, make: MakeCall[Answer], deadline: float) -> Attempt[Answer]:
        """The attempt that decided: with an answer, or with the failure that the caller hears of.

        Parameters
        ----------
        deadline : monotonic seconds.

        Raises
        ------
        OverLimit
            The limits of every provider leave no room within the time.
        """
        decided: Attempt[Answer] | None = None
        for route in self._routes:
            self.current = Attempt(route, time.time(), failed=self.current.failed)
            left = deadline - time.monotonic()
            # One that hangs must leave the next one time to answer.
            until = deadline if route is self._routes[-1] else deadline - left * (1 - SHARE_OF_FIRST)
            try:
                self._try(self.current, make, until)
            except (OverLimit, Unavailable) as error:
                if self.current.outcome is None:
                    if decided is None and (route is self._routes[-1] or isinstance(error, Unavailable)):
                        raise
                    continue
                # There was no room for another try: the failure of the last one is what is logged and heard of.
            decided = self.current
            if not isinstance(decided.outcome, Failure) or decided.outcome.reason not in _FALL_BACK:
                break
        assert decided is not None
        self.current = decided
        return decided

    def _try(self, attempt: Attempt[Answer], make: MakeCall[Answer], deadline: float) -> None:
        route = attempt.route
        try:
            attempt.connection = connection = connections.load(attempt.connection_id)
        except NotFound:
            gone = Failure(reason=FailureReason.NOT_CONFIGURED, message="the provider was removed")
            attempt.fail(gone, attempt.started_at)
            return
        if route.connection.state != "active":
            stopped = Failure(
                reason=FailureReason.AUTHENTICATION,
                message=f"the {route.provider} key stopped working; replace it with POST /v1/providers",
            )
            attempt.fail(stopped, attempt.started_at)
            return
        while True:
            attempt.calls += 1
            started_at = time.time()
            try:
                outcome = make(connection, route, deadline)
            except (OverLimit, Unavailable):
                # The call was not made.
                attempt.calls -= 1
                raise
            if not isinstance(outcome, Failure):
                attempt.outcome = outcome
                return
            attempt.fail(outcome, started_at)
            if outcome.reason.action is Action.STOP_CONNECTION:
                connections.stop(connection, outcome.reason, outcome.message)
                return
            tried = attempt.calls - 1
            retry = decide(
                outcome.reason, strikes=tried, attempts=tried, retry_after_seconds=outcome.retry_after_seconds
            )
            if retry is None or attempt.calls == MAX_CALLS or time.monotonic() + retry.delay_seconds >= deadline:
                return
            time.sleep(retry.delay_seconds)


def provider_failed(route: Route, failure: Failure) -> ProviderFailed:
    """The error that tells the caller why no provider answered."""
    return ProviderFailed(
        failure.message,
        reason=failure.reason,
        provider=route.provider,
        provider_status=failure.provider_status,
        retry_after_seconds=failure.retry_after_seconds,
        provider_code=failure.provider_code,
        provider_param=failure.provider_param,
    )


@lru_cache(maxsize=4096)
def _id_of(connection: str) -> UUID:
    return UUID(connection)
