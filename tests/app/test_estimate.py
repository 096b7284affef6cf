"""POST /v1/batch/estimate: what a batch would take and cost, all that is wrong with it, and nothing is stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from core import db, limits, rollup
from core.dispatch import workers
from core.limits import LimitKey
from core.providers.types import LimitReading, Usage
from core.settings import settings
from tests.app.conftest import Caller, add_provider, request_row

#: 4 + 3 tokens around it and 5 characters: 8 tokens (core/tokens.py)
HELLO_TOKENS = 8


@pytest.fixture(autouse=True)
def _provider(client: FlaskClient, caller: Caller) -> None:
    add_provider(client, caller)


def _lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _estimate(client: FlaskClient, caller: Caller, *rows: dict[str, Any], **options: Any) -> dict[str, Any]:
    answered = client.post("/v1/batch/estimate", json={"requests": list(rows), **options}, headers=caller.headers)
    assert answered.status_code == 200, answered.text
    found: dict[str, Any] = answered.get_json()
    return found


def _post_lines(client: FlaskClient, caller: Caller, data: bytes, query: str = "") -> Any:
    return client.post(
        "/v1/batch/estimate" + query, data=data, content_type="application/x-ndjson", headers=caller.headers
    )


def _stored() -> dict[str, int]:
    """The rows of every table."""
    with db.connection() as connection:
        names = connection.execute(
            "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p') AND n.nspname = 'public'"
        ).fetchall()
        counts = {}
        for row in names:
            counted = connection.execute(f"SELECT count(*) AS n FROM {row['name']}").fetchone()
            assert counted is not None
            counts[row["name"]] = int(counted["n"])
    return counts


def test_rows_tokens_and_cost_and_nothing_is_stored(client: FlaskClient, caller: Caller) -> None:
    before = _stored()
    # when ten rows of a model at 0.15 and 0.60 USD per million tokens are looked at
    rows = [request_row(f"r{n}", model="gpt-4o-mini", max_tokens=100) for n in range(10)]
    found = _estimate(client, caller, *rows)
    # then everything that is known is said
    assert (found["valid"], found["rows"], found["invalid_rows"], found["errors"]) == (True, 10, 0, [])
    model = found["models"][0]
    assert (model["provider"], model["model"], model["rows"]) == ("openai", "gpt-4o-mini", 10)
    assert (model["input_tokens"], model["output_tokens_max"]) == (10 * HELLO_TOKENS, 1000)
    assert model["rows_without_max_tokens"] == 0
    assert model["cost_usd"] == {"realtime": "0.000612", "native": "0.000306", "chosen": "0.000612"}
    assert (model["processing"], "fewer than" in model["processing_reason"]) == ("realtime", True)
    assert found["totals"]["cost_usd"] == model["cost_usd"]
    assert found["totals"]["expected_duration_seconds"] == 5.0
    assert found["totals"]["within_max_cost"] is None
    # and nothing was kept
    assert _stored() == before


def test_lines_cost_what_the_same_rows_cost_as_json(client: FlaskClient, caller: Caller) -> None:
    rows = [request_row(f"r{n}", max_tokens=n + 1) for n in range(5)]
    as_json = _estimate(client, caller, *rows, completion_window="2h", max_cost_usd="3", metadata={"a": "b"}, name="n")
    as_lines = _post_lines(
        client, caller, _lines(*rows), "?completion_window=2h&max_cost_usd=3&metadata[a]=b&name=n"
    ).get_json()
    assert as_lines == as_json
    assert (as_json["completion_window_seconds"], as_json["max_cost_usd"]) == (7200, "3")


def test_everything_that_is_wrong_at_once_beside_the_figures_of_the_rest(client: FlaskClient, caller: Caller) -> None:
    data = (
        _lines(request_row("a"))
        + b"{not json\n"
        + _lines(
            request_row("a"),
            request_row("b", model="no-such-model"),
            {"custom_id": "c", "model": "gpt-4", "temperature": 9},
            request_row("d"),
        )
    )
    answered = _post_lines(client, caller, data)
    assert answered.status_code == 200, answered.text
    found = answered.get_json()
    assert (found["valid"], found["rows"], found["invalid_rows"]) == (False, 6, 4)
    assert {(error["line"], error["pointer"]) for error in found["errors"]} == {
        (2, ""),
        (3, "/custom_id"),
        (4, "/model"),
        (5, "/messages"),
        (5, "/temperature"),
    }
    assert found["totals"]["rows"] == found["models"][0]["rows"] == 2
    # as JSON the same row is named by its place
    (error,) = _estimate(client, caller, request_row(), request_row(model="no-such-model"))["errors"]
    assert error["pointer"] == "/requests/1/model"
    assert "openai" in error["message"]


def test_the_first_hundred_of_many_bad_rows(client: FlaskClient, caller: Caller) -> None:
    found = _post_lines(client, caller, b"{}\n" * 250).get_json()
    assert (found["rows"], found["invalid_rows"], found["models"]) == (250, 250, [])
    assert {error["line"] for error in found["errors"]} == set(range(1, 101))
    assert found["totals"]["cost_usd"] == {"realtime": "0", "native": "0", "chosen": "0"}


def test_a_custom_id_of_an_earlier_chunk_is_found(
    client: FlaskClient, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.batches.reading.CHUNK_ROWS", 2)
    rows = [request_row(custom_id) for custom_id in ("a", "b", "c", "d", "a")]
    (error,) = _post_lines(client, caller, _lines(*rows)).get_json()["errors"]
    assert (error["line"], error["pointer"]) == (5, "/custom_id")


def test_what_post_refuses_is_refused(client: FlaskClient, caller: Caller) -> None:
    for data, query, status in [
        (b"", "", 400),
        (_lines(request_row()), "?priority=high", 400),
        (_lines(request_row()), "?metadata=x", 400),
        (_lines(request_row()), "?name=a&name=b", 400),
        (_lines(request_row()), "?no_such_option=1", 400),
        (b"x" * (1 << 20) + b"xx", "", 413),
    ]:
        submitted = client.post(
            "/v1/batch" + query, data=data, content_type="application/x-ndjson", headers=caller.headers
        )
        estimated = _post_lines(client, caller, data, query)
        assert submitted.status_code == estimated.status_code == status, (data[:50], query, estimated.text)
        for problem in (mine := submitted.get_json(), theirs := estimated.get_json()):
            problem.pop("request_id")
        assert mine == theirs
    for body in ({}, {"requests": []}, {"requests": [request_row()], "completion_window": "1y"}, {"requests": "x"}):
        submitted = client.post("/v1/batch", json=body, headers=caller.headers)
        estimated = client.post("/v1/batch/estimate", json=body, headers=caller.headers)
        assert submitted.status_code == estimated.status_code == 400
        assert submitted.get_json()["errors"] == estimated.get_json()["errors"]


def test_models_of_several_providers_and_one_without_a_price(client: FlaskClient, caller: Caller) -> None:
    # given three providers, and an alias
    add_provider(client, caller, providerType="anthropic")
    add_provider(client, caller, providerType="openai_compatible", name="mine", baseUrl="http://127.0.0.1:9")
    client.put("/v1/model-mappings/fast", json={"model": "gpt-4o-mini"}, headers=caller.headers)
    # when rows for all of them are looked at
    found = _estimate(
        client,
        caller,
        *[request_row(model="fast", max_tokens=10)] * 3,
        *[request_row(model="claude-sonnet-4-5", max_tokens=10)] * 2,
        request_row(model="mine/llama"),
    )
    # then each is there under the model that is called, the one with most rows first
    by_model = {(each["provider"], each["model"]): each for each in found["models"]}
    assert list(by_model) == [
        ("openai", "gpt-4o-mini"),
        ("anthropic", "claude-sonnet-4-5"),
        ("openai_compatible", "llama"),
    ]
    llama = by_model["openai_compatible", "llama"]
    # and what has no price has no cost, and says so
    assert llama["cost_usd"] == {"realtime": None, "native": None, "chosen": None}
    assert any("no price" in note for note in llama["notes"])
    assert any("1 rows set no max_tokens" in note for note in llama["notes"])
    totals = found["totals"]
    assert (totals["rows"], totals["unpriced_rows"]) == (6, 1)
    priced = [Decimal(each["cost_usd"]["realtime"]) for each in found["models"] if each is not llama]
    assert Decimal(totals["cost_usd"]["realtime"]) == sum(priced)


def test_embeddings_cost_their_input(client: FlaskClient, caller: Caller) -> None:
    found = _estimate(client, caller, *[{"model": "text-embedding-3-small", "input": "x" * 4000}] * 10)
    (model,) = found["models"]
    assert (model["output_tokens_max"], model["rows_without_max_tokens"]) == (0, 0)
    # at 0.02 USD per million tokens
    cost = Decimal(model["input_tokens"]) * Decimal("0.02") / 1_000_000
    assert Decimal(model["cost_usd"]["realtime"]) == cost
    assert Decimal(model["cost_usd"]["native"]) == cost / 2
    # there is nothing that could get shorter than the limit
    assert Decimal(found["totals"]["expected"]["cost_usd"]) == cost


def test_max_cost_usd_is_held_against_the_cost(client: FlaskClient, caller: Caller) -> None:
    rows = [request_row(f"r{n}", model="gpt-4o-mini", max_tokens=100) for n in range(10)]
    for limit, within in [("0.0006", False), ("0.0007", True)]:
        totals = _estimate(client, caller, *rows, max_cost_usd=limit)["totals"]
        assert totals["within_max_cost"] is within
    add_provider(client, caller, providerType="openai_compatible", name="mine", baseUrl="http://127.0.0.1:9")
    # what has no price makes it unsure
    totals = _estimate(client, caller, *rows, request_row(model="mine/llama"), max_cost_usd="0.0007")["totals"]
    assert totals["within_max_cost"] is None


def test_auto_takes_native_where_it_pays(client: FlaskClient, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [request_row(model="gpt-4o-mini", max_tokens=100)] * 1000
    data = _lines(*rows)
    auto = _post_lines(client, caller, data).get_json()["models"][0]
    assert (auto["processing"], auto["cost_usd"]["chosen"]) == ("native", auto["cost_usd"]["native"])
    short = _post_lines(client, caller, data, "?completion_window=1h").get_json()["models"][0]
    assert (short["processing"], short["cost_usd"]["chosen"]) == ("realtime", short["cost_usd"]["realtime"])
    assert "window" in short["processing_reason"]
    realtime = _post_lines(client, caller, data, "?processing=realtime").get_json()["models"][0]
    assert (realtime["processing"], realtime["processing_reason"]) == ("realtime", "asked for")


@pytest.mark.parametrize("query", ["", "?completion_window=1h", "?processing=native", "?processing=realtime"])
def test_the_processing_is_what_the_batch_gets(client: FlaskClient, caller: Caller, query: str) -> None:
    # given rows of models with and without a batch API, enough and too few, and some with a tier of their own
    add_provider(client, caller, providerType="openai_compatible", name="mine", baseUrl="http://127.0.0.1:9")
    data = _lines(
        *[request_row(model="gpt-4o-mini", max_tokens=100)] * 1000,
        *[request_row(model="gpt-4o-mini", service_tier="flex")] * 3,
        *[request_row(model="gpt-4o")] * 5,
        *[request_row(model="mine/llama")] * 4,
    )
    estimated = _post_lines(client, caller, data, query).get_json()["models"]
    made = client.post(
        "/v1/batch" + query, data=data, content_type="application/x-ndjson", headers=caller.headers
    ).get_json()
    assert [(each["rows"], each["processing"], each["processing_reason"]) for each in estimated] == [
        (each["rows"], each["processing"], each["reason"])
        for each in sorted(made["processing_plan"], key=lambda each: -each["rows"])
    ]


def test_limits_configured_and_learned_make_the_duration(client: FlaskClient, caller: Caller) -> None:
    rows = [request_row(model="gpt-4o-mini", max_tokens=100)] * 100
    free = _estimate(client, caller, *rows)["models"][0]
    assert free["limits"]["requests_per_minute"] is None
    assert any("no limit per minute" in note for note in free["notes"])
    # when the owner says 60 requests a minute
    made = add_provider(client, caller, limits={"requestsPerMinute": 60})
    configured = _estimate(client, caller, *rows)
    assert configured["models"][0]["limits"]["requests_per_minute"] == 60
    assert configured["models"][0]["expected_duration_seconds"] == pytest.approx(105.5, abs=0.1)
    # and the provider that this model's tokens are fewer
    connection_id = UUID(hex=made["id"].removeprefix("prov_"))
    limits.observe(
        LimitKey(connection_id, "gpt-4o-mini"),
        [LimitReading(kind="tokens", limit=1000, remaining=1000, reset_seconds=None)],
    )
    limits.flush()
    learned = _estimate(client, caller, *rows, request_row(model="gpt-4"))
    assert learned["models"][0]["limits"]["tokens_per_minute"] == 1000
    # 10,800 tokens at 1,000 a minute
    assert learned["models"][0]["expected_duration_seconds"] == pytest.approx(656, abs=2)
    assert learned["totals"]["expected_duration_seconds"] == learned["models"][0]["expected_duration_seconds"]


def test_without_redis_only_configured_limits_count(
    client: FlaskClient, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_provider(client, caller, providerType="anthropic", limits={"requestsPerMinute": 60})
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    settings.cache_clear()
    found = _estimate(client, caller, request_row(), request_row(), request_row(model="claude-sonnet-4-5"))
    unlimited, limited = found["models"]
    assert any("cannot be read" in note for note in unlimited["notes"])
    assert limited["limits"]["requests_per_minute"] == 60


def test_models_that_share_limits_wait_for_each_other(client: FlaskClient, caller: Caller) -> None:
    add_provider(client, caller, providerType="anthropic", limits={"requestsPerMinute": 60, "maxConcurrency": 5})
    rows = [request_row(model=model) for model in ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929")] * 50
    found = _estimate(client, caller, *rows)
    alone = [model["expected_duration_seconds"] for model in found["models"]]
    assert len(alone) == 2
    assert found["totals"]["expected_duration_seconds"] > 1.8 * max(alone)


def test_workers_bound_the_rows_in_flight(client: FlaskClient, caller: Caller) -> None:
    rows = [request_row()] * 100
    none = _estimate(client, caller, *rows)["totals"]
    assert any("no worker" in note for note in none["notes"])
    workers.register(10)
    some = _estimate(client, caller, *rows)["totals"]
    # a hundred calls of 5 s, ten at once
    assert (some["expected_duration_seconds"], some["notes"]) == (50.0, [])
    assert some["within_window"]


def _ended(caller: Caller, calls: int, *, model: str, output_tokens: int, milliseconds: float) -> None:
    """Calls of a project that succeeded just now."""
    sums = rollup.Sums()
    key = rollup.Key(
        caller.principal.project_id,
        rollup.hour_of(datetime.now(UTC)),
        "openai",
        model,
        "realtime",
        "succeeded",
        "",
    )
    for _ in range(calls):
        sums.add(
            key,
            caller.principal.tenant_id,
            attempts=1,
            usage=Usage(input_tokens=10, output_tokens=output_tokens),
            cost_usd=Decimal("0.001"),
            list_cost_usd=Decimal("0.001"),
            duration_ms=milliseconds,
        )
    with db.connection() as connection:
        sums.write(connection)


def test_the_projects_last_calls_say_what_to_expect_and_nobody_elses(
    client: FlaskClient, caller: Caller, stranger: Caller
) -> None:
    rows = [request_row(model="gpt-4o-mini", max_tokens=100)] * 10
    # given many calls of a stranger, and too few of one's own
    _ended(stranger, 50, model="gpt-4o-mini", output_tokens=7, milliseconds=60_000)
    _ended(caller, 19, model="gpt-4o-mini", output_tokens=20, milliseconds=2000)
    found = _estimate(client, caller, *rows)
    assert found["models"][0]["expected"] is None
    assert found["totals"]["expected"] is None
    assert found["models"][0]["seconds_per_call"] == 5.0
    # when there are enough
    _ended(caller, 1, model="gpt-4o-mini", output_tokens=20, milliseconds=2000)
    found = _estimate(client, caller, *rows)
    # then they say how long answers are, and how long they take
    model = found["models"][0]
    assert model["expected"] == {"output_tokens": 200, "cost_usd": "0.000132"}
    assert found["totals"]["expected"] == model["expected"]
    assert model["seconds_per_call"] == pytest.approx(2.0, rel=0.05)
    assert not any("assumed" in note for note in model["notes"])


def test_a_tenant_sees_its_own_providers_only(client: FlaskClient, caller: Caller, stranger: Caller) -> None:
    # given a mapping and a provider of one tenant
    add_provider(client, caller, providerType="anthropic")
    client.put("/v1/model-mappings/gpt-4", json={"model": "claude-sonnet-4-5"}, headers=caller.headers)
    # when another asks for the same names
    add_provider(client, stranger)
    assert _estimate(client, stranger, request_row())["models"][0]["provider"] == "openai"
    found = _estimate(client, stranger, request_row(model="claude-sonnet-4-5"))
    # then neither is there
    assert (found["valid"], found["models"]) == (False, [])
    assert "not configured" in found["errors"][0]["message"]


def test_a_key_that_stopped_working_is_mentioned(client: FlaskClient, caller: Caller) -> None:
    with db.connection() as connection:
        connection.execute(
            "UPDATE connection SET state = 'stopped' WHERE project_id = %s", (caller.principal.project_id,)
        )
    assert any("key" in note for note in _estimate(client, caller, request_row())["models"][0]["notes"])


def test_a_get_is_not_an_estimate(client: FlaskClient, caller: Caller) -> None:
    assert client.get("/v1/batch/estimate", headers=caller.headers).status_code == 404
    assert client.post("/v1/batch/estimate", json={"requests": [request_row()]}).status_code == 401


def test_the_document_shows_it(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    operation = document["paths"]["/v1/batch/estimate"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", "application/x-ndjson"}
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    schemas = document["components"]["schemas"]
    assert set(example) == set(schemas["Estimate"]["properties"])
    assert set(example["totals"]) == set(schemas["EstimateTotals"]["properties"])
    assert set(example["models"][0]) == set(schemas["EstimatedModel"]["properties"])
    options = {each["name"] for each in operation["parameters"]}
    assert options == {
        each["name"] for each in document["paths"]["/v1/batch"]["post"]["parameters"] if each["in"] == "query"
    }


def test_the_answer_is_what_the_document_says(client: FlaskClient, caller: Caller) -> None:
    schemas = client.get("/openapi.json").get_json()["components"]["schemas"]
    found = _estimate(client, caller, request_row())
    assert set(found) == set(schemas["Estimate"]["properties"])
    assert set(found["totals"]) == set(schemas["EstimateTotals"]["properties"])
    assert set(found["models"][0]) == set(schemas["EstimatedModel"]["properties"])
