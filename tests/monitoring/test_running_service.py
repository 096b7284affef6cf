"""Every query of every dashboard and rule against what a running service really exports; and that numbers agree."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from core import catalogue
from launcher.client import wait_until
from tests.e2e.receiver import Receiver
from tests.monitoring import files
from tests.monitoring.conftest import IDENTIFIER, NATIVE_ROWS, TENANT_LABELS, Busy, wait_scraped, work
from tests.monitoring.promql import labels_of, metrics_of, with_variables
from tests.monitoring.tools import program

pytestmark = pytest.mark.e2e

#: Labels that come from recording rules' sources and from Prometheus, beside those of the metrics.
_LABELS_OF_PROMETHEUS = {"job", "instance", "le"}


def test_every_metric_that_is_asked_for_is_exported_with_its_labels(busy: Busy) -> None:
    # given what /metrics gives
    exported: dict[str, set[str]] = {}
    for family in busy.scrape().values():
        for sample in family.samples:
            exported.setdefault(sample.name, set()).update(sample.labels)
    # then no query of a rule, a panel or a runbook names anything else
    for where, query in [*files.rule_queries(), *files.panel_queries(), *files.runbook_queries()]:
        asked = metrics_of(with_variables(query))
        assert asked - files.recorded() <= set(exported), where
        known = {label for name in asked for label in exported.get(name, set())} | _LABELS_OF_PROMETHEUS
        if not asked & files.recorded():
            assert {label for metric, label in labels_of(query) if not metric} <= known, where
        for metric, label in labels_of(query):
            assert not metric or metric == "up" or label in exported.get(metric, set()) | _LABELS_OF_PROMETHEUS, where


def test_metrics_agree_with_the_batches_and_their_results(busy: Busy) -> None:
    # given batches that have ended, and two live completions
    counts: Counter[str] = Counter()
    for batch in busy.batches:
        counts.update(batch["request_counts"])
    reasons = Counter(row["error"]["type"] for row in busy.results if row["error"])
    # then what ended, why, what it used and what it cost are the same numbers
    assert busy.total("llm_service_completions_total", status="succeeded") == counts["succeeded"] + 2
    assert busy.total("llm_service_completions_total", status="failed") == counts["failed"] > 0
    for reason, count in reasons.items():
        assert busy.total("llm_service_completion_failures_total", reason=reason) == count
    answers = [*(row["response"] for row in busy.results if row["response"]), *busy.live]
    for kind, field in (("input", "prompt_tokens"), ("output", "completion_tokens")):
        used = sum(answer["usage"][field] for answer in answers)
        assert busy.total("llm_service_tokens_total", type=kind) == used
        # A native batch is no call of the model's: it is in the service's own metrics only.
        native = sum(row["response"]["usage"][field] for row in busy.results if row["processing"] == "native")
        assert busy.total("llm_service_tokens_total", type=kind, processing="native") == native > 0
        assert busy.total("gen_ai_client_token_usage_sum", gen_ai_token_type=kind) == used - native
    cost = float(sum(Decimal(answer["cost_usd"]) for answer in answers))
    assert busy.total("llm_service_cost_usd_total") == pytest.approx(cost, abs=1e-9)
    assert busy.total("llm_service_tenant_cost_usd_total") == pytest.approx(cost, abs=1e-9)


def test_calls_are_what_the_simulator_saw(busy: Busy) -> None:
    ledger = busy.house.simulator.ledger()
    calls = ledger["calls"]
    assert busy.total("llm_service_provider_answers_total") == calls
    assert busy.total("gen_ai_client_operation_duration_seconds_count") == calls
    assert busy.total("llm_service_completion_calls_total") == calls + ledger["native_executed"]
    assert busy.total("llm_service_row_retries_total") > 0


def test_native_batches_are_counted(busy: Busy) -> None:
    # given a batch that went native, whose first create was refused
    native = busy.batches[1]
    assert native["native"]["rows_answered"] == NATIVE_ROWS
    assert busy.total("llm_service_native_rows_sent_total", provider="openai") == NATIVE_ROWS
    assert busy.total("llm_service_native_shards_taken_in_total") == busy.total("llm_service_native_shards_sent_total")
    assert busy.total("llm_service_native_step_failures_total", provider="openai", state="waiting") == 1
    assert busy.total("llm_service_savings_usd_total", processing="native") == pytest.approx(
        float(native["savings_usd"]), abs=1e-9
    )
    # then nothing of it is left, here or at the provider
    wait_scraped(lambda: busy.total("llm_service_native_shards") == 0, 20)


def test_nothing_is_left_in_flight(busy: Busy) -> None:
    wait_scraped(lambda: busy.total("llm_service_calls_in_flight") == 0, 10)
    wait_scraped(lambda: busy.total("llm_service_leases") == busy.total("llm_service_rows_pending") == 0, 10)
    assert busy.total("llm_service_scheduler_leading") == 1
    assert busy.total("llm_service_workers", state="live") == 2
    assert busy.total("llm_service_processes", process="worker") == 2


def test_no_label_holds_an_id_a_key_or_a_name_of_a_callers(busy: Busy) -> None:
    # given a model that nobody knows, named in a live completion
    client = busy.house.client
    client.post("/v1/completions", {"model": "gpt-4o-mini-of-mine", "messages": [{"role": "user", "content": "x"}]})
    models = {model.name for model in catalogue.models()} | {"other"}
    for family in busy.scrape().values():
        for sample in family.samples:
            for label, value in sample.labels.items():
                if label == "tenant":
                    continue
                assert not IDENTIFIER.search(value), (sample.name, label, value)
                if label in ("model", "gen_ai_request_model"):
                    assert value in models, (sample.name, value)


def test_tenants_beyond_the_cap_are_added_up(busy: Busy) -> None:
    # given more tenants than have labels
    for number in range(TENANT_LABELS + 1):
        client = busy.house.new_client(f"labelled {number}")
        question = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]}
        assert client.post("/v1/completions", question).status_code == 200
    found = {
        sample.labels["tenant"]
        for sample in busy.scrape()["llm_service_tenant_completions"].samples
        if sample.name.endswith("_total")
    }
    assert len(found - {"other"}) <= TENANT_LABELS
    assert "other" in found


def test_a_killed_worker_leaves_no_gauges(busy: Busy) -> None:
    # given a worker that is killed and comes back
    started = busy.total("llm_service_rows_started_total")
    busy.house.restart("worker-2", kill=True)
    # then two processes are counted, not three, and no counter went back
    wait_scraped(lambda: busy.total("llm_service_processes", process="worker") == 2, 10)
    assert busy.total("llm_service_rows_started_total") >= started


def test_backlog_gauges_follow_the_leader(busy: Busy) -> None:
    # given a second scheduler's turn
    busy.house.restart("scheduler")
    wait_scraped(lambda: busy.total("llm_service_scheduler_leading") == 1, 20)
    asked_at = time.time()
    wait_scraped(lambda: busy.total("llm_service_backlog_updated_timestamp_seconds") > asked_at, 20)
    # then its figures stand alone; a worker that was killed counts until its lease has run out
    wait_scraped(lambda: busy.total("llm_service_workers", state="live") == 2, 40)


def test_log_lines_of_a_worker_name_batch_and_row(busy: Busy) -> None:
    line = next(line for line in busy.house.log("worker-1").splitlines() if "worker ready" in line)
    assert "process=worker" in line


@pytest.fixture(scope="module")
def prometheus(busy: Busy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prometheus with the rules of monitoring/, scraping the house once a second; its URL."""
    directory: Path = tmp_path_factory.mktemp("prometheus")
    config: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(file) for file in files.RULES],
        "scrape_configs": [
            {"job_name": "api", "static_configs": [{"targets": [busy.house.url.removeprefix("http://")]}]}
        ],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    url = busy.prometheus_url
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address={url.removeprefix('http://')}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: _answers(url), 30, lambda: (directory / "log").read_text()[-2000:])
        yield url
    finally:
        process.terminate()
        process.wait(20)


