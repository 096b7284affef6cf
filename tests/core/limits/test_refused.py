"""What the limiter keeps of a call's reservation when the call fails."""

from __future__ import annotations

from uuid import uuid4

import fakeredis
import pytest

from core import feedback, limits
from core.call import Called
from core.limits import Configured, Limiter, LimitKey
from core.providers.types import Failure, Usage
from core.states import FailureReason
from tests.core.limits.simulation import Clock

CONFIGURED = Configured(None, 600_000)
ASKED = (100, 900)


class Charged:
    """A connection on which one call has been charged ASKED, and what came of it can be told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
        self.clock = Clock()
        self.limiter = Limiter(fakeredis.FakeRedis(), clock=self.clock)
        monkeypatch.setattr(limits, "limiter", lambda: self.limiter)
        self.key = LimitKey(uuid4(), model)
        limits.take(self.key, CONFIGURED, [], in_flight=0)
        self.before = self.level
        assert limits.take(self.key, CONFIGURED, [ASKED], in_flight=0).granted == 1

    @property
    def family(self) -> dict:
        return limits.state(self.key.connection_id)["families"][self.key.family]

    @property
    def level(self) -> float:
        return self.family["level"]["tokens"]

    def failed(self, reason: FailureReason, *, sent: bool = True, usage: Usage | None = None) -> float:
        """The tokens that are still charged after that."""
        outcome = Failure(reason=reason, message="", usage=usage)
        feedback.report(self.key, ASKED, Called(outcome=outcome, readings=[], started_at=0.0, ended_at=0.0, sent=sent))
        limits.flush()
        return self.before - self.level


@pytest.mark.parametrize("model", ["gpt-4o", "claude-sonnet-4"])
@pytest.mark.parametrize(
    "reason",
    [
        FailureReason.INVALID_REQUEST,
        FailureReason.MODEL_NOT_FOUND,
        FailureReason.REQUEST_TOO_LARGE,
        FailureReason.AUTHENTICATION,
        FailureReason.RATE_LIMITED,
        FailureReason.OVERLOADED,
    ],
)
def test_a_refused_call_gives_back_the_output_that_it_asked_for_too(monkeypatch, model, reason):
    assert Charged(monkeypatch, model).failed(reason) == pytest.approx(0)


@pytest.mark.parametrize("reason", [FailureReason.NETWORK, FailureReason.INVALID_REQUEST])
def test_a_call_that_never_reached_the_provider_gives_everything_back(monkeypatch, reason):
    assert Charged(monkeypatch, "gpt-4o").failed(reason, sent=False) == pytest.approx(0)


@pytest.mark.parametrize(
    ("reason", "model", "charged"),
    [
        (FailureReason.TIMEOUT, "gpt-4o", 1000),
        (FailureReason.NETWORK, "gpt-4o", 1000),
        (FailureReason.INVALID_RESPONSE, "gpt-4o", 1000),
        # (half of what was asked for is expected of Anthropic's models until answers tell)
        (FailureReason.TIMEOUT, "claude-sonnet-4", 550),
    ],
)
def test_a_call_of_which_nobody_knows_what_the_provider_did_stays_charged(monkeypatch, reason, model, charged):
    assert Charged(monkeypatch, model).failed(reason) == pytest.approx(charged)


def test_a_call_that_broke_off_is_charged_what_it_had_used(monkeypatch):
    call = Charged(monkeypatch, "claude-sonnet-4")
    assert call.failed(FailureReason.NETWORK, usage=Usage(input_tokens=100, output_tokens=30)) == pytest.approx(130)


def test_refusals_say_nothing_of_how_much_output_calls_produce(monkeypatch):
    call = Charged(monkeypatch, "claude-sonnet-4")
    call.failed(FailureReason.INVALID_REQUEST)
    call.failed(FailureReason.RATE_LIMITED)
    assert call.family["output_ratio"] is None


def test_a_refused_call_gives_back_no_more_than_it_was_charged(monkeypatch):
    call = Charged(monkeypatch, "gpt-4o")
    call.clock.now += 10
    huge = (0, 2_000_000_000)
    with limits.acquire(call.key, CONFIGURED, *huge, timeout_seconds=1.0):
        owed = call.level
    call.clock.now += 2
    assert limits.take(call.key, CONFIGURED, [huge], in_flight=0).granted == 1
    limits.refused(call.key, huge)
    limits.flush()
    assert call.level == pytest.approx(owed + 2 * 9950)
