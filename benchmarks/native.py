"""Native batches: the shards that a mixed batch becomes, what they cost in money, time and memory, what caching saves.

One batch over two models of OpenAI and one of Claude in `auto`, with a provider that answers at once; then a shard of
rows of 4 KB, for the memory of the workers that send it and read it back; then rows that share a long beginning, with
and without marks for the provider's prompt cache.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from benchmarks.common import Done, all_succeeded, checked, new_tenant, pids, running_house, wait_ended, warm_up
from benchmarks.options import RUNS, Option, parse
from benchmarks.report import Report
from benchmarks.usage import MIB, MemoryWatch, processor_seconds
from launcher.client import Client
from launcher.house import House

#: Shares of the rows of the mixed batch. At 120,000 rows the first is more than one file of OpenAI's takes.
SHARES = (("gpt-4o-mini", 7), ("gpt-4.1-mini", 2), ("claude-haiku-4-5", 3))
_GROWTH_GOAL_MIB = 64.0
_TEXT = "Read this line twice, name its subject in one word, and say in five words what it asks for. "


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        "native",
        __doc__,
        arguments,
        rows=Option(120_000, 6_000, "rows of the mixed batch"),
        large=Option(50_000, 3_000, "rows of the shard of large rows"),
        large_bytes=Option(4096, 4096, "bytes of one of them"),
        shared=Option(2_000, 1_200, "rows that begin alike"),
        workers=Option(2, 2, "worker processes"),
        runs=RUNS,
    )
    report = Report("native", options)
    environment = {"LLM_SERVICE_NATIVE_POLL_SECONDS": "1"}
    with running_house(
        options, workers=options.workers, environment=environment, record_nonces=True, cache={"enabled": True}
    ) as house:
        client, _ = new_tenant(house)
        warm_up(house, client)
        for _ in range(options.runs):
            _mixed(house, client, report, options)
            _large(house, client, report, options)
            _shared(client, report, options)
    report.finish()


def _mixed(house: House, client: Client, report: Report, options: Namespace) -> None:
    house.simulator.reset(config=False)
    parts = sum(share for _, share in SHARES)
    models = [model for model, share in SHARES for _ in range(share)]
    workers = pids(house, "worker")
    used = processor_seconds(pids(house))
    with MemoryWatch(workers) as watch:
        batch_id, accepted_at = _submit(client, _short_rows(options.rows, models))
        done = all_succeeded(wait_ended(client, batch_id, timeout_seconds=1800))
    report.add("mixed: accepted to stored", options.rows / (done.ended_at - accepted_at), "rows/s")
    report.add("mixed: processor time a row, all processes", _processor(house, used, options.rows), "us")
    report.add("mixed: memory of the workers", watch.growth / MIB, "MiB more")
    report.add("mixed: shards", done.batch["native"]["shards"], "")
    report.add("mixed: cost over list price", _share_of_list(done), "x", at_most=0.5)
    _check(house, client, batch_id, options.rows, models, parts)
    checked(client.delete(f"/v1/batch/{batch_id}", timeout=600), 204)


def _check(house: House, client: Client, batch_id: str, count: int, models: list[str], parts: int) -> None:
    """Every row is there once, answers its own prompt, went native, and was run once by the provider."""
    seen: Counter[str] = Counter()
    cost = Decimal(0)
    answer = checked(
        client.get(f"/v1/batch/{batch_id}/results", headers={"accept": "application/x-ndjson"}, stream=True), 200
    )
    for line in answer.iter_lines(chunk_size=1 << 18):
        row = json.loads(line)
        seen[row["custom_id"]] += 1
        cost += Decimal(row["cost_usd"])
        n = int(row["custom_id"].removeprefix("row-"))
        text = row["response"]["choices"][0]["message"]["content"]
        if row["processing"] != "native" or f"nonce-mixed-{n}" not in text or models[n % parts] not in row["model"]:
            raise RuntimeError(f"a wrong row: {row}")
    batch = checked(client.get(f"/v1/batch/{batch_id}"), 200).json()
    twice = [nonce for nonce, counts in house.simulator.nonces().items() if counts["executed"] > 1]
    if len(seen) != count or max(seen.values()) > 1 or Decimal(batch["cost_usd"]) != cost or twice:
        raise RuntimeError(f"{count} rows have {len(seen)} results that cost {cost}: {batch}; run twice: {twice[:5]}")


def _large(house: House, client: Client, report: Report, options: Namespace) -> None:
    """The workers' memory while a shard of large rows is sent and read back."""
    house.simulator.reset(config=False)
    for model in ("gpt-4o-mini", "claude-haiku-4-5"):
        workers = pids(house, "worker")
        used = processor_seconds(workers)
        with MemoryWatch(workers) as watch:
            batch_id, _ = _submit(client, _large_rows(options.large, options.large_bytes, model))
            done = all_succeeded(wait_ended(client, batch_id, timeout_seconds=1800))
        name = f"{options.large:,} rows of {options.large_bytes / 1024:g} KB, {model}"
        report.add(f"{name}: memory of the workers", watch.growth / MIB, "MiB more", at_most=_GROWTH_GOAL_MIB)
        report.add(
            f"{name}: processor time of the workers a row",
            (processor_seconds(workers) - used) / done.batch["request_counts"]["total"] * 1e6,
            "us",
        )
        checked(client.delete(f"/v1/batch/{batch_id}", timeout=600), 204)


