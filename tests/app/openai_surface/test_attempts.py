"""How often the unmodified `openai` package tries, for each way in which we refuse or fail."""

from __future__ import annotations

import time
from collections.abc import Iterator

import openai
import pytest

from launcher.client import Client
from launcher.house import House
from tests.app.attempts import Attempts

HELLO = [{"role": "user", "content": "hello nonce-attempts"}]
#: The package's own number of retries is 2.
ALL = 3


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Attempts]:
    made = Attempts(monkeypatch, openai.DefaultHttpxClient)
    yield made
    made.http.close()


@pytest.fixture
def counted(caller: Client, attempts: Attempts) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{caller.url}/v1", api_key=caller.token, http_client=attempts.http)


def ask(client: openai.OpenAI, model: str = "gpt-4o-mini", *, stream: bool = False) -> None:
    answer = client.chat.completions.create(model=model, messages=HELLO, stream=stream)  # type: ignore[call-overload]
    if stream:
        list(answer)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("400", openai.BadRequestError),
        ("401", openai.AuthenticationError),
        ("403", openai.PermissionDeniedError),
        ("404", openai.NotFoundError),
        ("context_length", openai.BadRequestError),
        # 429, and yet repeating it is of no use
        ("quota", openai.RateLimitError),
    ],
)
def test_failures_that_last(
    house: House,
    counted: openai.OpenAI,
    attempts: Attempts,
    kind: str,
    error: type[openai.APIStatusError],
    stream: bool,
) -> None:
    house.simulator.config(faults=[{"kind": kind}])
    attempts.hurry()

    with pytest.raises(error):
        ask(counted, stream=stream)

    assert attempts.sent == 1


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("429", openai.RateLimitError),
        ("500", openai.InternalServerError),
        # The connection rests meanwhile, so that the second try is refused by the limiter.
        ("503", openai.RateLimitError),
        ("reset", openai.InternalServerError),
    ],
)
def test_failures_that_may_pass(
    house: House, counted: openai.OpenAI, attempts: Attempts, kind: str, error: type[openai.APIStatusError]
) -> None:
    # A hint that is longer than the service itself has time to wait
    house.simulator.config(faults=[{"kind": kind, "retry_after": 45}])
    attempts.hurry()

    with pytest.raises(error):
        ask(counted.with_options(timeout=1.0))

    assert attempts.sent == ALL
    if kind != "reset":
        assert all(40 < wait <= 46 for wait in attempts.waits)


@pytest.mark.parametrize("kind", ["429", "503"])
def test_a_hint_beyond_two_minutes_ends_it(house: House, counted: openai.OpenAI, attempts: Attempts, kind: str) -> None:
    # So the package does, whatever x-should-retry says (PROVIDERS.md 4.5).
    house.simulator.config(faults=[{"kind": kind, "retry_after": 700}])
    attempts.hurry()

    with pytest.raises(openai.APIStatusError):
        ask(counted, stream=True)

    assert attempts.sent == 1


@pytest.mark.parametrize("stream", [False, True])
def test_the_projects_own_limit(caller: Client, counted: openai.OpenAI, attempts: Attempts, stream: bool) -> None:
    began = time.monotonic()
    ask(counted)
    caller.patch("/v1/project", {"requests_per_minute": 1})
    caller.get("/v1/project")
    attempts.sent = 0
    attempts.hurry()

    with pytest.raises(openai.RateLimitError) as caught:
        ask(counted, stream=stream)

    assert caught.value.code == "rate_limit_exceeded"
    assert attempts.sent == ALL
    # It waits as long as it is told: until the minute is over.
    most = 60 - (time.monotonic() - began)
    assert all(most - 1 <= wait <= 62 for wait in attempts.waits)
    headers = caught.value.response.headers
    assert headers["x-ratelimit-limit-requests"] == "1"
    assert headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize("stream", [False, True])
def test_a_budget_that_is_used_up(caller: Client, counted: openai.OpenAI, attempts: Attempts, stream: bool) -> None:
    caller.put("/v1/budgets/day", {"limit_usd": "0.000001"})
    attempts.hurry()

    with pytest.raises(openai.RateLimitError) as caught:
        ask(counted, stream=stream)

    assert caught.value.code == "insufficient_quota"
    assert attempts.sent == 1


def test_a_time_out(house: House, counted: openai.OpenAI, attempts: Attempts) -> None:
    house.simulator.config(latency=30)
    attempts.hurry()

    with pytest.raises((openai.APITimeoutError, openai.InternalServerError)):
        ask(counted.with_options(timeout=0.5))

    assert attempts.sent == ALL


def test_a_stream_that_has_begun_is_never_repeated(house: House, counted: openai.OpenAI, attempts: Attempts) -> None:
    house.simulator.config(faults=[{"kind": "stream_error"}])

    with pytest.raises(openai.APIError):
        ask(counted, stream=True)

    assert attempts.sent == 1


@pytest.mark.parametrize("model", ["gpt-4o-mini", "claude-haiku-4-5"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_provider_limits_are_told(house: House, client: openai.OpenAI, model: str, stream: bool) -> None:
    house.simulator.config(limits={"default": {"requests_per_minute": 6000, "tokens_per_minute": 1_000_000}})
    # The first answer tells the service, and a moment later the limiter.
    for _ in range(50):
        raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO, stream=stream)  # type: ignore[call-overload]
        raw.http_response.read()
        if "x-ratelimit-limit-requests" in raw.headers:
            break

    assert raw.headers["x-ratelimit-limit-requests"] == "6000"
    assert 0 < int(raw.headers["x-ratelimit-remaining-requests"]) < 6000
    assert raw.headers["x-ratelimit-reset-requests"].endswith("s")
    assert int(raw.headers["x-ratelimit-limit-tokens"]) > 0
    assert int(raw.headers["x-ratelimit-remaining-tokens"]) > 0


@pytest.mark.parametrize("stream", [False, True])
def test_our_own_routes_tell_them_too(house: House, caller: Client, stream: bool) -> None:
    house.simulator.config(limits={"default": {"requests_per_minute": 6000, "tokens_per_minute": 1_000_000}})
    caller.patch("/v1/project", {"requests_per_minute": 1000})
    body = {"model": "gpt-4o-mini", "messages": HELLO, "stream": stream}
    for _ in range(50):
        answered = caller.post("/v1/completions", body)
        if "provider" in answered.headers["RateLimit"]:
            break

    assert answered.headers["RateLimit-Policy"] == (
        '"project";q=1000;w=60, "provider-requests";q=6000;w=60, "provider-tokens";q=1000000;w=60;qu="tokens"'
    )
    assert answered.headers["RateLimit"].startswith('"project";r=9')


def test_our_own_routes_say_whether_to_try_again(house: House, caller: Client) -> None:
    body = {"model": "gpt-4o-mini", "messages": HELLO}
    for kind, retry in (("500", "true"), ("400", "false"), ("quota", "false")):
        house.simulator.config(faults=[{"kind": kind, "retry_after": 700}])
        answered = caller.post("/v1/completions", body)
        assert answered.status_code == 500
        assert answered.headers["x-should-retry"] == retry
