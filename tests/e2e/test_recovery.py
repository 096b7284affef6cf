"""Recovery, as tenants see it: a worker dies in the middle of their calls, a store goes away and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from launcher.client import Client, wait_until
from launcher.house import House
from tests import clusters
from tests.e2e.batches import check_counts, faults_of_results, nonce, results, rows, submit, wait_for, wait_for_end

pytestmark = pytest.mark.e2e

LEASE_SECONDS = 3.0


@pytest.fixture(scope="module")
def house(cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with stores of its own, whose workers are missed soon."""
    directory: Path = tmp_path_factory.mktemp("recovery")
    environment = {
        "LLM_SERVICE_API_PROCESSES": "1",
        "LLM_SERVICE_WORKER_LEASE_SECONDS": str(LEASE_SECONDS),
        "LLM_SERVICE_WORKER_CONCURRENCY": "30",
    }
    clusters.copy_for_house(cluster, directory)
    with House(directory, migrated=True, workers=1, environment=environment) as own:
        yield own


def test_after_a_crash_calls_of_unknown_outcome_are_repeated_or_failed_as_the_tenant_chose(house: House) -> None:
    # given: a tenant for whom nothing may be paid twice, and one who wants answers
    house.simulator.reset()
    house.simulator.config(latency=1.0)
    careful, eager = house.new_client("careful"), house.new_client("eager")
    assert careful.patch("/v1/project", {"on_unknown_outcome": "fail"}).status_code == 200
    batches = {name: submit(client, rows(name, 60))["id"] for name, client in (("careful", careful), ("eager", eager))}
    wait_until(lambda: in_flight(house, "careful") >= 5 and in_flight(house, "eager") >= 5, 30)
    # when: the worker dies in the middle of calls
    house.kill("worker-1")
    house.start_process("worker-1")
    # then
    ended = wait_for_end(careful, batches["careful"])
    found = results(careful, batches["careful"])
    unknown = [row for row in found if row["status"] == "failed"]
    assert unknown
    assert {row["error"]["type"] for row in unknown} == {"outcome_unknown"}
    assert faults_of_results(found, "careful", 60) == []
    check_counts(ended, found)
    wait_for_end(eager, batches["eager"])
    again = results(eager, batches["eager"])
    assert {row["status"] for row in again} == {"succeeded"}
    assert faults_of_results(again, "eager", 60) == []
    # and: by the provider's own count nothing of the first one's was called twice, and of the second what was in a call
    calls = {name: counts["calls"] for name, counts in house.simulator.nonces().items()}
    assert {calls[nonce("careful", n)] for n in range(60)} == {1}
    repeated = [n for n in range(60) if calls[nonce("eager", n)] == 2]
    assert repeated
    assert sum(calls[nonce("eager", n)] for n in range(60)) == 60 + len(repeated)
    assert len(unknown) + len(repeated) <= 30, "more than the worker held"


@pytest.mark.parametrize("store", ["postgres", "redis"])
def test_a_store_that_is_away_is_answered_503_and_batches_go_on_when_it_is_back(house: House, store: str) -> None:
    # given: a batch that runs
    house.simulator.reset()
    house.simulator.config(latency=0.5)
    client = house.new_client(f"without {store}")
    batch_id = submit(client, rows(store, 150))["id"]
    wait_for(client, batch_id, lambda batch: batch["request_counts"]["succeeded"] >= 10)
    # when
    house.stop(store)
    # then: whatever cannot be done is 503 and says when to come back
    with ThreadPoolExecutor(len(ROUTES)) as callers:
        answers = list(callers.map(lambda route: ask(client, batch_id, *route), ROUTES))
    for (_, path, _), answer in zip(ROUTES, answers, strict=True):
        if answer.status_code < 300:
            assert store == "redis", (path, answer.text)
            continue
        assert answer.status_code == 503, (path, answer.status_code, answer.text)
        assert int(answer.headers["Retry-After"]) >= 1, path
        assert answer.headers["Content-Type"] == "application/problem+json" or path == "/readyz"
    # when
    house.start_process(store)
    # then: everything goes on by itself, and no call was made twice
    house.wait_ready()
    batch = wait_for_end(client, batch_id)
    assert batch["request_counts"]["succeeded"] == 150
    counts = [house.simulator.nonces()[nonce(store, n)] for n in range(150)]
    assert {(found["calls"], found["executed"]) for found in counts} == {(1, 1)}


def in_flight(house: House, name: str) -> int:
    """Calls of a batch that the provider has begun and not answered."""
    return sum(call["t_end"] is None and f"-{name}-" in (call["nonce"] or "") for call in house.simulator.calls())


def ask(client: Client, batch_id: str, method: str, path: str, body: object) -> requests.Response:
    """A session each: threads share none."""
    with requests.Session() as session:
        session.trust_env = False
        url = client.url + path.format(batch=batch_id)
        return session.request(method, url, json=body, headers=client.headers, timeout=30)


ROUTES = [
    ("GET", "/readyz", None),
    ("GET", "/v1/batch/{batch}", None),
    ("GET", "/v1/batch", None),
    ("GET", "/v1/providers", None),
    ("POST", "/v1/batch", {"requests": rows("refused", 2)}),
    ("GET", "/v1/batch/{batch}/results?partial=true", None),
    ("POST", "/v1/completions", {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "2 + 2?"}]}),
]
