"""Rate limits: the buckets' arithmetic, the headers' honesty, and who is limited."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from simulator.config import Limit
from simulator.limits import Allowance
from simulator.openai_vendor import duration


def test_a_minutes_worth_at_once_and_then_at_the_rate():
    allowance = Allowance(Limit(requests_per_minute=60), now=0.0)

    assert [allowance.admit_total(0.0, 1) for _ in range(60)] == [None] * 60
    refused = allowance.admit_total(0.0, 1)

    assert refused is not None
    assert refused.wait_seconds == pytest.approx(1.0)
    assert allowance.admit_total(0.99, 1) is not None
    assert allowance.admit_total(1.0, 1) is None


def test_whoever_waits_as_told_is_admitted():
    allowance = Allowance(Limit(requests_per_minute=3000, tokens_per_minute=7_777, burst_seconds=3), now=0.0)
    now = 0.0
    for _ in range(200):
        refused = allowance.admit_total(now, 100)
        if refused is not None:
            now += refused.wait_seconds
            assert allowance.admit_total(now, 100) is None


def test_a_call_larger_than_the_bucket_never_fits():
    allowance = Allowance(Limit(tokens_per_minute=1000), now=0.0)

    assert allowance.admit_total(0.0, 1001).wait_seconds is None


def test_anthropics_output_counts_when_written_and_leaves_a_debt():
    allowance = Allowance(Limit(output_tokens_per_minute=600), now=0.0)
    assert allowance.admit_input(0.0, 10_000) is None

    allowance.produced(0.0, 700)

    refused = allowance.admit_input(0.0, 1)
    assert refused.resource == "output"
    assert refused.wait_seconds == pytest.approx(101 / 10)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.02, "20ms"), (1, "1s"), (360, "6m0s"), (179.56, "2m59.56s"), (3723, "1h2m3s"), (0.0001, "1ms")],
)
def test_go_durations(seconds, text):
    assert duration(seconds) == text


def test_a_key_over_its_requests_gets_an_honest_429_and_others_do_not(client, simulator):
    simulator.config(limits={"keys": {"sk-slow": {"requests_per_minute": 60, "burst_seconds": 1}}})

    first, second = client.chat(key="sk-slow"), client.chat(key="sk-slow")

    assert first.headers["x-ratelimit-limit-requests"] == "60"
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    assert second.status_code == 429
    error = second.json()["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert second.headers["retry-after"] == "1"
    assert 0 < int(second.headers["retry-after-ms"]) <= 1000
    assert client.chat(key="sk-other").status_code == 200
    ledger = simulator.ledger()
    assert (ledger["rate_limited"], ledger["by_status"]["429"], ledger["executed"]) == (1, 1, 2)


def test_after_retry_after_ms_the_call_goes_through(client, simulator):
    simulator.config(limits={"default": {"requests_per_minute": 600, "burst_seconds": 0.1}})
    client.chat()
    refused = client.chat()
    assert refused.status_code == 429

    time.sleep(int(refused.headers["retry-after-ms"]) / 1000)

    assert client.chat().status_code == 200


def test_openai_counts_the_output_asked_for(client, simulator):
    simulator.config(limits={"default": {"tokens_per_minute": 1000}})

    assert client.chat(max_tokens=900).status_code == 200
    refused = client.chat(max_tokens=900)

    assert refused.json()["error"]["type"] == "tokens"
    too_large = client.chat(max_tokens=2000)
    assert too_large.json()["error"]["message"].startswith("Request too large")
    assert "retry-after" not in too_large.headers


def test_anthropics_headers(client, simulator):
    simulator.config(
        limits={
            "default": {"requests_per_minute": 2, "input_tokens_per_minute": 50_000, "output_tokens_per_minute": 9000}
        }
    )

    headers = client.message().headers

    assert headers["anthropic-ratelimit-requests-limit"] == "2"
    assert headers["anthropic-ratelimit-requests-remaining"] == "1"
    assert headers["anthropic-ratelimit-input-tokens-remaining"] == "50000"
    assert headers["anthropic-ratelimit-tokens-limit"] == "9000"
    assert headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    client.message()
    refused = client.message()
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
    assert math.isclose(int(refused.headers["retry-after"]), 30, abs_tol=1)


def test_a_429_can_come_without_hints(client, simulator):
    simulator.config(limits={"default": {"requests_per_minute": 1, "hints": False}})
    client.chat()

    headers = client.chat().headers

    assert not [name for name in headers if name.startswith(("retry-after", "x-ratelimit-reset"))]


def test_concurrency_is_limited(client, simulator):
    simulator.config(limits={"default": {"max_concurrency": 2}}, latency=0.5)

    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(answer.status_code for answer in pool.map(lambda _: client.chat(), range(4)))

    assert statuses == [200, 200, 429, 429]
    assert client.chat().status_code == 200


def test_a_new_latency_does_not_refill_a_bucket(client, simulator):
    simulator.config(limits={"default": {"requests_per_minute": 1}})
    client.chat()

    simulator.config(latency=0.001)

    assert client.chat().status_code == 429
