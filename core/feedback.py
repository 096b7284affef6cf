"""What a call's outcome tells the limiter: what was used, what the provider says of its limits, that it slows."""

from __future__ import annotations

from core import limits
from core.call import Called
from core.limits import LimitKey
from core.providers.types import Success
from core.states import Action, FailureReason

#: The provider is there but has no room: everybody on the connection slows down.
_SLOW_DOWN = frozenset({FailureReason.RATE_LIMITED, FailureReason.OVERLOADED})
#: The provider may be down: after some of these in a row its rows are held back.
_DOWN = frozenset({FailureReason.NETWORK, FailureReason.TIMEOUT, FailureReason.PROVIDER_ERROR})


def report(key: LimitKey, reserved: tuple[int, int], called: Called) -> None:
    """Tell the limiter of one call that has ended.

    Parameters
    ----------
    reserved : the (input, output) tokens that were taken for it.
    """
    outcome = called.outcome
    if called.readings:
        limits.observe(key, called.readings)
    if isinstance(outcome, Success):
        if outcome.usage_reported:
            limits.answered(key, reserved, outcome.usage)
        else:
            limits.success(key)
        return
    if not called.sent:
        limits.settle(key, reserved, None)
    elif outcome.reason in _SLOW_DOWN or outcome.reason.action is not Action.RETRY:
        # A refused request has been counted by the provider as one, its tokens have not.
        limits.refused(key, reserved)
    elif outcome.usage is not None:
        limits.settle(key, reserved, outcome.usage)
    # Else nobody knows what the provider did for it: it stays charged.
    if outcome.reason in _SLOW_DOWN:
        limits.penalise(
            key,
            retry_after_seconds=outcome.retry_after_seconds,
            took_seconds=max(0.0, called.ended_at - called.started_at),
        )
    elif outcome.reason in _DOWN:
        limits.failure(key)
    else:
        limits.success(key)
