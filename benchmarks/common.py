"""The service under measurement: a whole house, batches streamed into it, the times of their start and end."""

from __future__ import annotations

import itertools
import resource
import secrets
import shutil
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

from benchmarks import rows, usage
from launcher.client import Client
from launcher.house import House

#: How long to wait between two looks at a batch: a twentieth of what it has taken so far, between these bounds. A look
#: costs the house milliseconds, which must not be what is measured; what counts is `ended_at` anyway.
_SHORTEST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.05, 1.0
_labels = itertools.count(1)


@contextmanager
def running_house(
    options: Namespace, *, workers: int, environment: Mapping[str, str] | None = None, **simulator: Any
) -> Iterator[House]:
    """A house of its own in a temporary directory, gone afterwards.

    Parameters
    ----------
    simulator
        The configuration that the simulator starts with. It keeps no record per call unless told to: a million
        records would be measured too.
    """
    allow_many_files()
    directory = Path(tempfile.mkdtemp(prefix="llm-service-benchmark-"))
    house = House(
        directory,
        workers=workers,
        environment=environment,
        simulator={"record_calls": False, "record_nonces": False} | simulator,
        fast=options.fast,
    )
    try:
        with house:
            yield house
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def allow_many_files() -> None:
    """As many open files as the system permits, for this process and those that it starts."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def set_workers(house: House, count: int) -> None:
    """Have worker-1 to worker-N run, and no others."""
    numbers = [int(name.removeprefix("worker-")) for name in house.names if name.startswith("worker-")]
    for number in numbers:
        if number > count and house.alive(f"worker-{number}"):
            house.stop(f"worker-{number}")
    for number in range(1, count + 1):
        if number not in numbers or not house.alive(f"worker-{number}"):
            house.start_process(f"worker-{number}")
    house.wait_ready()


def pids(house: House, *prefixes: str) -> list[int]:
    """Process ids of the running processes whose name begins so; no prefix: all but the simulator."""
    return [house.pid(name) for name in house.names if house.alive(name) and name.startswith(prefixes or ("",))]


#: The processes whose time and memory are told apart.
PARTS = ("api", "worker", "scheduler", "postgres", "redis")


def processor_seconds_by_part(house: House) -> dict[str, float]:
    """Processor time that each part of the house has used, the simulator's last."""
    used = {part: usage.processor_seconds(pids(house, part)) for part in PARTS}
    return used | {"simulator": usage.processor_seconds([house.simulator.pid])}


def new_tenant(house: House, *, limits: Mapping[str, int] | None = None) -> tuple[Client, str]:
    """A tenant with an OpenAI key that nobody else has; the client and that key.

    Parameters
    ----------
    limits
        requestsPerMinute, tokensPerMinute, maxConcurrency; what is absent is learned from the provider's headers.
    """
    client = house.new_client()
    key = f"sk-benchmark-{secrets.token_hex(8)}"
    given: dict[str, Any] = {"providerType": "openai", "apiKey": key}
    if limits:
        given["limits"] = dict(limits)
    checked(client.post("/v1/providers", given), 200, 201)
    return client, key


def set_limits(client: Client, **limits: int | None) -> None:
    """PATCH the limits of the tenant's OpenAI connection."""
    listed = checked(client.get("/v1/providers"), 200).json()["data"]
    (found,) = [provider for provider in listed if provider["providerType"] == "openai"]
    checked(client.patch(f"/v1/providers/{found['id']}", {"limits": limits}), 200)


@dataclass(slots=True, kw_only=True)
class Submitted:
    """A batch that was accepted. Times are Unix seconds: ours, and the database's, which has the same clock."""

    id: str
    rows: int
    #: the first byte left us
    sent_at: float
    #: the 201 was read
    accepted_at: float

    @property
    def accept_seconds(self) -> float:
        return self.accepted_at - self.sent_at


@dataclass(slots=True, kw_only=True)
class Done:
    """A batch that has ended."""

    batch: dict[str, Any]
    #: ended_at, by the database
    ended_at: float
    #: we saw it
    seen_at: float


def submit(client: Client, count: int) -> Submitted:
    """Stream `count` rows in as NDJSON and wait for the 201. Raises RuntimeError with any other answer."""
    label = f"{secrets.token_hex(3)}-{next(_labels)}"
    sent_at = time.time()
    answer = checked(
        client.post(
            "/v1/batch?processing=realtime",
            data=rows.lines(count, label),
            headers={"content-type": "application/x-ndjson"},
            timeout=900,
        ),
        201,
    )
    accepted_at = time.time()
    created = answer.json()
    if created["request_counts"]["total"] != count:
        raise RuntimeError(f"{count} rows were sent, the batch has {created['request_counts']}")
    return Submitted(id=created["id"], rows=count, sent_at=sent_at, accepted_at=accepted_at)


def wait_ended(client: Client, batch_id: str, *, timeout_seconds: float = 900.0) -> Done:
    """Wait until every row of the batch has ended. Raises TimeoutError with the batch as it was last seen."""
    started = time.monotonic()
    while True:
        batch = checked(client.get(f"/v1/batch/{batch_id}"), 200).json()
        if batch["ended_at"] is not None:
            return Done(batch=batch, ended_at=unix(batch["ended_at"]), seen_at=time.time())
        waited = time.monotonic() - started
        if waited > timeout_seconds:
            raise TimeoutError(f"the batch has not ended within {timeout_seconds:.0f} s: {batch}")
        time.sleep(min(_LONGEST_WAIT_SECONDS, max(_SHORTEST_WAIT_SECONDS, waited / 20)))


def all_succeeded(done: Done) -> Done:
    """The same; RuntimeError unless every row succeeded, for a failed row costs less than one that is measured."""
    counts = done.batch["request_counts"]
    if counts["succeeded"] != counts["total"]:
        raise RuntimeError(f"not every row succeeded: {counts}, {done.batch['errors']}")
    return done


def cancel(client: Client, batch_id: str) -> tuple[float, float]:
    """Cancel it; Unix times at which the request was sent and its answer read."""
    sent_at = time.time()
    checked(client.post(f"/v1/batch/{batch_id}/cancel"), 200)
    return sent_at, time.time()


def warm_up(house: House, client: Client, count: int = 300) -> None:
    """Run a small batch: connections are opened, code is loaded, plans are made. The simulator's ledger is emptied."""
    all_succeeded(wait_ended(client, submit(client, count).id))
    house.simulator.reset(config=False)


def wait_for_calls(house: House, count: int, *, timeout_seconds: float = 120.0) -> None:
    """Wait until the simulator has been called so often since its ledger was emptied."""
    house.simulator.wait_for(lambda ledger: ledger["calls"] >= count, timeout_seconds)


def unix(text: str) -> float:
    """Unix seconds of an RFC 3339 time."""
    return datetime.fromisoformat(text).timestamp()


def checked(answer: requests.Response, *expected: int) -> requests.Response:
    """The same answer; RuntimeError if its status is none of those expected."""
    if answer.status_code not in expected:
        raise RuntimeError(
            f"{answer.request.method} {answer.url} was answered {answer.status_code}: {answer.text[:2000]}"
        )
    return answer
