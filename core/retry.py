"""When a row is tried again, and when it is given up: a pure function of the reason and the tries so far."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from core.states import Action, FailureReason

#: A row is given up when so many of its calls failed for reasons of their own (rate limits do not count).
MAX_STRIKES = 6
BASE_SECONDS, CAP_SECONDS = 0.5, 60.0
#: Rate limits and overload say something about the connection, which slows down as a whole; the row is not to blame.
_NO_STRIKE = frozenset({FailureReason.RATE_LIMITED, FailureReason.OVERLOADED})
#: Overload with no end in sight is given up too, after so many tries.
MAX_ATTEMPTS = 60


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay_seconds`; `strike` is True if the failure counts towards giving up."""

    delay_seconds: float
    strike: bool


def decide(
    reason: FailureReason,
    *,
    strikes: int,
    attempts: int,
    retry_after_seconds: float | None = None,
    jitter: Callable[[], float] = random.random,
) -> Retry | None:
    """What to do after a failed call; None: give the row up.

    Parameters
    ----------
    strikes, attempts : counted before this failure.
    retry_after_seconds : the provider's hint; the row does not come back earlier.
    jitter : a number from 0 to 1, so that rows that failed together do not return together.
    """
    if reason.action is Action.STOP_CONNECTION:
        # The row waits for its owner to mend the connection; it costs nothing and proves nothing about the row.
        return Retry(1.0, strike=False)
    if reason.action is not Action.RETRY or attempts + 1 >= MAX_ATTEMPTS:
        return None
    strike = reason not in _NO_STRIKE
    if strike and strikes + 1 >= MAX_STRIKES:
        return None
    exponent = min(strikes if strike else attempts, 10)
    delay = min(BASE_SECONDS * 2**exponent, CAP_SECONDS) * (0.5 + jitter() / 2)
    return Retry(max(delay, min(retry_after_seconds or 0.0, 3600.0)), strike)
