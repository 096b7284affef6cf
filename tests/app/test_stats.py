"""Statistics over HTTP: they agree with logs, batch objects and metrics to the token and the cent."""

from __future__ import annotations

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from prometheus_client import REGISTRY

from core import stats_days
from core.batches import control
from core.dispatch import rescue, sweep, workers
from core.dispatch.record import Again, Ended, record
from core.dispatch.start import Started
from core.histogram import RELATIVE_ERROR
from core.ids import public
from core.providers.types import Usage
from core.states import FailureReason, Processing
from tests.app.logged import Project, write_live
from tests.core.dispatch.world import batch_row, execute, failed, succeeded

#: What is counted in every book.
_BOOKS = ("requests", "succeeded", "failed", "cancelled", "expired", "input_tokens", "output_tokens", "cached_tokens")


@pytest.fixture
def project(client: FlaskClient) -> Project:
    return Project()


def _stats(client: FlaskClient, project: Project, query: str = "") -> dict[str, Any]:
    answered = client.get(f"{project.stats}?{query}", headers=project.headers)
    assert answered.status_code == 200, answered.text
    found: dict[str, Any] = answered.get_json()
    return found


def _logs(client: FlaskClient, project: Project) -> list[dict[str, Any]]:
    answered = client.get(project.logs, headers={**project.headers, "accept": "application/x-ndjson"})
    return [json.loads(line) for line in answered.data.splitlines()]


