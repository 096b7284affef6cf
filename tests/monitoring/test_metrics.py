"""The parts of the metrics: folding, labels, what follows a commit, the leader's gauges, processes that are gone."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry, Histogram

from core import db, metrics_calls, metrics_labels, metrics_native_backlog
from core.metrics import observe_many
from core.metrics_backlog import BATCHES, LEADING, WORKERS, Backlog
from core.metrics_labels import OTHER, Tenants
from core.metrics_rows import ENDED
from core.providers.types import Failure, Success, Usage
from core.rollup import Key, Sums, hour_of
from core.settings import settings
from core.states import FailureReason


@given(st.lists(st.floats(min_value=0, max_value=100), max_size=40))
def test_many_observations_at_once_are_the_same_as_each_by_itself(values: list[float]) -> None:
    one = Histogram("one", "", registry=CollectorRegistry(), buckets=(0.5, 1, 2, 10, 50))
    many = Histogram("one", "", registry=CollectorRegistry(), buckets=(0.5, 1, 2, 10, 50))
    for value in values:
        one.observe(value)
    observe_many(many, values)
    expected = {(each.name, *each.labels.items()): each.value for family in one.collect() for each in family.samples}
    found = {(each.name, *each.labels.items()): each.value for family in many.collect() for each in family.samples}
    del expected["one_created",], found["one_created",]
    assert found == pytest.approx(expected)


def test_whatever_models_are_called_series_stay_few() -> None:
    # given calls of thousands of models, providers and statuses that nobody knows, and of known ones
    metrics_calls.fold()
    before = _series("gen_ai_client_operation_duration_seconds_count")
    for number in range(5000):
        failure = Failure(reason=FailureReason.PROVIDER_ERROR, message="", provider_status=600 + number)
        metrics_calls.called(f"provider-{number}", f"model-{number}", failure, 0.1)
        metrics_calls.called("openai", f"gpt-of-mine-{number}", failure, 0.1)
        metrics_calls.called("openai", "gpt-4o-mini-2024-07-18", Success(completion={}, usage=Usage(), model=""), 0.1)
    metrics_calls.fold()
    # then there is one series more for each kind that is known, and one for the rest
    assert _series("gen_ai_client_operation_duration_seconds_count") - before <= 3
    assert metrics_labels.status(600) == OTHER
    assert metrics_labels.model("gpt-4o-mini-2024-07-18", "openai") == "gpt-4o-mini"
    assert metrics_labels.model("gpt-4o-mini", "openai_compatible") == OTHER


def _series(name: str) -> int:
    return sum(sample.name == name for family in REGISTRY.collect() for sample in family.samples)


def test_calls_are_counted_without_a_sampler() -> None:
    def count() -> float:
        labels = {"provider": "anthropic", "status": "529"}
        return REGISTRY.get_sample_value("llm_service_provider_answers_total", labels) or 0.0

    metrics_calls.fold()
    before = count()
    failure = Failure(reason=FailureReason.OVERLOADED, message="", provider_status=529)
    for _ in range(metrics_calls.MAX_WAITING):
        metrics_calls.called("anthropic", "claude-haiku-4-5", failure, 0.1)
    assert count() - before == metrics_calls.MAX_WAITING


def test_rows_count_when_their_transaction_commits_and_not_before(database_url: str) -> None:
    # given sums of a row that ended
    key = Key(uuid4(), hour_of(datetime.now(UTC)), "openai", "gpt-4o-mini", "realtime", "succeeded", "")
    counter = ENDED.labels("openai", "gpt-4o-mini", "realtime", "succeeded")
    before = counter._value.get()

    def write(connection: db.RawConnection) -> None:
        sums = Sums()
        sums.add(
            key,
            uuid4(),
            attempts=1,
            usage=Usage(input_tokens=3, output_tokens=4),
            cost_usd=Decimal("0.01"),
            list_cost_usd=None,
            duration_ms=10.0,
        )
        sums.write(connection)

    # when the transaction is rolled back, nothing is counted
    with contextlib.suppress(ZeroDivisionError), db.connection() as connection:
        write(connection)
        raise ZeroDivisionError
    assert counter._value.get() == before
    # when it commits, it is, after the commit
    with db.connection() as connection:
        write(connection)
        assert counter._value.get() == before
    assert counter._value.get() == before + 1


def test_what_follows_a_commit_cannot_undo_it(database_url: str) -> None:
    ran = []
    with db.connection() as connection:
        db.after_commit(connection, lambda: 1 // 0)
        db.after_commit(connection, lambda: ran.append(True))
    assert ran == [True]


def test_only_the_oldest_tenants_have_labels(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # given five tenants and room for two
    monkeypatch.setenv("LLM_SERVICE_METRICS_TENANT_LABELS", "2")
    settings.cache_clear()
    ids = [uuid4() for _ in range(5)]
    with db.connection() as connection:
        for age, tenant_id in enumerate(ids):
            connection.execute(
                "INSERT INTO tenant (id, name, created_at) VALUES (%s, 'x', now() - make_interval(hours => %s))",
                (tenant_id, 9 - age),
            )
    tenants = Tenants()
    found = [tenants.label(tenant_id) for tenant_id in ids]
    settings.cache_clear()
    # then the two oldest have their own, in every process
    assert found[2:] == [OTHER] * 3
    assert len(set(found)) == 3


def test_no_tenant_has_a_label_by_default() -> None:
    assert settings().metrics_tenant_labels == 0
    assert Tenants().label(uuid4()) is None


def test_the_backlog_is_told_by_the_leader_and_cleared_after(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a worker, and a scheduler that does not lead
    monkeypatch.setenv("REDIS_URL", redis_url)
    settings.cache_clear()
    with db.connection() as connection:
        connection.execute(
            "INSERT INTO worker (id, host, pid, lease_expires_at, capacity)"
            " VALUES (%s, 'here', 1, now() + interval '1 min', 7)",
            (uuid4(),),
        )
    leading = threading.Event()
    backlog = Backlog(leading)
    live = WORKERS.labels("live")
    live.set(0)
    backlog.look()
    assert (live._value.get(), LEADING._value.get()) == (0, 0)
    # when it leads, it tells
    leading.set()
    backlog.look()
    assert (live._value.get(), LEADING._value.get()) == (1, 1)
    assert BATCHES.labels("processing")._value.get() == 0
    # when it no longer does, it says nothing
    leading.clear()
    backlog.look()
    settings.cache_clear()
    assert (live._value.get(), LEADING._value.get()) == (0, 0)


def test_native_shards_are_told_by_state_and_age(database_url: str) -> None:
    # given shards in each state, of a hundred models, each state entered an hour later than the one before it
    shards = {
        "waiting": {"formed_at": 9},
        "sent": {"formed_at": 10, "sent_at": 5},
        "cancelling": {"state": "sent", "formed_at": 10, "sent_at": 5, "cancel_sent_at": 4},
        "handing_back": {"state": "taken_in", "formed_at": 10, "taken_in_at": 3},
        "cleaning": {"state": "taken_in", "formed_at": 10, "sent_at": 8, "taken_in_at": 2},
        "cleaned": {"formed_at": 20},
    }
    with db.connection() as connection:
        for name, fields in shards.items():
            hours = {f"{field}_hours": value for field, value in fields.items() if field != "state"}
            for number in range(100):
                connection.execute(
                    "INSERT INTO native_shard (id, batch_id, lane_id, tenant_id, project_id, connection_id, provider,"
                    " model, created_at, first_n, rows, remaining, state, handing_back, formed_at, sent_at,"
                    " cancel_sent_at, taken_in_at) VALUES (%(id)s, %(id)s, 1, %(id)s, %(id)s, %(id)s, 'anthropic',"
                    " %(model)s, now(), 0, 9, 7, %(state)s, %(handing_back)s,"
                    " now() - make_interval(hours => %(formed_at_hours)s),"
                    " now() - make_interval(hours => %(sent_at_hours)s),"
                    " now() - make_interval(hours => %(cancel_sent_at_hours)s),"
                    " now() - make_interval(hours => %(taken_in_at_hours)s))",
                    dict.fromkeys(("sent_at_hours", "cancel_sent_at_hours", "taken_in_at_hours"))
                    | {
                        "id": uuid4(),
                        "model": f"model-{number}",
                        "state": fields.get("state", name),
                        "handing_back": name == "handing_back",
                    }
                    | hours,
                )
        before = _series("llm_service_native_shards")
        # when they are read
        metrics_native_backlog.read(connection)
    # then each counts where it stands, for as long as it has been there, and those that are done with nowhere
    for state, hours in {"waiting": 9, "sent": 5, "cancelling": 4, "handing_back": 3, "cleaning": 2}.items():
        found = {
            name: REGISTRY.get_sample_value(f"llm_service_native_{name}", {"provider": "anthropic", "state": state})
            for name in ("shards", "shard_rows")
        }
        assert found == {"shards": 100, "shard_rows": 700}, state
        age = REGISTRY.get_sample_value("llm_service_native_oldest_shard_age_seconds", {"state": state})
        assert age == pytest.approx(hours * 3600, abs=60), state
    # and the labels are two providers and five states
    assert _series("llm_service_native_shards") <= before + 10 <= 20
    metrics_native_backlog.clear()
    assert REGISTRY.get_sample_value("llm_service_native_oldest_shard_age_seconds", {"state": "waiting"}) == 0


_CHILD = """
from prometheus_client import Counter, Gauge
from core import metrics
Gauge("held", "", multiprocess_mode="livesum").set(3)
Counter("done", "").inc()
"""
_SCRAPE = "from core import metrics; print(metrics.exposition().decode())"


def test_gauges_of_a_process_that_is_gone_are_gone_and_its_counters_stay(tmp_path: Path) -> None:
    # given a directory that two processes wrote into and left without a word
    env = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", _CHILD], env=env, check=True)
    # when a third is scraped
    text = subprocess.run([sys.executable, "-c", _SCRAPE], env=env, check=True, capture_output=True, text=True).stdout
    # then it tells what they did, and not what they held
    assert "done_total 2.0" in text
    assert "\nheld " not in text


def test_a_process_answers_scrapes_on_a_port_of_its_own(tmp_path: Path) -> None:
    program = (
        "import os, urllib.request\n"
        "from launcher.ports import free_port\n"
        "os.environ['LLM_SERVICE_METRICS_PORT'] = str(free_port())\n"
        "from core import metrics, metrics_process\n"
        "metrics_process.Sampler('worker').sample()\n"
        "metrics.serve()\n"
        "url = f\"http://127.0.0.1:{os.environ['LLM_SERVICE_METRICS_PORT']}/metrics\"\n"
        "print(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url).read().decode())\n"
    )
    for directory in ({}, {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}):
        env = {"PYTHONPATH": ":".join(sys.path)} | directory
        patched = "from gevent import monkey; monkey.patch_all()\n" + program
        text = subprocess.run(
            [sys.executable, "-c", patched], env=env, check=True, capture_output=True, text=True
        ).stdout
        assert 'llm_service_processes{process="worker"} 1.0' in text
