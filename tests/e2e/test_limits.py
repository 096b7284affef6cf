"""A connection's limits hold over all worker processes together."""

from __future__ import annotations

from bisect import bisect_right

import pytest

from launcher.client import Client
from launcher.house import House
from tests.e2e.batches import rows, submit, wait_for_end

pytestmark = pytest.mark.e2e


def limit(client: Client, **limits: int) -> None:
    """Set the limits of the client's OpenAI connection."""
    found = client.get("/v1/providers").json()["data"]
    provider = next(provider for provider in found if provider["providerType"] == "openai")
    answer = client.patch(f"/v1/providers/{provider['id']}", {"limits": limits})
    assert answer.status_code == 200, answer.text


def test_requests_per_minute_hold_over_two_workers(calm_house: House, client: Client) -> None:
    # given: a provider that allows 20 calls a second and hardly more at once, and its owner's word for it
    calm_house.simulator.config(limits={"default": {"requests_per_minute": 1200, "burst_seconds": 1.5}})
    limit(client, requestsPerMinute=1200)
    # when
    batch_id = submit(client, rows("paced", 120, models=["gpt-4o-mini"]))["id"]
    batch = wait_for_end(client, batch_id)
    # then: the provider never had to refuse, and no second saw more than its share and one burst
    assert batch["request_counts"]["succeeded"] == 120
    calls = calm_house.simulator.calls()
    assert [call["status"] for call in calls] == [200] * 120
    times = sorted(call["t_start"] for call in calls)
    assert max(bisect_right(times, time + 1.0) - n for n, time in enumerate(times)) <= 20 + 10 + 2
    # and: what is allowed is used
    assert times[-1] - times[0] < 120 / 20 * 1.8


def test_a_limit_that_nobody_configured_is_learned_from_the_providers_headers(
    calm_house: House, client: Client
) -> None:
    calm_house.simulator.config(limits={"default": {"requests_per_minute": 1800, "burst_seconds": 3}})
    batch_id = submit(client, rows("learned", 150, models=["gpt-4o-mini"]))["id"]
    batch = wait_for_end(client, batch_id)
    assert batch["request_counts"]["succeeded"] == 150
    assert calm_house.simulator.ledger()["rate_limited"] <= 8


def test_concurrency_holds_over_two_workers(calm_house: House, client: Client) -> None:
    calm_house.simulator.config(latency=0.1)
    limit(client, maxConcurrency=7)
    batch_id = submit(client, rows("crowd", 100, models=["gpt-4o-mini", "gpt-4.1-mini"]))["id"]
    batch = wait_for_end(client, batch_id)
    assert batch["request_counts"]["succeeded"] == 100
    assert 3 <= calm_house.simulator.ledger()["max_concurrency"] <= 7