def _shared(client: Client, report: Report, options: Namespace) -> None:
    """What rows that begin alike cost with marks for the prompt cache, over what they cost without."""
    for model in ("gpt-4.1-mini", "claude-haiku-4-5"):
        costs = {}
        for caching in ("false", "true"):
            lines = _rows_alike(options.shared, model, f"{model}-{caching}-{time.time_ns()}")
            batch_id, _ = _submit(client, lines, prompt_caching=caching)
            done = all_succeeded(wait_ended(client, batch_id, timeout_seconds=600))
            costs[caching] = Decimal(done.batch["cost_usd"])
            report.add(
                f"rows alike, {model}, prompt_caching={caching}: cached input",
                100 * done.batch["usage"]["cached_tokens"] / done.batch["usage"]["input_tokens"],
                "%",
            )
            checked(client.delete(f"/v1/batch/{batch_id}", timeout=600), 204)
        report.add(
            f"rows alike, {model}: cost with prompt_caching over without", float(costs["true"] / costs["false"]), "x"
        )


def _submit(client: Client, lines: Iterator[bytes], **options: str) -> tuple[str, float]:
    query = "&".join(f"{name}={value}" for name, value in {"processing": "auto", **options}.items())
    answer = checked(
        client.post(f"/v1/batch?{query}", data=lines, headers={"content-type": "application/x-ndjson"}, timeout=900),
        201,
    )
    created = answer.json()
    wrong = [entry for entry in created["processing_plan"] if entry["processing"] != "native"]
    if wrong:
        raise RuntimeError(f"not all rows go native: {wrong}")
    return created["id"], time.time()


def _processor(house: House, before: float, rows: int) -> float:
    return (processor_seconds(pids(house)) - before) / rows * 1e6


def _share_of_list(done: Done) -> float:
    cost, saved = Decimal(done.batch["cost_usd"]), Decimal(done.batch["savings_usd"])
    return float(cost / (cost + saved))


def _short_rows(count: int, models: list[str]) -> Iterator[bytes]:
    for n in range(count):
        yield _row(n, models[n % len(models)], [{"role": "user", "content": f"nonce-mixed-{n} {_TEXT * 3}"}])


def _large_rows(count: int, size: int, model: str) -> Iterator[bytes]:
    text = _TEXT * (size // len(_TEXT))
    for n in range(count):
        yield _row(n, model, [{"role": "user", "content": f"nonce-large-{n} {text}"}])


def _rows_alike(count: int, model: str, label: str) -> Iterator[bytes]:
    """Half of the rows begin with one text of some 6,000 tokens, half with another; they come in turn."""
    texts = [f"{label} {kind} " + _TEXT * 280 for kind in ("first", "second")]
    for n in range(count):
        messages = [
            {"role": "system", "content": texts[n % 2]},
            {"role": "user", "content": f"nonce-alike-{n} What does it say?"},
        ]
        yield _row(n, model, messages)


def _row(n: int, model: str, messages: list[dict[str, Any]]) -> bytes:
    return (
        json.dumps({"custom_id": f"row-{n}", "model": model, "max_tokens": 32, "messages": messages}).encode() + b"\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