def test_every_query_returns_data_from_prometheus(busy: Busy, prometheus: str) -> None:
    # given two scrapes, work between them, and the scrapes after it
    wait_scraped(lambda: _samples(prometheus) >= 3, 30)
    with Receiver() as receiver:
        work(busy.house, "scraped", receiver)
    seen = _samples(prometheus)
    wait_scraped(lambda: _samples(prometheus) >= seen + 8, 60)
    # then each panel and each recording rule has numbers
    wait_scraped(
        lambda: not _without_data(prometheus), 30, lambda: f"no data for: {', '.join(_without_data(prometheus))}"
    )
    # and Prometheus evaluates every rule without an error
    groups = requests.get(f"{prometheus}/api/v1/rules", timeout=10).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert [rule for rule in rules if rule.get("lastError")] == []
    assert {rule["name"] for rule in rules} == set(files.alerts()) | files.recorded()
    # and understands what the runbooks have one ask
    for _, query in files.runbook_queries():
        _ask(prometheus, query)


def test_statistics_show_the_load_that_prometheus_knows(busy: Busy, prometheus: str) -> None:
    # given a service that was told of Prometheus, and completions within the last minute
    client = busy.house.client
    question = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "again"}]}
    assert client.post("/v1/completions", question).status_code == 200
    live: dict[str, Any] = {}

    def told() -> bool:
        live.update(client.get(f"/v1/stats/{client.tenant_id}/{client.project_id}").json()["live"])
        return live["source"] == "prometheus" and bool(live["rows_per_second"])

    # then its figures are those of the queries, without a word about a fault
    wait_until(told, 40, lambda: str(live))
    assert (live["in_flight"], live["queue_depth"], live["note"]) == (0, 0, None)


def _without_data(url: str) -> list[str]:
    queries = [*files.panel_queries(), *((name, name) for name in files.recorded())]
    return [where for where, query in queries if not _ask(url, with_variables(query))]


def _ask(url: str, query: str) -> list[Any]:
    answer = requests.get(f"{url}/api/v1/query", params={"query": query}, timeout=10).json()
    assert answer["status"] == "success", (query, answer)
    return list(answer["data"]["result"])


def _samples(url: str) -> int:
    found = _ask(url, 'count_over_time(up{job="api"}[10m])')
    return int(found[0]["value"][1]) if found else 0


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/-/ready", timeout=2).status_code == 200
    except requests.ConnectionError:
        return False
