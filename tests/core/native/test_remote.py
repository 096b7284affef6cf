"""The client of the providers' batch APIs over sockets: the calls, and what a lost answer means."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from core.native import remote
from core.native.remote import Remote, RemoteProblem
from core.providers.batches import Phase
from core.providers.types import Failure, Success
from core.states import FailureReason
from tests.core.egress_server import Peer
from tests.core.native.provider import (
    KEY,
    NO,
    NOON,
    answer_line,
    answering,
    body_of,
    calls,
    connection,
    openai_batch,
    unrun_line,
)

PARAMS: dict[str, Any] = {"messages": [{"role": "user", "content": "2+2?"}], "max_tokens": 20}
SINCE = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
FILE = {"id": "file-in", "object": "file", "bytes": 10, "filename": "a.jsonl", "purpose": "batch"}
pytestmark = pytest.mark.usefixtures("loopback")


def anthropic_batch(remote_id: str = "msgbatch_1", rows: int = 3, at: datetime = NOON, **more: Any) -> Any:
    counts = {"processing": rows, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    times = {"created_at": at.isoformat(), "results_url": None}
    return {"id": remote_id, "processing_status": "in_progress", "request_counts": counts, **times, **more}


def test_a_batch_at_openai_from_upload_to_results() -> None:
    ended = openai_batch(status="expired", input_file_id="file-in", output_file_id="file-out", error_file_id="file-err")
    table: dict[str, Any] = {
        "POST /v1/files": (200, FILE),
        "POST /v1/batches": (200, openai_batch(status="validating")),
        "GET /v1/batches/batch_1": (200, ended),
        "GET /v1/files/file-out/content": (200, answer_line(3, "c") + b"\n\n" + answer_line(1, "a") + b"\n"),
        "GET /v1/files/file-err/content": (200, unrun_line(2)),
        "DELETE /v1/files/file-in": (200, {"id": "file-in", "deleted": True}),
        "DELETE /v1/files/file-err": (200, {"id": "file-err", "deleted": True}),
    }
    with answering(table) as server:
        client = Remote(connection(server.url(path="")))
        lines = [client.line(row_id, PARAMS, "gpt-4o-mini") for row_id in (1, 2, 3)]
        line_bytes = sum(map(len, lines))

        # when a file is uploaded and a batch made of it
        assert client.uploads
        file_id = client.upload("shard-1.jsonl", lambda: iter(lines), 3, line_bytes)
        made = client.create(endpoint=client.endpoint(PARAMS, "gpt-4o-mini"), tag="shard-1", file_id=file_id)
        batch = client.get(made.remote_id)
        results = list(client.results(batch))
        client.clean_up(batch, file_id)

        # then the file had the lines, and its length is the one foretold
        content = b"".join(line + b"\n" for line in lines)
        assert content in body_of(server.requests[0])
        assert client.framed_length(3, line_bytes) == len(content)
        assert orjson.loads(body_of(server.requests[1]))["metadata"] == {"llm_service_shard": "shard-1"}
        assert (made.phase, batch.phase) == (Phase.WORKING, Phase.DONE)

        # and each row has its result
        assert {result.row_id: type(result.outcome) for result in results} == {3: Success, 1: Success, 2: Failure}
        assert [result.executed for result in results] == [True, True, False]

        # and its files are gone, one of which was gone before
        assert calls(server)[-3:] == [
            "DELETE /v1/files/file-in",
            "DELETE /v1/files/file-out",
            "DELETE /v1/files/file-err",
        ]
        for request in server.requests:
            assert f"authorization: Bearer {KEY}\r\nopenai-organization: org-1\r\n".encode() in request


def test_a_batch_at_anthropic_from_create_to_results() -> None:
    ended = anthropic_batch(processing_status="ended", results_url="https://evil.example/results")
    line = orjson.dumps({"custom_id": "7", "result": {"type": "canceled"}})
    table: dict[str, Any] = {
        "POST /v1/messages/batches": (200, anthropic_batch()),
        "GET /v1/messages/batches/msgbatch_1": (200, ended),
        "GET /v1/messages/batches/msgbatch_1/results": (200, line),
        "DELETE /v1/messages/batches/msgbatch_1": (200, {"id": "msgbatch_1", "type": "message_batch_deleted"}),
    }
    with answering(table) as server:
        client = Remote(connection(server.url(path=""), "anthropic"))
        lines = [client.line(row_id, PARAMS, "claude-haiku-4-5") for row_id in (1, 2)]
        line_bytes = sum(map(len, lines))

        assert not client.uploads
        made = client.create(
            endpoint="/v1/messages", tag="t", file_id=None, lines=lambda: iter(lines), rows=2, line_bytes=line_bytes
        )
        batch = client.get(made.remote_id)
        (result,) = client.results(batch)
        client.clean_up(batch, None)

        body = body_of(server.requests[0])
        assert orjson.loads(body) == {"requests": [orjson.loads(line) for line in lines]}
        assert client.framed_length(2, line_bytes) == len(body)
        assert (result.row_id, result.executed) == (7, False)
        assert calls(server)[-1] == "DELETE /v1/messages/batches/msgbatch_1"
        for request in server.requests:
            assert f"x-api-key: {KEY}\r\n".encode() in request
            assert b"anthropic-version: 2023-06-01\r\n" in request


def test_a_batch_whose_create_was_lost_is_found_by_its_tag() -> None:
    def tagged(remote_id: str, tag: str, at: datetime = NOON) -> Any:
        return openai_batch(remote_id, at=at, metadata={"llm_service_shard": tag})

    early = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
    table: dict[str, Any] = {
        "GET /v1/batches?limit=100": (200, {"data": [tagged("b5", "x"), tagged("b4", "t")], "has_more": True}),
        "GET /v1/batches?limit=100&after=b4": (
            200,
            {"data": [openai_batch("b3"), tagged("b2", "t"), tagged("b1", "t", early)], "has_more": True},
        ),
    }
    with answering(table) as server:
        found = Remote(connection(server.url(path=""))).find(tag="t", rows=3, since=SINCE)

        # then the list was read until it reached the time before
        assert [batch.remote_id for batch in found] == ["b4", "b2"]
        assert len(server.requests) == 2


def test_a_batch_whose_create_was_lost_is_found_by_its_rows() -> None:
    early = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
    listed = [
        anthropic_batch("m4"),
        anthropic_batch("m3", rows=4),
        anthropic_batch("m2"),
        anthropic_batch("m1", at=early),
    ]
    with answering({"GET /v1/messages/batches?limit=1000": (200, {"data": listed, "has_more": False})}) as server:
        found = Remote(connection(server.url(path=""), "anthropic")).find(tag="t", rows=3, since=SINCE)

    assert [batch.remote_id for batch in found] == ["m4", "m2"]


def test_a_list_that_does_not_end_is_no_proof_of_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_PAGES", 3)
    page = (200, {"data": [openai_batch("b1")], "has_more": True})
    with answering({"GET /v1/batches?limit=100": page, "GET /v1/batches?limit=100&after=b1": page}) as server:
        with pytest.raises(RemoteProblem, match="does not end"):
            Remote(connection(server.url(path=""))).find(tag="t", rows=3, since=SINCE)
        assert len(server.requests) == 3


def test_an_upload_whose_answer_was_lost_is_found_by_name_and_size() -> None:
    query = "GET /v1/files?purpose=batch&limit=1000&order=desc"
    files = [{**FILE, "id": "f3", "bytes": 11}, {**FILE, "id": "f2", "filename": "b.jsonl"}]
    table: dict[str, Any] = {
        query: (200, {"data": files, "has_more": True}),
        query + "&after=f2": (200, {"data": [{**FILE, "id": "f1"}], "has_more": False}),
    }
    with answering(table) as server:
        client = Remote(connection(server.url(path="")))
        assert client.find_upload("a.jsonl", 10) == "f1"
        assert client.find_upload("a.jsonl", 12) is None


@pytest.mark.parametrize(
    ("answer", "reason", "sent"),
    [
        ((400, NO), FailureReason.INVALID_REQUEST, False),
        ((401, NO), FailureReason.AUTHENTICATION, False),
        ((403, NO), FailureReason.PERMISSION, False),
        ((413, b"<html>"), FailureReason.REQUEST_TOO_LARGE, False),
        ((429, NO), FailureReason.RATE_LIMITED, False),
        ((302, b""), FailureReason.INVALID_RESPONSE, False),
        ((500, NO), FailureReason.PROVIDER_ERROR, True),
        ((502, b"<html>"), FailureReason.PROVIDER_ERROR, True),
        ((504, b""), FailureReason.TIMEOUT, True),
        ((200, b"{"), FailureReason.INVALID_RESPONSE, True),
        ((200, {"id": "../x"}), FailureReason.INVALID_RESPONSE, True),
        (Peer.reset, FailureReason.NETWORK, True),
        (lambda peer: peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"), FailureReason.NETWORK, True),
    ],
)
def test_what_is_no_answer_says_whether_it_may_have_been_done(answer: Any, reason: FailureReason, sent: bool) -> None:
    with answering({"POST /v1/files": answer, "POST /v1/batches": answer}) as server:
        client = Remote(connection(server.url(path="")))
        for call in (
            lambda: client.upload("a.jsonl", lambda: iter([b"{}"]), 1, 2),
            lambda: client.create(endpoint="/v1/chat/completions", tag="t", file_id="file-in"),
        ):
            with pytest.raises(RemoteProblem) as caught:
                call()
            assert (caught.value.failure.reason, caught.value.sent) == (reason, sent)
            assert not caught.value.gone


def test_what_was_not_sent() -> None:
    # a body of another length than was counted
    with answering({}) as server:
        with pytest.raises(RemoteProblem) as caught:
            Remote(connection(server.url(path=""))).upload("a.jsonl", lambda: iter([b"{}"]), 1, 3)
        assert (caught.value.failure.reason, caught.value.sent) == (FailureReason.INTERNAL, False)
    # nobody there
    with pytest.raises(RemoteProblem) as caught:
        Remote(connection(server.url(path=""))).get("batch_1")
    assert (caught.value.failure.reason, caught.value.sent) == (FailureReason.NETWORK, False)
    # an address that is not allowed
    with pytest.raises(RemoteProblem) as caught:
        Remote(connection("http://10.0.0.1")).get("batch_1")
    assert (caught.value.failure.reason, caught.value.sent) == (FailureReason.ADDRESS_REFUSED, False)


def test_an_error_of_the_lines_passes_through() -> None:
    def lines() -> Iterator[bytes]:
        yield b"{}"
        raise KeyError("mine")

    with answering({}) as server, pytest.raises(KeyError, match="mine"):
        Remote(connection(server.url(path=""))).upload("a.jsonl", lines, 9, 99)


def test_cancel() -> None:
    url = "POST /v1/batches/batch_1/cancel"
    with answering({url: (200, openai_batch(status="cancelling"))}) as server:
        batch = Remote(connection(server.url(path=""))).cancel("batch_1")
        assert batch is not None
        assert batch.phase is Phase.CANCELLING
        assert b"content-length: 0\r\n" in server.requests[0]
    # an ended one is no error, nor one that is gone
    ended = {url: (409, NO), "GET /v1/batches/batch_1": (200, openai_batch(status="completed"))}
    with answering(ended) as server:
        batch = Remote(connection(server.url(path=""))).cancel("batch_1")
        assert batch is not None
        assert batch.phase is Phase.DONE
    with answering({}) as server:
        assert Remote(connection(server.url(path=""))).cancel("batch_1") is None
    # but one that goes on is
    for table in ({url: (409, NO), "GET /v1/batches/batch_1": (200, openai_batch())}, {url: (401, NO)}):
        with answering(table) as server, pytest.raises(RemoteProblem):
            Remote(connection(server.url(path=""))).cancel("batch_1")


def test_a_compatible_server_has_no_batch_api() -> None:
    with pytest.raises(ValueError, match="openai_compatible"):
        Remote(connection("http://127.0.0.1:1", "openai_compatible"))
    with pytest.raises(ValueError, match="no files"):
        Remote(connection("http://127.0.0.1:1", "anthropic")).upload("a", lambda: iter([b"{}"]), 1, 2)
