"""How often the unmodified `anthropic` package tries, for each way in which we refuse or fail."""

from __future__ import annotations

import time
from collections.abc import Iterator

import anthropic
import pytest

from launcher.client import Client
from launcher.house import House
from tests.app.attempts import Attempts

#: The package's own number of retries is 2.
ALL = 3


@pytest.fixture
def caller(claude: anthropic.Anthropic, service: House) -> Client:
    """A project of its own: what is done to its connections hurts nobody else."""
    return service.new_client()


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Attempts]:
    made = Attempts(monkeypatch, anthropic.DefaultHttpxClient)
    yield made
    made.http.close()


@pytest.fixture
def counted(caller: Client, attempts: Attempts) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=caller.url, api_key=caller.token, http_client=attempts.http)


def ask(client: anthropic.Anthropic, model: str = "claude-haiku-4-5", *, stream: bool = False) -> None:
    said: list[anthropic.types.MessageParam] = [{"role": "user", "content": "hello nonce-attempts"}]
    answer = client.messages.create(model=model, max_tokens=100, messages=said, stream=stream)
    if isinstance(answer, anthropic.Stream):
        list(answer)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("400", anthropic.BadRequestError),
        ("401", anthropic.PermissionDeniedError),
        ("404", anthropic.NotFoundError),
        # Repeating it is of no use, whatever its status suggests.
        ("quota", anthropic.APIStatusError),
    ],
)
def test_failures_that_last(
    service: House,
    counted: anthropic.Anthropic,
    attempts: Attempts,
    kind: str,
    error: type[anthropic.APIStatusError],
    stream: bool,
) -> None:
    service.simulator.config(faults=[{"kind": kind}])
    attempts.hurry()

    with pytest.raises(error):
        ask(counted, stream=stream)

    assert attempts.sent == 1


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("429", anthropic.RateLimitError),
        ("500", anthropic.InternalServerError),
        # The connection rests meanwhile, so that the second try is refused by the limiter.
        ("529", anthropic.RateLimitError),
        ("reset", anthropic.InternalServerError),
    ],
)
def test_failures_that_may_pass(
    service: House,
    counted: anthropic.Anthropic,
    attempts: Attempts,
    kind: str,
    error: type[anthropic.APIStatusError],
) -> None:
    # A hint that is longer than the service itself has time to wait
    service.simulator.config(faults=[{"kind": kind, "retry_after": 45}])
    attempts.hurry()

    began = time.monotonic()
    with pytest.raises(error):
        ask(counted.with_options(timeout=1.0))
    took = time.monotonic() - began

    assert attempts.sent == ALL
    if kind != "reset":
        # What has passed since the provider's word is off the wait.
        assert all(44 - took < wait <= 46 for wait in attempts.waits)


@pytest.mark.parametrize("stream", [False, True])
def test_the_projects_own_limit(caller: Client, counted: anthropic.Anthropic, attempts: Attempts, stream: bool) -> None:
    began = time.monotonic()
    ask(counted)
    caller.patch("/v1/project", {"requests_per_minute": 1})
    caller.get("/v1/project")
    attempts.sent = 0
    attempts.hurry()

    with pytest.raises(anthropic.RateLimitError) as caught:
        ask(counted, stream=stream)

    assert caught.value.type == "rate_limit_error"
    assert attempts.sent == ALL
    # It waits as long as it is told: until the minute is over.
    most = 60 - (time.monotonic() - began)
    assert all(most - 1 <= wait <= 62 for wait in attempts.waits)
    headers = caught.value.response.headers
    assert headers["anthropic-ratelimit-requests-limit"] == "1"
    assert headers["anthropic-ratelimit-requests-remaining"] == "0"


@pytest.mark.parametrize("stream", [False, True])
def test_a_budget_that_is_used_up(
    caller: Client, counted: anthropic.Anthropic, attempts: Attempts, stream: bool
) -> None:
    caller.put("/v1/budgets/day", {"limit_usd": "0.000001"})
    attempts.hurry()

    with pytest.raises(anthropic.RateLimitError):
        ask(counted, stream=stream)

    assert attempts.sent == 1


def test_a_time_out(service: House, counted: anthropic.Anthropic, attempts: Attempts) -> None:
    service.simulator.config(latency=30)
    attempts.hurry()

    with pytest.raises((anthropic.APITimeoutError, anthropic.APIStatusError)):
        ask(counted.with_options(timeout=0.5))

    assert attempts.sent == ALL


def test_a_stream_that_has_begun_is_never_repeated(
    service: House, counted: anthropic.Anthropic, attempts: Attempts
) -> None:
    service.simulator.config(faults=[{"kind": "stream_error"}])

    with pytest.raises(anthropic.APIStatusError):
        ask(counted, stream=True)

    assert attempts.sent == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "tokens"),
    [("gpt-4o-mini", ["tokens"]), ("claude-haiku-4-5", ["tokens", "input-tokens", "output-tokens"])],
)
def test_the_provider_limits_are_told(
    service: House, caller: Client, claude: anthropic.Anthropic, model: str, tokens: list[str], stream: bool
) -> None:
    most = {"requests_per_minute": 6000, "tokens_per_minute": 1_000_000, "output_tokens_per_minute": 500_000}
    service.simulator.config(limits={"default": most})
    client = claude.with_options(api_key=caller.token)
    said: list[anthropic.types.MessageParam] = [{"role": "user", "content": "hello"}]
    # The first answer tells the service, and a moment later the limiter.
    for _ in range(50):
        raw = client.messages.with_raw_response.create(model=model, max_tokens=10, messages=said, stream=stream)
        raw.http_response.read()
        if "anthropic-ratelimit-requests-limit" in raw.headers:
            break

    assert raw.headers["anthropic-ratelimit-requests-limit"] == "6000"
    for name in ("requests", *tokens):
        limit = int(raw.headers[f"anthropic-ratelimit-{name}-limit"])
        assert 0 < int(raw.headers[f"anthropic-ratelimit-{name}-remaining"]) <= limit
        assert raw.headers[f"anthropic-ratelimit-{name}-reset"].endswith("Z")
