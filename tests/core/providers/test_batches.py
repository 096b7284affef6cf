"""The providers' batch APIs as pure functions: PROVIDERS.md 5's examples, lines of every kind, and bad input."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidInput
from core.providers import adapter_for
from core.providers.anthropic_batches import AnthropicBatches
from core.providers.anthropic_native import MessagesParams
from core.providers.batches import Frame, Phase, RemoteBatch, RowResult
from core.providers.openai_batches import OpenAIBatches
from core.providers.types import Failure
from core.states import FailureReason as R

OPENAI, ANTHROPIC = OpenAIBatches(), AnthropicBatches()
BOTH = pytest.mark.parametrize("wire", [OPENAI, ANTHROPIC])
PARAMS: dict[str, Any] = {"messages": [{"role": "user", "content": "2+2?\n“ü\u2028"}], "max_tokens": 20}
KEY = "sk-test-0123456789"


def openai_batch(**changes: Any) -> dict[str, Any]:
    return {
        "id": "batch_1", "object": "batch", "endpoint": "/v1/chat/completions", "model": "gpt-6-luna", "errors": None,
        "input_file_id": "file-in", "completion_window": "24h", "status": "completed", "output_file_id": "file-out",
        "error_file_id": "file-err", "created_at": 1795430400, "expires_at": 1795516800,
        "request_counts": {"total": 3, "completed": 2, "failed": 1}, "metadata": {"llm_service_shard": "shard-42"},
        **changes,
    }  # fmt: skip


def anthropic_batch(**changes: Any) -> dict[str, Any]:
    return {
        "id": "msgbatch_1", "type": "message_batch", "processing_status": "in_progress",
        "request_counts": {"processing": 3, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
        "created_at": "2026-11-23T10:00:00Z", "expires_at": "2026-11-24T10:00:00Z", "ended_at": None,
        "archived_at": None, "cancel_initiated_at": None, "results_url": None, **changes,
    }  # fmt: skip


ENDED = {
    "processing_status": "ended",
    "request_counts": {"processing": 0, "succeeded": 5, "errored": 1, "canceled": 2, "expired": 3},
    "results_url": "https://evil.example/v1/messages/batches/msgbatch_9/results",
}


def parsed(wire: Any, found: Any, status: int = 200) -> Any:
    return wire.parse_batch(status, {}, orjson.dumps(found), secret=KEY)


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ("validating", Phase.WORKING), ("in_progress", Phase.WORKING), ("finalizing", Phase.WORKING),
        ("cancelling", Phase.CANCELLING), ("completed", Phase.DONE), ("expired", Phase.DONE),
        ("cancelled", Phase.DONE), ("failed", Phase.REFUSED), ("some_day_new", Phase.WORKING),
    ],
)  # fmt: skip
def test_openai_statuses(status: str, phase: Phase) -> None:
    batch = parsed(OPENAI, openai_batch(status=status))
    assert (batch.phase, batch.status) == (phase, status)
    assert batch.phase.ended == (status in ("completed", "expired", "cancelled", "failed"))


def test_an_openai_batch() -> None:
    assert parsed(OPENAI, openai_batch()) == RemoteBatch(
        remote_id="batch_1",
        phase=Phase.DONE,
        status="completed",
        total=3,
        completed=2,
        failed=1,
        created_at=datetime(2026, 11, 23, 10, 40, tzinfo=UTC),
        expires_at=datetime(2026, 11, 24, 10, 40, tzinfo=UTC),
        tag="shard-42",
        result_refs=("file-out", "file-err"),
        input_file_id="file-in",
    )
    bare = parsed(OPENAI, {"id": "batch_1", "status": "validating", "created_at": 1795430400})
    assert (bare.total, bare.completed, bare.failed, bare.expires_at, bare.tag) == (None,) * 5
    assert bare.result_refs == ()


def test_a_full_queue_is_a_refusal_that_passes_and_tells_its_limit() -> None:
    message = (
        "Enqueued token limit reached for gpt-6-luna in organization org-x. Limit: 2,000,000 enqueued tokens. "
        "Please try again once some in_progress batches have been completed."
    )
    errors = {"object": "list", "data": [{"code": "token_limit_exceeded", "message": message, "line": None}]}
    batch = parsed(OPENAI, openai_batch(status="failed", errors=errors, output_file_id=None, error_file_id=None))

    assert batch.phase is Phase.REFUSED
    assert batch.enqueued_limit == 2_000_000
    assert (batch.error.reason, batch.error.provider_code) == (R.RATE_LIMITED, "token_limit_exceeded")
    assert batch.error.message == message
    assert batch.result_refs == ()


@pytest.mark.parametrize(
    ("errors", "reason", "message"),
    [
        ({"data": [{"code": "invalid_json_line", "message": "bad", "line": 3}]}, R.INVALID_REQUEST, "line 3: bad"),
        ({"data": [{"code": "model_not_found", "message": f"no {KEY}"}]}, R.MODEL_NOT_FOUND, "no ****"),
        ({"data": [{"code": "billing_hard_limit_reached", "message": "pay"}]}, R.QUOTA_EXHAUSTED, "pay"),
        ({"data": []}, R.INVALID_REQUEST, "the provider reported an error without a message"),
        (None, R.INVALID_REQUEST, "the provider reported an error without a message"),
        ({"data": [7]}, R.INVALID_REQUEST, "the provider reported an error without a message"),
    ],
)
def test_why_a_batch_was_refused(errors: Any, reason: R, message: str) -> None:
    batch = parsed(OPENAI, openai_batch(status="failed", errors=errors))
    assert (batch.phase, batch.error.reason, batch.error.message) == (Phase.REFUSED, reason, message)
    assert batch.enqueued_limit is None


def test_anthropic_counts_stand_still_until_the_end() -> None:
    working = parsed(ANTHROPIC, anthropic_batch())
    assert (working.phase, working.total, working.completed, working.failed) == (Phase.WORKING, 3, None, None)
    assert working.result_refs == ()
    assert working.created_at == datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
    assert parsed(ANTHROPIC, anthropic_batch(processing_status="canceling")).phase is Phase.CANCELLING

    ended = parsed(ANTHROPIC, anthropic_batch(**ENDED))
    assert (ended.phase, ended.total, ended.completed, ended.failed) == (Phase.DONE, 11, 5, 6)


def test_a_results_url_names_no_host_that_a_key_travels_to() -> None:
    ended = parsed(ANTHROPIC, anthropic_batch(**ENDED))
    assert [ANTHROPIC.download(ref).path for ref in ended.result_refs] == ["/v1/messages/batches/msgbatch_1/results"]
    assert parsed(ANTHROPIC, anthropic_batch(**{**ENDED, "results_url": None})).result_refs == ()


BAD_BATCHES: list[Any] = [
    None, [], "x", 7, {}, {"id": "batch_1"}, {"data": 7},
    openai_batch(id="../../files"), openai_batch(id="a" * 129), openai_batch(id=7), openai_batch(id="x\n"),
    openai_batch(status=None), openai_batch(created_at=None), openai_batch(created_at=10**18),
    openai_batch(created_at=True), openai_batch(output_file_id="a/b"), openai_batch(input_file_id=""),
    openai_batch(request_counts=[1]), openai_batch(metadata="x"),
    anthropic_batch(id="a?b"), anthropic_batch(processing_status=1), anthropic_batch(created_at=7),
    anthropic_batch(created_at="yesterday"), anthropic_batch(request_counts="x"),
]  # fmt: skip


@BOTH
@pytest.mark.parametrize("found", BAD_BATCHES)
def test_what_is_no_batch_is_a_failure(wire: Any, found: Any) -> None:
    for bad in (parsed(wire, found), wire.parse_list(200, {}, orjson.dumps({"data": [found]}))):
        assert isinstance(bad, Failure)
        assert bad.reason is R.INVALID_RESPONSE


@BOTH
@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"<html>", R.INVALID_RESPONSE),
        (200, b'{"id":"batch', R.INVALID_RESPONSE),
        (200, b"", R.INVALID_RESPONSE),
        (302, b"", R.INVALID_RESPONSE),
        (401, b'{"error":{"message":"Incorrect API key: ' + KEY.encode() + b'"}}', R.AUTHENTICATION),
        (402, b"{}", R.QUOTA_EXHAUSTED),
        (403, b"{}", R.PERMISSION),
        (404, b'{"error":{"message":"No such batch"}}', R.INVALID_REQUEST),
        (404, b'{"error":{"code":"model_not_found"}}', R.MODEL_NOT_FOUND),
        (413, b"<html>", R.REQUEST_TOO_LARGE),
        (429, b"{}", R.RATE_LIMITED),
        (429, b'{"error":{"code":"insufficient_quota"}}', R.QUOTA_EXHAUSTED),
        (502, b"<html>", R.PROVIDER_ERROR),
        (200, b'{"error":{"type":"overloaded_error","message":"m"}}', R.OVERLOADED),
    ],
)
def test_answers_that_are_no_success(wire: Any, status: int, body: bytes, reason: R) -> None:
    parsers = [wire.parse_batch, wire.parse_list] + ([wire.parse_file, wire.parse_files] if wire.uploads else [])
    for parse in parsers:
        found = parse(status, {}, body, secret=KEY)
        assert isinstance(found, Failure)
        assert (found.reason, found.provider_status) == (reason, status)
        assert found.message
        assert KEY not in found.message


@BOTH
@given(body=st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["id", "data", "status", "processing_status", "created_at", "custom_id", "result", "type",
                         "response", "status_code", "body", "error", "errors", "message", "request_counts"]), inner),
).map(orjson.dumps))  # fmt: skip
def test_no_body_raises(wire: Any, body: bytes) -> None:
    assert isinstance(wire.parse_batch(200, {}, body), RemoteBatch | Failure)
    wire.parse_list(200, {}, body)
    assert isinstance(wire.parse_line(body), RowResult)
    if wire.uploads:
        wire.parse_file(200, {}, body)
        wire.parse_files(200, {}, body)


def test_pages_of_lists() -> None:
    listed = {"object": "list", "data": [openai_batch(id="b2"), openai_batch(id="b1")], "has_more": True}
    page = OPENAI.parse_list(200, {}, orjson.dumps(listed))
    assert ([batch.remote_id for batch in page.batches], page.after) == (["b2", "b1"], "b1")
    assert OPENAI.page(page.after).path == "/batches?limit=100&after=b1"
    assert OPENAI.page(None).path == "/batches?limit=100"

    page = ANTHROPIC.parse_list(200, {}, orjson.dumps({"data": [anthropic_batch()], "has_more": False}))
    assert ([batch.remote_id for batch in page.batches], page.after) == (["msgbatch_1"], None)
    assert ANTHROPIC.page("x").path == "/v1/messages/batches?limit=1000&after_id=x"

    files = {"data": [{"id": "file-1", "filename": "a.jsonl", "bytes": 12}, {"id": 7}, 7], "has_more": True}
    assert OPENAI.parse_files(200, {}, orjson.dumps(files)) == ([("file-1", "a.jsonl", 12)], "file-1")
    assert OPENAI.list_files(None).path == "/files?purpose=batch&limit=1000&order=desc"


def test_an_openai_line_is_the_live_call() -> None:
    line = OPENAI.line(2**63 - 1, PARAMS, "gpt-4o-mini")
    assert b"\n" not in line
    assert b"\r" not in line
    assert orjson.loads(line) == {
        "custom_id": "9223372036854775807",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": orjson.loads(adapter_for("openai").build(PARAMS, "gpt-4o-mini").body),
    }
    assert OPENAI.endpoint(PARAMS, "gpt-4o-mini") == "/v1/chat/completions"


def test_an_anthropic_line_is_the_live_call() -> None:
    line = ANTHROPIC.line(7, PARAMS, "claude-haiku-4-5")
    assert orjson.loads(line) == {
        "custom_id": "7",
        "params": orjson.loads(adapter_for("anthropic").build(PARAMS, "claude-haiku-4-5").body),
    }
    assert ANTHROPIC.endpoint(PARAMS, "claude-haiku-4-5") == "/v1/messages"


def test_what_an_anthropic_line_cannot_say() -> None:
    with pytest.raises(InvalidInput):
        ANTHROPIC.line(7, {**PARAMS, "seed": 7}, "claude-haiku-4-5")
    params = MessagesParams()
    params.update(PARAMS)
    params.headers = {"anthropic-beta": "output-300k-2026-03-24"}
    with pytest.raises(InvalidInput):
        ANTHROPIC.line(7, params, "claude-haiku-4-5")


@pytest.mark.parametrize("lines", [[b"{}"], [b'{"a":1}', b'{"b":2}', b"{}"]])
def test_a_frame_knows_its_length(lines: list[bytes]) -> None:
    for frame in (OPENAI.frame, ANTHROPIC.frame, OPENAI.upload("a", "b")[1], Frame(b"abc", b"--", b"")):
        assert frame.length(len(lines), sum(map(len, lines))) == len(b"".join(frame.pieces(iter(lines))))
    assert b"".join(OPENAI.frame.pieces(lines)) == b"".join(line + b"\n" for line in lines)
    assert orjson.loads(b"".join(ANTHROPIC.frame.pieces(lines))) == {"requests": [orjson.loads(line) for line in lines]}


def test_an_upload_as_the_sdk_sends_it() -> None:
    request, frame = OPENAI.upload("shard-1.jsonl", "BOUNDARY")

    assert (request.method, request.path) == ("POST", "/files")
    assert request.headers == {"content-type": "multipart/form-data; boundary=BOUNDARY"}
    assert b"".join(frame.pieces([b"{}", b"{}"])).decode() == (
        '--BOUNDARY\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        '--BOUNDARY\r\nContent-Disposition: form-data; name="expires_after[anchor]"\r\n\r\ncreated_at\r\n'
        '--BOUNDARY\r\nContent-Disposition: form-data; name="expires_after[seconds]"\r\n\r\n604800\r\n'
        '--BOUNDARY\r\nContent-Disposition: form-data; name="file"; filename="shard-1.jsonl"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
        "{}\n{}\n\r\n--BOUNDARY--\r\n"
    )
    for name in ('a"b', "a\r\nb", "", "a b", "ä", "a" * 129):
        with pytest.raises(ValueError):
            OPENAI.upload(name, "BOUNDARY")


def test_the_calls() -> None:
    create = OPENAI.create(endpoint="/v1/chat/completions", tag="shard-1", file_id="file-1")
    assert (create.method, create.path) == ("POST", "/batches")
    assert orjson.loads(create.body) == {
        "input_file_id": "file-1",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"llm_service_shard": "shard-1"},
        "output_expires_after": {"anchor": "created_at", "seconds": 604800},
    }
    batch = parsed(OPENAI, openai_batch())
    assert [(each.method, each.path) for each in OPENAI.clean_up(batch, "file-in")] == [
        ("DELETE", "/files/file-in"), ("DELETE", "/files/file-out"), ("DELETE", "/files/file-err"),
    ]  # fmt: skip
    assert [each.path for each in OPENAI.clean_up(None, "file-in")] == ["/files/file-in"]
    assert OPENAI.get("batch_1").path == "/batches/batch_1"
    assert OPENAI.cancel("batch_1").path == "/batches/batch_1/cancel"
    assert OPENAI.download("file-1").path == "/files/file-1/content"

    batch = parsed(ANTHROPIC, anthropic_batch())
    create = ANTHROPIC.create(endpoint="/v1/messages", tag="shard-1", file_id=None)
    assert (create.method, create.path) == ("POST", "/v1/messages/batches")
    calls = [create, ANTHROPIC.get("x"), ANTHROPIC.cancel("x"), ANTHROPIC.page(None), ANTHROPIC.download("x")]
    calls += ANTHROPIC.clean_up(batch, None)
    # a version that takes sampling parameters, since rows may have them
    assert {each.headers["anthropic-version"] for each in calls} == {"2023-06-01"}
    assert (calls[-1].method, calls[-1].path) == ("DELETE", "/v1/messages/batches/msgbatch_1")
    assert ANTHROPIC.clean_up(None, None) == []


@pytest.mark.parametrize("remote_id", ["", "a/b", "..", "a?b", "a b", "a\n", "ä", "a" * 129, "%2e"])
def test_no_id_of_an_answer_leads_elsewhere(remote_id: str) -> None:
    for make in (OPENAI.get, OPENAI.cancel, OPENAI.download, ANTHROPIC.get, ANTHROPIC.cancel, ANTHROPIC.download):
        with pytest.raises(ValueError):
            make(remote_id)
    with pytest.raises(ValueError):
        OPENAI.create(endpoint="/v1/chat/completions", tag="t", file_id=remote_id)
