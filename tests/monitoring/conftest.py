"""A house that has done a bit of everything, so that every metric has something to say."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from launcher.client import wait_until
from launcher.house import House
from launcher.ports import free_port
from tests.canaries import WatchedHouse
from tests.e2e.batches import results, rows, submit
from tests.e2e.receiver import Receiver

TENANT_LABELS = 3
#: From so many rows of a model on, `auto` goes native here: more than `work` has of any model but one.
NATIVE_ROWS = 40


@dataclass(frozen=True)
class Busy:
    """The house, and the batches that it ran: one in real time, one at a provider."""

    house: House
    batches: list[dict[str, Any]]
    results: list[dict[str, Any]]
    #: the live completions' objects, or of a stream the last event
    live: list[dict[str, Any]]
    #: where the house believes Prometheus to be; whoever needs one starts it there
    prometheus_url: str

    def scrape(self) -> dict[str, Metric]:
        """The metric families that /metrics gives now, by name."""
        answer = self.house.client.get("/metrics")
        assert answer.status_code == 200
        return {family.name: family for family in text_string_to_metric_families(answer.text)}

    def total(self, name: str, **labels: str) -> float:
        """The sum over the samples of one name with these labels."""
        return sum(
            sample.value
            for family in self.scrape().values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


#: Each look adds up the files of all processes, which sample once a second.
wait_scraped = partial(wait_until, poll_seconds=0.5)


def work(house: House, name: str, receiver: Receiver) -> tuple[list[str], list[dict[str, Any]]]:
    """A batch with retries, failures and a webhook, a native one, then two live completions, one of them streamed.

    Returns the batches' ids, and of each live completion the object that has its usage and cost.
    """
    client = house.client
    house.simulator.config(
        faults=[
            {"kind": "429", "first_attempts": 1, "probability": 0.1},
            {"kind": "500", "first_attempts": 1, "probability": 0.1},
            {"kind": "400", "probability": 0.05},
            {"kind": "503", "on": "create", "count": 1},
        ]
    )
    batches = [
        submit(client, rows(name, 120), webhook_url=receiver.url),
        submit(client, rows(f"{name}-native", NATIVE_ROWS, models=("gpt-4o-mini",))),
    ]
    for batch in batches:
        client.wait_for_batch(batch["id"])
    house.simulator.config(faults=[])
    question = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": name}], "max_tokens": 20}
    answered = client.post("/v1/completions", question)
    assert answered.status_code == 200, answered.text
    streamed = client.post("/v1/completions", question | {"stream": True, "stream_options": {"include_usage": True}})
    *_, last, done = (line.removeprefix("data: ") for line in streamed.text.splitlines() if line)
    assert done == "[DONE]", streamed.text
    return [batch["id"] for batch in batches], [answered.json(), json.loads(last)]


@pytest.fixture(scope="package")
def busy(
    new_database: Callable[[], str], new_redis: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Busy]:
    directory: Path = tmp_path_factory.mktemp("monitored")
    prometheus_url = f"http://127.0.0.1:{free_port()}"
    environment = {
        "LLM_SERVICE_METRICS_TENANT_LABELS": str(TENANT_LABELS),
        "LLM_SERVICE_NATIVE_MIN_ROWS": str(NATIVE_ROWS),
        "LLM_SERVICE_NATIVE_POLL_SECONDS": "0.2",
        "PROMETHEUS_URL": prometheus_url,
    }
    house = WatchedHouse(
        directory, database_url=new_database(), redis_url=new_redis(), migrated=True, workers=2, environment=environment
    )
    with house, Receiver() as receiver:
        batch_ids, live = work(house, "metrics", receiver)
        batches = [house.client.get(f"/v1/batch/{batch_id}").json() for batch_id in batch_ids]
        rows_of_all = [row for batch_id in batch_ids for row in results(house.client, batch_id)]
        found = Busy(house, batches, rows_of_all, live, prometheus_url)
        # each process samples once a second, the leading scheduler reads the backlog every five
        asked_at = time.time()
        wait_scraped(lambda: found.total("llm_service_backlog_updated_timestamp_seconds") > asked_at + 2, 30)
        wait_scraped(lambda: found.total("llm_service_webhook_attempt_seconds_count") > 0, 30)
        yield found


#: What may be in no label: ids of ours, of any kind, keys and addresses.
IDENTIFIER = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}|[0-9a-f]{24}|sk-|https?://|row-\d"
)