def _book(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Logs added up as statistics are."""
    sums: Counter[str] = Counter()
    cost = savings = Decimal(0)
    for row in rows:
        sums["requests"] += 1
        sums[row["status"]] += 1
        for name, count in (row["usage"] or {}).items():
            sums[name] += count
        cost += Decimal(row["cost_usd"] or 0)
        savings += Decimal(row["savings_usd"] or 0)
    return {**{name: sums[name] for name in _BOOKS}, "cost_usd": cost, "savings_usd": savings}


def _same(figures: dict[str, Any]) -> dict[str, Any]:
    """Statistics as a book."""
    return {
        **{name: figures[name] for name in _BOOKS},
        "cost_usd": Decimal(figures["cost_usd"]),
        "savings_usd": Decimal(figures["savings_usd"]),
    }


def _counters() -> Counter[str]:
    """What /metrics has counted so far."""
    found: Counter[str] = Counter()
    for family in REGISTRY.collect():
        for sample in family.samples:
            if sample.name == "llm_service_completions_total":
                found["requests"] += int(sample.value)
                found[sample.labels["status"]] += int(sample.value)
            elif sample.name == "llm_service_tokens_total":
                found[f"{sample.labels['type']}_tokens"] += int(sample.value)
    return found


class _Faults:
    """Runs batches while calls fail, are repeated, answer late, twice or never, and workers die."""

    def __init__(self, project: Project, seed: int) -> None:
        self.project = project
        self._random = random.Random(seed)
        #: calls that have not answered, of which some will when nobody waits for them any more
        self._late: list[Started] = []

    def run(self, batches: list[UUID]) -> None:
        while any(batch_row(batch)["ended_at"] is None for batch in batches):
            execute("UPDATE lease SET due_at = now() WHERE due_at > now()")
            ended: list[Ended] = []
            again: list[Again] = []
            for row in self.project.run(self._random.randint(5, 60)):
                self._outcome(row, ended, again)
            if self._late and self._random.random() < 0.5:
                ended += [self._answer(row) for row in self._random.sample(self._late, len(self._late) // 2)]
            record(ended, again)
            # A commit whose reply was lost is written again.
            record(ended, again)
            if self._random.random() < 0.3:
                execute("UPDATE worker SET lease_expires_at = now() - interval '1 s', draining = true")
                rescue.dead_workers()
                self.project.worker_id = workers.register(1000)
            sweep.stopped_batches()

    def _outcome(self, row: Started, ended: list[Ended], again: list[Again]) -> None:
        what = self._random.random()
        if what < 0.6:
            ended.append(self._answer(row))
        elif what < 0.7:
            ended.append(failed(row))
        elif what < 0.75:
            ended.append(
                replace(failed(row, FailureReason.TIMEOUT), usage=Usage(input_tokens=7), cost_usd=Decimal("0.1"))
            )
        elif what < 0.9:
            again.append(Again(id=row.id, fence=row.fence, delay_seconds=9, attempts=1, strike=True))
        else:
            self._late.append(row)

    def _answer(self, row: Started) -> Ended:
        usage = Usage(
            input_tokens=self._random.randint(1, 5000),
            output_tokens=self._random.randint(1, 900),
            cached_tokens=self._random.randint(0, 50),
            reasoning_tokens=self._random.randint(0, 20),
        )
        cost = Decimal(self._random.randint(1, 10**9)).scaleb(-12)
        return replace(succeeded(row), usage=usage, cost_usd=cost, list_cost_usd=cost * self._random.choice([1, 2]))


@pytest.mark.parametrize(
    ("seed", "sizes"), [(1, (400, 300, 150, 90)), (2, (1000, 800, 300, 140)), (3, (1000, 800, 300, 140))]
)
def test_all_books_agree_whatever_happened(
    client: FlaskClient, project: Project, seed: int, sizes: tuple[int, int, int, int]
) -> None:
    # given: batches of which one is cancelled and one runs out of time, and live completions, one written twice.
    # None is native: a thousand rows of a model would be, and wait for a worker that this test does not have.
    before = _counters()
    models = ("gpt-4o-mini", "claude-sonnet-4-5", "gpt-4o-mini", "gpt-4o-mini")
    batches = [
        project.submit(size, model=model, processing=Processing.REALTIME)
        for size, model in zip(sizes, models, strict=True)
    ]
    faults = _Faults(project, seed)
    rows = project.run(30)
    record([faults._answer(row) for row in rows[:20]])
    control.cancel(project.principal, batches[2])
    execute("UPDATE batch SET expires_at = now() WHERE id = %s", (batches[3],))
    sweep.expire_batches()
    record([failed(row) for row in rows[20:]])
    # when
    faults.run(batches)
    live = [project.live_row(request_id=f"live {n}") for n in range(7)]
    write_live(*live[:4], project.failed_row())
    write_live(*live)
    # then: logs, statistics and metrics
    logs = _logs(client, project)
    assert len(logs) == sum(sizes) + 8
    book = _book(logs)
    assert book["cancelled"] > 0
    assert book["expired"] > 0
    assert book["failed"] > 50
    stats = _stats(client, project)
    assert _same(stats["totals"]) == book
    counted = _counters() - before
    assert {name: counted[name] for name in _BOOKS} == {name: book[name] for name in _BOOKS}
    # and batch objects, each with its own rows
    for batch_id in batches:
        batch = client.get(f"/v1/batch/{public('batch', batch_id)}", headers=project.headers).get_json()
        own = _book(log for log in logs if log["batch_id"] == batch["id"])
        counts = {**batch["request_counts"], **batch["usage"], "requests": batch["request_counts"]["total"]}
        assert {name: counts[name] for name in _BOOKS} == {name: own[name] for name in _BOOKS}
        assert (Decimal(batch["cost_usd"]), Decimal(batch["savings_usd"])) == (own["cost_usd"], own["savings_usd"])
    # and every way to divide them
    for name in ("model", "provider", "status", "processing"):
        divided = _stats(client, project, f"group_by={name}&interval=hour&from={_hours_ago(2)}")
        groups = {value: _book(log for log in logs if log[name] == value) for value in {log[name] for log in logs}}
        assert {value: _same(figures) for value, figures in divided["groups"].items()} == groups
        for value, expected in groups.items():
            points = [point["groups"][value] for point in divided["series"] if value in point["groups"]]
            assert sum(point["requests"] for point in points) == expected["requests"]
    assert {model: _same(found) for model, found in stats["by_model"].items()} == {
        model: _book(log for log in logs if log["model"] == model) for model in {log["model"] for log in logs}
    }
    assert sum(Decimal(point["cost_usd"]) for point in stats["series"]) == book["cost_usd"]
    # and the table that was exported
    text = client.get(project.logs, headers={**project.headers, "accept": "text/csv"}).text
    assert sum(Decimal(row["cost_usd"] or 0) for row in csv.DictReader(io.StringIO(text))) == book["cost_usd"]


def _hours_ago(hours: int) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_deleted_batch_stays_in_the_statistics(client: FlaskClient, project: Project) -> None:
    batch_id = project.submit(2)
    record([succeeded(row) for row in project.run()])
    control.delete(project.principal, batch_id)
    assert _stats(client, project)["totals"]["succeeded"] == 2


def test_series_and_range(client: FlaskClient, project: Project) -> None:
    # given: one completion an hour through two days
    start = datetime(2026, 3, 1, tzinfo=UTC)
    times = [start + timedelta(hours=hour, minutes=59) for hour in range(48)]
    write_live(*(project.live_row(started_at=time, ended_at=time + timedelta(seconds=1)) for time in times))
    # then
    stats = _stats(client, project, "from=2026-03-01T12:30:00Z&to=2026-03-02T05:30:00Z&interval=hour")
    assert (stats["from"], stats["to"]) == ("2026-03-01T12:00:00.000000Z", "2026-03-02T06:00:00.000000Z")
    assert [point["requests"] for point in stats["series"]] == [1] * 18
    days = _stats(client, project, "from=2026-02-28T00:00:00Z&to=2026-03-03T00:00:00Z&interval=day")
    assert [(point["start"][:10], point["requests"]) for point in days["series"]] == [
        ("2026-02-28", 0),
        ("2026-03-01", 24),
        ("2026-03-02", 24),
    ]
    # and another zone's midnight is an hour like others
    assert (
        _stats(client, project, "from=2026-03-01T01:00:00%2B01:00&to=2026-03-01T02:00:00Z")["totals"]["requests"] == 2
    )


def test_an_hour_long_over_that_changes_is_seen(
    client: FlaskClient, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: some days that were looked at in every way
    start = datetime(2026, 3, 1, tzinfo=UTC)
    chance = random.Random(4)

    def ended(hour: int) -> None:
        time = start + timedelta(hours=hour, minutes=3)
        row = project.live_row(started_at=time, ended_at=time + timedelta(milliseconds=chance.randint(5, 9000)))
        write_live(replace(row, model_called=chance.choice(["gpt-4o-mini", "claude-sonnet-4-5"])))

    queries = [
        f"from=2026-03-01T0{first}:00:00Z&to=2026-03-05T00:00:00Z&interval={interval}{group}"
        for first in (0, 5)
        for interval in ("hour", "day")
        for group in ("", "&group_by=model", "&group_by=status")
    ]
    for hour in (1, 7, 30, 70):
        ended(hour)
    for query in queries:
        _stats(client, project, query)
    read = _remember_days(monkeypatch)
    for hour in (1, 6, 50, 50, 95):
        # when
        ended(hour)
        read.clear()
        warm = {query: _stats(client, project, query) for query in queries}
        # then: only the day that changed was added up again
        assert set(read) == {start + timedelta(days=hour // 24)}
        # and it is what somebody would see who had looked at none before
        stats_days._kept = stats_days._Kept()
        for query, seen in warm.items():
            fresh = _stats(client, project, query)
            assert {**seen, "live": None} == {**fresh, "live": None}
    assert sum(point["requests"] for point in warm[queries[0]]["series"]) == 9


def _remember_days(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The days that are added up from now on."""
    read: list[datetime] = []
    add_up = stats_days._add_up

    def remembering(connection: Any, view: Any, ranges: Any, requests: Any) -> Any:
        read.extend(ranges)
        return add_up(connection, view, ranges, requests)

    monkeypatch.setattr(stats_days, "_add_up", remembering)
    return read


def test_what_is_kept_of_statistics_is_bounded(
    client: FlaskClient, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats_days, "_kept", stats_days._Kept())
    monkeypatch.setattr(stats_days, "KEPT_BYTES", 40_000)
    now = datetime.now(UTC)
    write_live(*(project.live_row(ended_at=now - timedelta(days=days)) for days in range(20)))
    for _ in range(2):
        assert _stats(client, project, "interval=hour")["totals"]["requests"] == 20
    assert 0 < sum(day.size() for day in stats_days._kept._days.values()) == stats_days._kept._bytes <= 40_000


def test_percentiles_of_latency_and_of_the_first_token(client: FlaskClient, project: Project) -> None:
    now = datetime.now(UTC)
    rows = [
        project.live_row(started_at=now - timedelta(milliseconds=20 * n), ended_at=now, first_token_ms=n)
        for n in range(1, 101)
    ]
    write_live(*rows, project.failed_row(started_at=now - timedelta(hours=1)))
    totals = _stats(client, project)["totals"]
    for name, step in (("latency_ms", 20), ("time_to_first_token_ms", 1)):
        for share in (50, 95, 99):
            assert totals[name][f"p{share}"] == pytest.approx(share * step, rel=RELATIVE_ERROR + 1e-3)
    assert totals["success_rate"] == pytest.approx(100 / 101, abs=1e-6)


def test_without_completions_there_is_nothing(client: FlaskClient, project: Project) -> None:
    stats = _stats(client, project, "interval=hour&group_by=model&from=2026-03-01T00:00:00Z&to=2026-03-01T02:00:00Z")
    assert (stats["totals"]["requests"], stats["totals"]["cost_usd"], stats["totals"]["success_rate"]) == (0, "0", None)
    assert (stats["by_model"], stats["groups"], len(stats["series"])) == ({}, {}, 2)


def test_the_statistics_of_others_do_not_exist(client: FlaskClient, project: Project) -> None:
    other = Project()
    write_live(other.live_row())
    assert client.get(other.stats, headers=project.headers).status_code == 404
    assert _stats(client, project)["totals"]["requests"] == 0


@pytest.mark.parametrize(
    "query",
    [
        "from=2026-03-02T00:00:00Z&to=2026-03-01T00:00:00Z",
        "from=2020-03-02T00:00:00Z&interval=hour",
        "from=0001-01-01T00:00:00Z",
        "from=0001-01-01T00:00:00%2B14:00",
        "to=0001-01-02T00:00:00Z",
        "to=9999-12-31T22:00:00Z&from=9999-12-31T00:00:00Z",
        "to=9999-12-31T23:59:59-12:00",
        "interval=week",
        "group_by=custom_id",
    ],
)
def test_a_wrong_query_is_told(client: FlaskClient, project: Project, query: str) -> None:
    answered = client.get(f"{project.stats}?{query}", headers=project.headers)
    assert answered.status_code == 400
    assert answered.get_json()["errors"][0]["pointer"] == "?" + query.partition("=")[0]
