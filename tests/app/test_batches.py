"""Batches over HTTP: taken in as JSON or lines, once per idempotency key, shown, stopped, given back."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import submissions
from core import db, idempotency
from core.batches import control, ingest
from tests.app.conftest import Caller, add_provider, batch_uuid, request_row


@pytest.fixture(autouse=True)
def _provider(client: FlaskClient, caller: Caller) -> None:
    add_provider(client, caller)


def _lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _post_lines(client: FlaskClient, caller: Caller, data: bytes, query: str = "", **headers: str) -> Any:
    return client.post(
        "/v1/batch" + query, data=data, content_type="application/x-ndjson", headers={**caller.headers, **headers}
    )


def _post(client: FlaskClient, caller: Caller, *rows: dict[str, Any], **options: Any) -> dict[str, Any]:
    answered = client.post("/v1/batch", json={"requests": list(rows), **options}, headers=caller.headers)
    assert answered.status_code == 201, answered.text
    found: dict[str, Any] = answered.get_json()
    return found


def _count_batches() -> int:
    with db.connection() as connection:
        row = connection.execute("SELECT count(*) AS n FROM batch").fetchone()
    assert row is not None
    return int(row["n"])


def _end(batch_id: str) -> None:
    """End a batch as if its rows had all failed."""
    with db.connection() as connection:
        connection.execute(
            "UPDATE completion SET status = 'failed', error_type = 'timeout', error_message = 'too slow',"
            " ended_at = now() WHERE batch_id = %s",
            (batch_uuid(batch_id),),
        )
        connection.execute(
            "UPDATE batch SET status = 'failed', ended_at = now(), failed = total, dispatched = total WHERE id = %s",
            (batch_uuid(batch_id),),
        )


def test_a_batch_is_created_shown_and_listed(client: FlaskClient, caller: Caller) -> None:
    # when a batch is submitted
    made = _post(client, caller, request_row("a"), request_row("b"), name="n", metadata={"team": "x"})
    # then it is there as it was answered
    assert made["id"].startswith("batch_")
    assert (made["status"], made["name"], made["metadata"]) == ("pending", "n", {"team": "x"})
    assert made["request_counts"]["total"] == made["request_counts"]["pending"] == 2
    assert client.get(f"/v1/batch/{made['id']}", headers=caller.headers).get_json()["id"] == made["id"]
    listed = client.get("/v1/batch?status=pending&limit=20", headers=caller.headers).get_json()
    assert ([each["id"] for each in listed["data"]], listed["has_more"]) == ([made["id"]], False)


def test_lines_with_options_in_the_query(client: FlaskClient, caller: Caller) -> None:
    answered = _post_lines(
        client,
        caller,
        _lines(request_row("a"), request_row("b")),
        "?name=big&metadata[team]=x&metadata[stage]=y&priority=3&completion_window=2h",
    )
    assert answered.status_code == 201, answered.text
    found = answered.get_json()
    assert (found["name"], found["metadata"], found["priority"]) == ("big", {"team": "x", "stage": "y"}, 3)
    assert found["request_counts"]["total"] == 2


def test_batches_that_come_in_slowly_leave_connections_to_everybody(
    client: FlaskClient, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: as many retries at once as there are connections, each of which reads its rows with a second one
    made = _post(client, caller, request_row("a"))
    _end(made["id"])
    inside = itertools.count(1)
    all_inside = threading.Event()
    read = control._again

    def again(*given: Any) -> Iterator[dict[str, Any]]:
        if next(inside) == db.POOL_SIZE:
            all_inside.set()
        all_inside.wait(2)
        return read(*given)

    monkeypatch.setattr(control, "_again", again)
    # when
    with ThreadPoolExecutor(db.POOL_SIZE) as beside:
        path = f"/v1/batch/{made['id']}/retry"
        asked = [
            beside.submit(client.application.test_client().post, path, headers=caller.headers)
            for _ in range(db.POOL_SIZE)
        ]
        answered = [each.result(60) for each in asked]
    # then: half of them were taken in, the others are told to come again, and nobody was left without a connection
    assert Counter(each.status_code for each in answered) == {201: submissions.AT_ONCE, 429: submissions.AT_ONCE}
    assert {each.headers["retry-after"] for each in answered if each.status_code == 429} == {"2"}


@pytest.mark.parametrize("name", ["a\0b", "a\tb", "a" * 257, "", 7])
def test_the_model_of_embeddings_is_a_name_that_can_be_stored(client: FlaskClient, caller: Caller, name: Any) -> None:
    # given: a server that may have models of any name
    add_provider(client, caller, providerType="openai_compatible", name="own", baseUrl="http://127.0.0.1:9/v1")
    # when
    answered = _post_lines(client, caller, _lines({"model": name, "input": "x"}))
    # then
    assert answered.status_code == 400, answered.text
    assert [found["pointer"] for found in answered.get_json()["errors"]] == ["/model"]
    assert _count_batches() == 0


def test_empty_lines_are_no_rows_and_count_as_lines(client: FlaskClient, caller: Caller) -> None:
    good = _lines(request_row("a"))
    made = _post_lines(client, caller, b"\n" + good.strip() + b"\n\r\n  \n")
    assert made.status_code == 201, made.text
    assert made.get_json()["request_counts"]["total"] == 1
    refused = _post_lines(client, caller, good.strip() + b"\n\n{}\n")
    assert refused.status_code == 400
    assert {found["line"] for found in refused.get_json()["errors"]} == {3}
    assert "1 of 2 rows" in refused.get_json()["detail"]


@pytest.mark.parametrize(
    "query", ["?nmae=x", "?metadata=x", "?name=a&name=b", "?priority=high", "?webhook_url=ftp://x"]
)
def test_odd_options_of_lines_are_refused(client: FlaskClient, caller: Caller, query: str) -> None:
    answered = _post_lines(client, caller, _lines(request_row("a")), query)
    assert answered.status_code == 400, answered.text
    # named as what they are: parameters of the query
    assert [found["pointer"] for found in answered.get_json()["errors"]] == [query.partition("=")[0]]
    assert _count_batches() == 0


def test_wrong_options_and_wrong_rows_are_reported_at_once(client: FlaskClient, caller: Caller) -> None:
    # given a body of JSON with a wrong option, a wrong row, a custom_id twice, and an option in the query
    rows = [request_row("a"), {"model": "gpt-4"}, request_row("a")]
    answered = client.post("/v1/batch?max_cost_usd=5", json={"requests": rows, "priority": 99}, headers=caller.headers)
    # then all four are told
    assert answered.status_code == 400
    pointers = {found["pointer"] for found in answered.get_json()["errors"]}
    assert pointers == {"?max_cost_usd", "/priority", "/requests/1/messages", "/requests/2/custom_id"}
    assert _count_batches() == 0


def test_all_wrong_rows_are_reported_and_nothing_is_kept(client: FlaskClient, caller: Caller) -> None:
    # given two wrong rows among good ones
    data = _lines(request_row("a"), {"custom_id": "b", "model": "gpt-4"}, request_row("c")) + b"{not json\n"
    answered = _post_lines(client, caller, data)
    # then both are named by line
    assert answered.status_code == 400
    assert {found["line"] for found in answered.get_json()["errors"]} == {2, 4}
    assert _count_batches() == 0


def test_a_duplicate_custom_id_is_refused(client: FlaskClient, caller: Caller) -> None:
    body = {"requests": [request_row("a"), request_row("a")]}
    answered = client.post("/v1/batch", json=body, headers=caller.headers)
    assert answered.status_code == 400
    # only the repetition: the first may have it
    assert [found["pointer"] for found in answered.get_json()["errors"]] == ["/requests/1/custom_id"]
    assert answered.get_json()["detail"].startswith("1 of 2 rows")


def test_a_line_over_the_limit_is_413_with_the_limit(client: FlaskClient, caller: Caller) -> None:
    answered = _post_lines(client, caller, _lines(request_row("a")) + b"x" * (2 << 20))
    assert answered.status_code == 413
    assert "1,048,576" in answered.get_json()["detail"]
    assert _count_batches() == 0


def test_a_body_over_the_limit_is_413_with_the_limit(client: FlaskClient, caller: Caller) -> None:
    answered = client.post("/v1/batch", data=b"x" * (5 << 20), content_type="application/json", headers=caller.headers)
    assert answered.status_code == 413
    assert "4,194,304" in answered.get_json()["detail"]


@pytest.mark.parametrize("form", ["json", "lines"])
def test_one_key_makes_one_batch(client: FlaskClient, caller: Caller, form: str) -> None:
    def send(*rows: dict[str, Any]) -> Any:
        if form == "lines":
            return _post_lines(client, caller, _lines(*rows), **{"Idempotency-Key": "k-1"})
        return client.post(
            "/v1/batch", json={"requests": list(rows)}, headers={**caller.headers, "Idempotency-Key": "k-1"}
        )

    # given a batch made under a key
    first = send(request_row("a"))
    assert first.status_code == 201
    assert "idempotent-replayed" not in first.headers
    # when the same comes again
    again = send(request_row("a"))
    # then the first answer comes again, and there is one batch
    assert (again.status_code, again.get_json()) == (201, first.get_json())
    assert again.headers["idempotent-replayed"] == "true"
    # and another body under the key is a conflict
    assert send(request_row("b")).status_code == 409
    assert _count_batches() == 1


def test_a_key_in_flight_is_409(client: FlaskClient, caller: Caller) -> None:
    idempotency.claim(caller.principal, "k-1")
    answered = client.post(
        "/v1/batch", json={"requests": [request_row()]}, headers={**caller.headers, "Idempotency-Key": "k-1"}
    )
    assert answered.status_code == 409
    assert _count_batches() == 0


def test_a_refused_request_gives_its_key_back(client: FlaskClient, caller: Caller) -> None:
    headers = {**caller.headers, "Idempotency-Key": "k-1"}
    assert client.post("/v1/batch", json={"requests": []}, headers=headers).status_code == 400
    assert client.post("/v1/batch", json={"requests": [request_row()]}, headers=headers).status_code == 201


def test_a_commit_that_fails_leaves_neither_batch_nor_answer(
    client: FlaskClient, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a database that goes away at the commit
    real = ingest.submit

    def submit(*arguments: Any, **named: Any) -> Any:
        options = arguments[2]
        before = options.on_commit

        def on_commit(connection: Any, batch_id: Any) -> None:
            before(connection, batch_id)
            raise db.DatabaseDown

        object.__setattr__(options, "on_commit", on_commit)
        return real(*arguments, **named)

    headers = {**caller.headers, "Idempotency-Key": "k-1"}
    body = {"requests": [request_row()]}
    with monkeypatch.context() as patched:
        patched.setattr(ingest, "submit", submit)
        answered = client.post("/v1/batch", json=body, headers=headers)
    assert answered.status_code == 503
    # when it is sent again, then there is one batch
    assert client.post("/v1/batch", json=body, headers=headers).status_code == 201
    assert _count_batches() == 1


def test_results_are_425_until_the_end(client: FlaskClient, caller: Caller) -> None:
    made = _post(client, caller, request_row("a"), request_row("b"))
    path = f"/v1/batch/{made['id']}/results"
    # given a batch that runs
    early = client.get(path, headers=caller.headers)
    assert early.status_code == 425
    assert int(early.headers["Retry-After"]) >= 1
    partial = client.get(path + "?partial=true", headers=caller.headers)
    assert (partial.status_code, partial.get_json()["data"]) == (200, [])
    # when it has ended
    _end(made["id"])
    # then they come as JSON and as lines
    found = client.get(path, headers=caller.headers)
    assert {row["custom_id"] for row in found.get_json()["data"]} == {"a", "b"}
    lines = client.get(path, headers={**caller.headers, "Accept": "application/x-ndjson"})
    assert lines.content_type == "application/x-ndjson"
    assert [json.loads(line) for line in lines.text.splitlines()] == found.get_json()["data"]


def test_a_batch_is_cancelled_once(client: FlaskClient, caller: Caller) -> None:
    made = _post(client, caller, request_row("a"))
    answered = client.post(f"/v1/batch/{made['id']}/cancel", headers=caller.headers)
    assert (answered.status_code, answered.get_json()["status"]) == (200, "cancelled")


def test_what_has_ended_is_not_cancelled_but_deleted(client: FlaskClient, caller: Caller) -> None:
    made = _post(client, caller, request_row("a"))
    path = f"/v1/batch/{made['id']}"
    assert client.delete(path, headers=caller.headers).status_code == 409
    _end(made["id"])
    assert client.post(path + "/cancel", headers=caller.headers).status_code == 409
    assert client.delete(path, headers=caller.headers).status_code == 204
    assert client.get(path, headers=caller.headers).status_code == 404


def test_paused_and_resumed(client: FlaskClient, caller: Caller) -> None:
    made = _post(client, caller, request_row("a"), max_cost_usd="1")
    path = f"/v1/batch/{made['id']}"
    assert client.post(path + "/pause", headers=caller.headers).get_json()["status"] == "paused"
    resumed = client.post(path + "/resume", json={"max_cost_usd": "2.50"}, headers=caller.headers)
    assert (resumed.get_json()["status"], resumed.get_json()["max_cost_usd"]) == ("pending", "2.5")
    # a batch that runs takes a new limit as well: it would pause at its old one
    again = client.post(path + "/resume", json={"max_cost_usd": "4"}, headers=caller.headers)
    assert (again.status_code, again.get_json()["max_cost_usd"]) == (200, "4")


def test_failed_rows_are_retried_as_a_batch_of_their_own(client: FlaskClient, caller: Caller) -> None:
    made = _post(client, caller, request_row("a"), request_row("b"))
    path = f"/v1/batch/{made['id']}/retry"
    assert client.post(path, headers=caller.headers).status_code == 409
    _end(made["id"])
    answered = client.post(path + "?only=failed", headers=caller.headers)
    assert answered.status_code == 201
    assert (answered.get_json()["retry_of"], answered.get_json()["request_counts"]["total"]) == (made["id"], 2)
    refused = client.post(path + "?only=failed,lost", headers=caller.headers)
    assert (refused.status_code, refused.get_json()["errors"][0]["pointer"]) == (400, "?only")


def test_another_tenants_batch_does_not_exist(client: FlaskClient, caller: Caller, stranger: Caller) -> None:
    path = f"/v1/batch/{_post(client, caller, request_row('a'))['id']}"
    for method, tail in (
        ("GET", ""),
        ("GET", "/results"),
        ("GET", "/results?partial=true"),
        ("POST", "/cancel"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/retry"),
        ("DELETE", ""),
    ):
        assert client.open(path + tail, method=method, headers=stranger.headers).status_code == 404, tail
    assert client.get("/v1/batch", headers=stranger.headers).get_json()["data"] == []


def test_a_model_nobody_serves_is_400_with_the_way_out(client: FlaskClient, caller: Caller) -> None:
    body = {"requests": [request_row("a", model="claude-sonnet-4-5")]}
    answered = client.post("/v1/batch", json=body, headers=caller.headers)
    assert answered.status_code == 400
    assert "POST /v1/providers" in answered.text
