"""Batches whose answers can be checked: each prompt carries a nonce of its own, which the simulator echoes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from launcher.client import Client, wait_until

#: Two models of each provider, so that a batch has several lanes at each.
MODELS = ("gpt-4o-mini", "claude-haiku-4-5", "gpt-4.1-mini", "claude-sonnet-4-5")
ENDED = ("succeeded", "failed", "cancelled", "expired")


def nonce(name: str, n: int) -> str:
    return f"nonce-{name}-{n}"


def rows(name: str, count: int, *, models: Sequence[str] = MODELS) -> list[dict[str, Any]]:
    """`count` requests with custom ids `row-0`, `row-1`, ...; `name` keeps their nonces apart from other batches'."""
    return [
        {
            "custom_id": f"row-{n}",
            "model": models[n % len(models)],
            "messages": [{"role": "user", "content": f"Please answer {nonce(name, n)} now"}],
            "max_tokens": 60,
        }
        for n in range(count)
    ]


def submit(client: Client, requests: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    """The batch object of a new batch."""
    answer = client.post("/v1/batch", {"requests": requests, **options})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def results(client: Client, batch_id: str) -> list[dict[str, Any]]:
    """All result rows, read as lines."""
    answer = client.get(f"/v1/batch/{batch_id}/results", headers={"Accept": "application/x-ndjson"})
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def faults_of_results(found: Iterable[dict[str, Any]], name: str, count: int) -> list[str]:
    """I1: what is wrong with the results of the batch made by `rows(name, count)`; empty if nothing is.

    Every custom_id is there once, each answer holds its own prompt's nonce, every other row says what went wrong.
    """
    wrong = []
    seen: Counter[str] = Counter()
    for row in found:
        seen[row["custom_id"]] += 1
        n = int(row["custom_id"].removeprefix("row-"))
        if row["status"] == "succeeded":
            text = row["response"]["choices"][0]["message"]["content"] or ""
            # The simulator ends the sentence after the nonce, so that row 1 does not pass for row 11.
            if f"{nonce(name, n)}." not in text and f"{nonce(name, n)} " not in text:
                wrong.append(f"{row['custom_id']} answers another prompt: {text[:80]!r}")
            if row["error"] is not None:
                wrong.append(f"{row['custom_id']} succeeded with an error: {row['error']}")
        elif row["status"] not in ENDED or not row["error"] or row["response"] is not None:
            wrong.append(f"{row['custom_id']} is {row['status']}: {row['error']}")
    expected = {f"row-{n}" for n in range(count)}
    wrong += [f"{custom_id} has no result" for custom_id in sorted(expected - seen.keys())]
    wrong += [f"{custom_id} was never asked for" for custom_id in sorted(seen.keys() - expected)]
    wrong += [f"{custom_id} has {times} results" for custom_id, times in seen.items() if times > 1]
    return wrong


def check_counts(batch: dict[str, Any], found: Sequence[dict[str, Any]]) -> None:
    """I2, as its owner sees it: the counters are those of the results."""
    statuses = Counter(row["status"] for row in found)
    counts = batch["request_counts"]
    assert counts == {"total": len(found), "pending": 0, "processing": 0} | {s: statuses[s] for s in ENDED}


def wait_for_end(client: Client, batch_id: str, *, timeout_seconds: float = 60.0) -> dict[str, Any]:
    """The batch once `ended_at` is set: a cancelled batch ends when its last call has come home."""
    return wait_for(client, batch_id, lambda batch: batch["ended_at"] is not None, timeout_seconds=timeout_seconds)


def wait_for(
    client: Client, batch_id: str, condition: Callable[[dict[str, Any]], bool], *, timeout_seconds: float = 60.0
) -> dict[str, Any]:
    """The batch object once it fulfils the condition; TimeoutError with the one last seen."""
    seen: dict[str, Any] = {}

    def holds() -> bool:
        seen.clear()
        seen.update(client.get(f"/v1/batch/{batch_id}").json())
        return condition(seen)

    wait_until(holds, timeout_seconds, lambda: f"not in {timeout_seconds} s: {seen}")
    return seen
