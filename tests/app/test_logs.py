"""Logs over HTTP: filtered, searched, paged, exported, each project's own, and without bodies where that is asked."""

from __future__ import annotations

import csv
import io
import json
import runpy
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from core import db
from core.dispatch import live, rescue, workers
from core.dispatch.record import Again, record
from core.failed_calls import KEPT
from core.ids import public
from core.logbook import read, search
from core.providers.types import Failure
from core.states import FailureReason
from launcher.postgres import Postgres
from tests.app.logged import Project, count, write_live
from tests.core.dispatch.world import execute, failed, succeeded


@pytest.fixture
def project(client: FlaskClient) -> Project:
    return Project()


def _get(client: FlaskClient, project: Project, query: str = "", **headers: str) -> Any:
    return client.get(project.logs + query, headers={**project.headers, **headers})


def _logs(client: FlaskClient, project: Project, query: str = "") -> list[dict[str, Any]]:
    """All that pass, page by page."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answered = _get(client, project, f"?{query}{cursor}")
        assert answered.status_code == 200, answered.text
        page = answered.get_json()
        found += page["data"]
        if not page["has_more"]:
            assert page["next_cursor"] is None
            return found
        cursor = f"&cursor={page['next_cursor']}"


def test_a_live_completion_is_logged_with_all_that_is_known(client: FlaskClient, project: Project) -> None:
    write_live(project.live_row(first_token_ms=80))
    (log,) = _logs(client, project)
    assert log["prompt"] == [{"role": "user", "content": "2 + 2?"}]
    assert log["response"]["choices"][0]["message"]["content"] == "4"
    assert (log["model_requested"], log["model"], log["model_answered"]) == (
        "fast",
        "gpt-4o-mini",
        "gpt-4o-mini-2024-07-18",
    )
    assert log["usage"] == {"input_tokens": 12, "output_tokens": 3, "cached_tokens": 4, "reasoning_tokens": 1}
    assert (log["cost_usd"], log["savings_usd"]) == ("0.0000027", "0.0000003")
    assert (log["time_to_first_token_ms"], log["duration_ms"]) == (80, 1000)
    assert (log["status"], log["error"], log["batch_id"], log["request_id"]) == ("succeeded", None, None, "req_1")
    # and by its id
    one = client.get(f"{project.logs}/{log['id']}", headers=project.headers).get_json()
    assert one["request"]["model"] == "fast"
    assert {name: one[name] for name in log} == log


def test_a_completion_that_cannot_be_stored_is_logged_without_its_bodies(
    client: FlaskClient, project: Project, caplog: pytest.LogCaptureFixture, postgres: Postgres
) -> None:
    # given: an answer with a character that no text of the database holds, among others
    live._next = live.BLOCK_SIZE
    recorder = live.new_recorder()
    rows = [project.live_row(request_id=f"req_{number}", prompt="canary-of-a-prompt") for number in range(3)]
    rows[1].response = 'canary-of-an-answer "\0"'
    # when
    for row in rows:
        recorder.put(row)
    assert recorder.drain(20)
    # then: it is counted and paid for as the others are
    found = {log["request_id"]: log for log in _logs(client, project)}
    assert {log["cost_usd"] for log in found.values()} == {"0.0000027"}
    assert [found[f"req_{number}"]["prompt"] is None for number in range(3)] == [False, True, False]
    assert client.get(project.stats, headers=project.headers).get_json()["totals"]["requests"] == 3
    # and what the server quotes of a row is in no log
    assert "could not record" in caplog.text
    assert "canary" not in caplog.text
    servers = (postgres.directory / "server.log").read_text(errors="replace")
    assert "unsupported Unicode escape sequence" in servers
    assert "canary-of-an-answer" not in servers


def test_a_process_that_stops_writes_its_last_completions_first(
    client: FlaskClient, project: Project, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: a completion whose caller has gone, and a database that is slow to take it
    monkeypatch.setenv("LLM_SERVICE_API_PROCESSES", "1")
    hooks = runpy.run_path("app/gunicorn_conf.py")
    live._next = live.BLOCK_SIZE
    with psycopg.connect(database_url) as slow, ThreadPoolExecutor(1) as beside:
        slow.execute("LOCK TABLE completion IN ACCESS EXCLUSIVE MODE")
        live.recorder().put(project.live_row())
        # when: the process stops meanwhile
        stopped = beside.submit(hooks["worker_exit"], None, None)
        while not slow.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall():
            time.sleep(0.01)
        assert not stopped.done()
        slow.rollback()
        stopped.result(20)
    # then
    assert live.recorder().pending() == 0
    db.configure(database_url)
    assert len(_logs(client, project)) == 1


def test_rows_of_a_batch_are_logged_from_their_acceptance(client: FlaskClient, project: Project) -> None:
    batch_id = project.submit(3)
    rows = project.run(2)
    record([succeeded(rows[0]), failed(rows[1])])
    logs = _logs(client, project)
    assert [log["custom_id"] for log in logs] == ["row-2", "row-1", "row-0"]
    assert [log["status"] for log in logs] == ["pending", "failed", "succeeded"]
    assert {log["batch_id"] for log in logs} == {public("batch", batch_id)}
    assert logs[1]["error"] == {
        "type": "invalid_request",
        "message": "no",
        "provider_status": None,
        "retryable": False,
    }
    assert (logs[2]["model"], logs[2]["model_answered"]) == ("gpt-4o-mini", "gpt-4o-mini-2024-07-18")
    assert logs[0]["prompt"] == [{"role": "user", "content": "2 + 2?"}]


def test_one_log_shows_the_attempts_that_failed_before(client: FlaskClient, project: Project) -> None:
    def one() -> Any:
        (log,) = _logs(client, project)
        return client.get(f"{project.logs}/{log['id']}", headers=project.headers).get_json()

    def put_back(message: str) -> None:
        (row,) = project.run()
        failure = Failure(reason=FailureReason.OVERLOADED, message=message, provider_status=529)
        record([], [Again(id=row.id, fence=row.fence, delay_seconds=0, attempts=1, strike=True, failure=failure)])

    # given: a row of a batch whose first call was refused, and whose second was cut off with its worker
    project.submit(1)
    assert one()["failed_attempts"] == []
    put_back("busy\0")
    waiting = one()
    project.run()
    execute("UPDATE worker SET lease_expires_at = now() - interval '1 s', draining = true")
    assert rescue.dead_workers() == 1
    execute("UPDATE lease SET due_at = now()")
    project.worker_id = workers.register(10)
    # when: the third is answered
    record([succeeded(project.run()[0])])
    # then: its log says what became of each
    ended = one()
    assert (ended["status"], ended["error"]) == ("succeeded", None)
    refused, died = ended["failed_attempts"]
    assert waiting["failed_attempts"] == [refused]
    assert refused["error"] == {"type": "overloaded", "message": "busy", "provider_status": 529, "retryable": True}
    assert (refused["provider"], refused["model"]) == ("openai", "gpt-4o-mini")
    assert refused["started_at"] <= refused["ended_at"] <= died["started_at"] <= died["ended_at"] <= ended["started_at"]
    assert (died["error"]["type"], died["error"]["provider_status"]) == ("worker_crashed", None)


def test_the_last_failed_attempts_are_kept(client: FlaskClient, project: Project) -> None:
    project.submit(1)
    for number in range(KEPT + 2):
        (row,) = project.run()
        failure = Failure(reason=FailureReason.RATE_LIMITED, message=f"no {number}", provider_status=429)
        record([], [Again(id=row.id, fence=row.fence, delay_seconds=0, attempts=1, strike=False, failure=failure)])
    record([failed(project.run()[0])])
    (log,) = _logs(client, project)
    one = client.get(f"{project.logs}/{log['id']}", headers=project.headers).get_json()
    assert [call["error"]["message"] for call in one["failed_attempts"]] == [f"no {n}" for n in range(2, KEPT + 2)]
    assert one["error"]["type"] == "invalid_request"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=failed", {"failing"}),
        ("status=succeeded", {"old", "slow", "plain"}),
        ("status=pending", {"row-0", "row-1"}),
        ("model=fast", {"old", "slow", "plain", "failing"}),
        ("model=gpt-4o-mini", {"old", "slow", "plain", "failing", "row-0", "row-1"}),
        ("model=gpt-4o-mini-2024-07-18", {"old", "slow", "plain"}),
        ("model=gpt-4", set()),
        ("provider=openai&status=failed", {"failing"}),
        ("provider=anthropic", set()),
        ("min_duration_ms=5000", {"slow"}),
        ("custom_id=row-1", {"row-1"}),
        ("custom_id=row-1&status=succeeded", set()),
        ("custom_id=row-7", set()),
        ("q=GIRAFFE", {"slow"}),
        ("q=%22quoted%22%20100%25", {"plain"}),
        ("q=content", set()),
        ("q=choices", set()),
        ("q=2%20%2B%202&custom_id=row-0", {"row-0"}),
    ],
)
def test_filters(client: FlaskClient, project: Project, query: str, expected: set[str]) -> None:
    # given: completions of every kind, one of them from before the partitions
    now = datetime.now(UTC)
    write_live(
        project.live_row(request_id="old", started_at=now - timedelta(days=400), ended_at=now - timedelta(days=400)),
        project.live_row(request_id="slow", answer="A giraffe.", started_at=now - timedelta(seconds=9)),
        project.live_row(request_id="plain", prompt='it is "quoted" 100%\n', started_at=now, ended_at=now),
        project.failed_row(request_id="failing"),
    )
    project.submit(2)
    # then
    found = _logs(client, project, query)
    assert {log["custom_id"] or log["request_id"] for log in found} == expected
    assert len(found) == len(expected)


def test_from_and_to_are_times_of_creation(client: FlaskClient, project: Project) -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    times = [start + timedelta(hours=hour) for hour in range(4)]
    write_live(*(project.live_row(request_id=f"{time.hour}", started_at=time, ended_at=time) for time in times))
    found = _logs(client, project, "from=2026-03-01T01:00:00Z&to=2026-03-01T03:00:00Z")
    assert [log["request_id"] for log in found] == ["2", "1"]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("to=0001-01-02T00:00:00Z", 0),
        ("to=0001-01-01T00:00:00%2B14:00", 0),
        ("from=0001-01-01T00:00:00%2B14:00&to=0001-01-03T00:00:00Z", 0),
        ("from=9999-12-31T23:59:59-12:00", 0),
        ("from=0001-01-01T00:00:00%2B14:00", 1),
        ("to=9999-12-31T23:59:59-12:00", 1),
    ],
)
def test_times_at_either_end_of_the_calendar(client: FlaskClient, project: Project, query: str, count: int) -> None:
    write_live(project.live_row())
    assert len(_logs(client, project, query)) == count


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_hold_every_log_once_newest_first(client: FlaskClient, project: Project, limit: int) -> None:
    # given: two batches, whose rows share a time, and live completions around them
    write_live(project.live_row(request_id="first"))
    project.submit(5)
    project.submit(4)
    write_live(project.live_row(request_id="last", started_at=datetime.now(UTC)))
    found = _logs(client, project, f"limit={limit}")
    assert len(found) == len({log["id"] for log in found}) == 11
    assert [log["created_at"] for log in found] == sorted((log["created_at"] for log in found), reverse=True)
    assert (found[0]["request_id"], found[10]["request_id"]) == ("last", "first")


def test_a_page_that_found_little_goes_on_where_it_stopped(
    client: FlaskClient, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: pages that may look at three rows only
    monkeypatch.setattr(search, "PIECE_ROWS", 3)
    monkeypatch.setattr(search, "PIECE_BODIES", 3)
    monkeypatch.setattr(read, "PAGE_SECONDS", 0.0)
    batch_id = project.submit(20)
    row = project.run(20)[7]
    record([failed(row)])
    write_live(*(project.live_row(prompt="needle" if n == 5 else "hay") for n in range(9)))
    # then: the cursor leads to what is further away
    assert _get(client, project, "?status=failed").get_json()["has_more"] is True
    for query in ("status=failed", f"status=failed&batch_id={public('batch', batch_id)}"):
        assert [log["custom_id"] for log in _logs(client, project, query)] == ["row-7"]
    assert len(_logs(client, project, "q=needle")) == 1
    assert len(_logs(client, project)) == 29


def test_a_page_that_searches_nothing_is_full_however_slow_and_old(
    client: FlaskClient, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: no time at all, and logs of two months ago only
    monkeypatch.setattr(read, "PAGE_SECONDS", 0.0)
    long_ago = datetime.now(UTC) - timedelta(days=60)
    write_live(*(project.live_row(started_at=long_ago + timedelta(seconds=n), ended_at=long_ago) for n in range(3)))
    # then
    assert len(_get(client, project, "?limit=2").get_json()["data"]) == 2
    assert len(_get(client, project, "").get_json()["data"]) == 3


def test_a_batch_filter_gives_its_rows(client: FlaskClient, project: Project) -> None:
    batch_id, other = project.submit(3), project.submit(2)
    assert len(_logs(client, project, f"batch_id={public('batch', batch_id)}&limit=2")) == 3
    assert len(_logs(client, project, f"batch_id={public('batch', other)}&custom_id=row-1")) == 1
    assert _logs(client, project, f"batch_id={public('batch', project.worker_id)}") == []


def test_exports_hold_what_passes_whole(client: FlaskClient, project: Project) -> None:
    write_live(*(project.live_row(prompt=f"={n}") for n in range(70)), project.failed_row(message="=cmd()"))
    lines = _get(client, project, "?limit=1", accept="application/x-ndjson")
    assert lines.mimetype == "application/x-ndjson"
    objects = [json.loads(line) for line in lines.data.splitlines()]
    assert objects == _logs(client, project, "limit=100")
    # and as CSV, in which nothing is a formula
    answered = _get(client, project, "?model=fast", accept="text/csv")
    assert answered.mimetype == "text/csv"
    rows = list(csv.DictReader(io.StringIO(answered.text)))
    assert [row["id"] for row in rows] == [log["id"] for log in objects]
    failures = [row for row in rows if row["status"] == "failed"]
    assert [row["error_message"] for row in failures] == ["'=cmd()"]
    assert json.loads(rows[-1]["prompt"])[0]["content"].startswith("=")
    assert {row["input_tokens"] for row in rows} == {"12", ""}


def test_long_bodies_are_left_out_of_lists(client: FlaskClient, project: Project) -> None:
    write_live(project.live_row(prompt="x" * read.PAGE_BODY_BYTES))
    (log,) = _logs(client, project)
    assert (log["bodies"], log["prompt"]) == ("too_long", None)
    one = client.get(f"{project.logs}/{log['id']}", headers=project.headers).get_json()
    assert (one["bodies"], len(one["prompt"][0]["content"])) == ("included", read.PAGE_BODY_BYTES)


def test_logs_of_others_do_not_exist(client: FlaskClient, project: Project) -> None:
    other = Project()
    write_live(other.live_row())
    project.submit(1)
    (theirs,) = _logs(client, other)
    for path in (
        other.logs,
        f"/v1/logs/{project.tenant}/{other.project}",
        "/v1/logs/me/mine",
        f"{project.logs}/{theirs['id']}",
        f"{project.logs}/log_{'0' * 32}",
        f"{project.logs}/log_{'f' * 32}",
        f"{project.logs}/nonsense",
        f"{other.logs}/{theirs['id']}",
    ):
        assert client.get(path, headers=project.headers).status_code == 404, path
    assert len(_logs(client, project)) == 1


@pytest.mark.parametrize(
    "query",
    ["cursor=x", "status=done", "from=yesterday", "batch_id=7", "q=a", "limit=0", "min_duration_ms=-1", "provider=x"],
)
def test_a_wrong_query_is_told(client: FlaskClient, project: Project, query: str) -> None:
    answered = _get(client, project, f"?{query}")
    assert answered.status_code == 400
    assert answered.get_json()["errors"][0]["pointer"] == "?" + query.partition("=")[0]


@pytest.mark.parametrize("time", ["yesterday", "2026-11-28", "2026-11-28T00:00:00"])
def test_a_wrong_time_is_told_how_to_write_one(client: FlaskClient, project: Project, time: str) -> None:
    found = _get(client, project, f"?from={time}").get_json()["errors"]
    assert found == [{"pointer": "?from", "message": "must be a time with its zone, such as 2026-11-23T12:00:00Z"}]


def test_a_project_may_keep_no_bodies(client: FlaskClient, project: Project) -> None:
    # given: a batch that was taken in before
    batch_id = project.submit(4)
    changed = client.patch("/v1/project", json={"log_bodies": "metadata_only"}, headers=project.headers)
    assert changed.get_json()["log_bodies"] == "metadata_only"
    # when: it runs to its end, and a live completion is made
    rows = project.run()
    record([succeeded(rows[0]), failed(rows[1])])
    assert count("completion_request") == 2
    record([succeeded(row) for row in rows[2:]])
    write_live(project.live_row())
    # then: no prompt is left, and no answer but those that the batch was made for
    assert count("completion_request") == 0
    assert count("completion_response") == 3
    answered = client.get(f"/v1/batch/{public('batch', batch_id)}/results", headers=project.headers)
    assert sum(row["response"] is not None for row in answered.get_json()["data"]) == 3
    logs = _logs(client, project)
    assert {(log["bodies"], log["prompt"], log["response"]) for log in logs} == {("not_kept", None, None)}
    assert sum(log["usage"] is not None for log in logs) == 4
    assert _logs(client, project, "q=ok") == []


def test_settings_of_the_project(client: FlaskClient, project: Project) -> None:
    before = client.get("/v1/project", headers=project.headers).get_json()
    assert (before["log_bodies"], before["retention_days"], before["on_unknown_outcome"]) == ("full", None, "retry")
    given = {"name": "mine", "retention_days": 30, "on_unknown_outcome": "fail"}
    after = client.patch("/v1/project", json=given, headers=project.headers).get_json()
    assert after == {**before, **given}
    wrong = {"log_bodies": "some", "retention_days": 0, "on_unknown_outcome": "x", "name": "", "weight": 9}
    answered = client.patch("/v1/project", json=wrong, headers=project.headers)
    assert answered.status_code == 400
    assert {error["pointer"] for error in answered.get_json()["errors"]} == {f"/{name}" for name in wrong}
    assert client.get("/v1/project", headers=project.headers).get_json() == after
