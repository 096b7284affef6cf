"""What becomes of a row whose call was not made."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from core import limits, loaded_connections
from core.crypto import KeyProblem
from core.db import DatabaseDown
from core.dispatch.record import Again, Ended
from core.dispatch.start import Started
from core.errors import NotFound
from core.ids import new_id
from core.states import FailureReason
from workers.execute import KEYLESS_SECONDS, Executor


def started() -> Started:
    ids = {name: new_id() for name in ("batch_id", "tenant_id", "project_id", "connection_id")}
    return Started(
        id=7,
        fence=3,
        created_at=datetime.now(UTC),
        provider="openai",
        model="gpt-4o-mini",
        body="{}",
        attempts=5,
        strikes=5,
        estimated_input=11,
        estimated_output=22,
        **ids,
    )


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (KeyProblem("no such key"), Again(id=7, fence=3, delay_seconds=KEYLESS_SECONDS, attempts=0, strike=False)),
        (DatabaseDown(), Again(id=7, fence=3, delay_seconds=1.0, attempts=0, strike=False)),
        (NotFound(), FailureReason.NOT_CONFIGURED),
    ],
)
def test_what_was_taken_for_a_call_that_is_not_made_is_given_back(
    monkeypatch: pytest.MonkeyPatch, error: Exception, outcome: Again | FailureReason
) -> None:
    # given: a row on its last strike, whose connection cannot be used here
    row = started()
    given_back: list[object] = []

    def load(connection_id: object) -> object:
        raise error

    monkeypatch.setattr(loaded_connections, "load", load)
    monkeypatch.setattr(limits, "settle", lambda *settled: given_back.append(settled))
    # when
    found = Executor(1)._outcome_or_why_not(row)
    # then: only a provider that is gone ends it
    assert (found.reason if isinstance(found, Ended) else found) == outcome
    assert given_back == [(limits.LimitKey(row.connection_id, "gpt-4o-mini"), (11, 22), None)]
