"""The retry policy, as a table."""

import pytest

from core.retry import BASE_SECONDS, CAP_SECONDS, MAX_ATTEMPTS, MAX_STRIKES, Retry, decide
from core.states import FailureReason

TRANSIENT = [
    FailureReason.NETWORK,
    FailureReason.TIMEOUT,
    FailureReason.PROVIDER_ERROR,
    FailureReason.INVALID_RESPONSE,
]
FINAL = [
    FailureReason.INVALID_REQUEST,
    FailureReason.MODEL_NOT_FOUND,
    FailureReason.REQUEST_TOO_LARGE,
    FailureReason.ADDRESS_REFUSED,
    FailureReason.NOT_CONFIGURED,
]
STOPPING = [FailureReason.AUTHENTICATION, FailureReason.PERMISSION, FailureReason.QUOTA_EXHAUSTED]


@pytest.mark.parametrize("reason", TRANSIENT)
def test_transient_failures_are_tried_again_until_the_strikes_are_used_up(reason: FailureReason) -> None:
    assert decide(reason, strikes=0, attempts=0, jitter=lambda: 1.0) == Retry(BASE_SECONDS, strike=True)
    assert decide(reason, strikes=MAX_STRIKES - 2, attempts=10) is not None
    assert decide(reason, strikes=MAX_STRIKES - 1, attempts=10) is None


@pytest.mark.parametrize("reason", FINAL)
def test_a_wrong_request_is_never_tried_again(reason: FailureReason) -> None:
    assert decide(reason, strikes=0, attempts=0) is None


@pytest.mark.parametrize("reason", [FailureReason.RATE_LIMITED, FailureReason.OVERLOADED])
def test_rate_limits_are_no_strike_but_end_some_day(reason: FailureReason) -> None:
    found = decide(reason, strikes=MAX_STRIKES - 1, attempts=20)
    assert found is not None
    assert not found.strike
    assert decide(reason, strikes=0, attempts=MAX_ATTEMPTS - 1) is None


@pytest.mark.parametrize("reason", STOPPING)
def test_a_row_waits_for_its_connection_without_a_strike(reason: FailureReason) -> None:
    assert decide(reason, strikes=MAX_STRIKES - 1, attempts=30) == Retry(1.0, strike=False)


def test_delays_grow_are_capped_and_spread() -> None:
    delays = [decide(FailureReason.RATE_LIMITED, strikes=0, attempts=n, jitter=lambda: 1.0) for n in range(20)]
    seconds = [found.delay_seconds for found in delays if found]
    assert seconds == sorted(seconds)
    assert seconds[-1] == CAP_SECONDS
    low = decide(FailureReason.NETWORK, strikes=2, attempts=2, jitter=lambda: 0.0)
    high = decide(FailureReason.NETWORK, strikes=2, attempts=2, jitter=lambda: 1.0)
    assert low is not None
    assert high is not None
    assert low.delay_seconds * 2 == high.delay_seconds


def test_the_providers_hint_is_a_floor() -> None:
    found = decide(FailureReason.RATE_LIMITED, strikes=0, attempts=0, retry_after_seconds=17.0)
    assert found is not None
    assert found.delay_seconds == 17.0


def test_every_reason_is_decided() -> None:
    for reason in FailureReason:
        found = decide(reason, strikes=0, attempts=0)
        assert found is None or found.delay_seconds >= 0
