"""OpenAI's files and batches, driven by its own SDK."""

from __future__ import annotations

import hashlib
import json

import openai
import pytest

from tests.simulator.native import CHAT, chat_row, create, jsonl, lines


def test_a_file_comes_back_as_it_went_in_and_its_content_goes_when_it_is_deleted(openai_sdk):
    content = b"\r\n--not-the-boundary\r\n\x00\xff" * 5_000

    file = openai_sdk.files.create(
        file=("in.jsonl", content), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 7_200}
    )

    assert (file.bytes, file.filename, file.purpose) == (len(content), "in.jsonl", "user_data")
    assert file.expires_at == file.created_at + 7_200
    assert openai_sdk.files.content(file.id).read() == content
    assert [listed.id for listed in openai_sdk.files.list(purpose="user_data")] == [file.id]
    assert openai_sdk.files.delete(file.id).deleted
    for gone in (openai_sdk.files.content, openai_sdk.files.retrieve, openai_sdk.files.delete):
        with pytest.raises(openai.NotFoundError):
            gone(file.id)


def test_parts_may_come_in_any_order_and_in_any_pieces(client, simulator):
    part = b'--b0\r\ncontent-disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
    body = part % (b"file", b'; filename="a.jsonl"', b"one\r\n--b\r\ntwo") + part % (b"purpose", b"", b"batch")
    body += part % (b"expires_after[seconds]", b"", b"3600") + part % (
        b"expires_after[anchor]",
        b"",
        b"created_at",
    )
    headers = {"authorization": "Bearer sk-test", "content-type": "multipart/form-data; boundary=b0"}

    def pieces():
        yield from (bytes([byte]) for byte in body + b"--b0--\r\n")

    file = client.session.post(f"{simulator.openai_url}/files", data=pieces(), headers=headers).json()

    assert (file["bytes"], file["expires_at"] - file["created_at"]) == (13, 3_600)
    broken = client.session.post(f"{simulator.openai_url}/files", data=body, headers=headers)
    assert broken.status_code == 400


def test_what_is_no_valid_upload_is_refused(openai_sdk, simulator):
    simulator.config(native={"openai": {"max_bytes": 100}})
    with pytest.raises(openai.APIStatusError) as refused:
        openai_sdk.files.create(file=("in.jsonl", b"x" * 101), purpose="batch")
    assert refused.value.status_code == 413
    with pytest.raises(openai.BadRequestError):
        openai_sdk.files.create(file=("in.jsonl", b"x"), purpose="nonsense")
    with pytest.raises(openai.BadRequestError):
        openai_sdk.files.create(
            file=("in.jsonl", b"x"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 5}
        )
    assert not simulator.native()["files"]


def test_a_batch_is_answered_as_live_calls_are(openai_sdk, simulator):
    rows = [chat_row(f"r{n}") for n in range(20)] + [chat_row("bad", max_tokens=5)]

    batch = create(openai_sdk, rows, metadata={"job": "42"})
    assert (batch.status, batch.metadata) == ("validating", {"job": "42"})
    simulator.advance(0)

    batch = openai_sdk.batches.retrieve(batch.id)
    assert (batch.status, batch.model) == ("completed", "gpt-6-luna")
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (21, 20, 1)
    output, errors = lines(openai_sdk, batch.output_file_id), lines(openai_sdk, batch.error_file_id)
    assert {line["custom_id"] for line in output} == {f"r{n}" for n in range(20)}
    assert [line["custom_id"] for line in output] != [f"r{n}" for n in range(20)]
    live = openai_sdk.chat.completions.create(**rows[3]["body"])
    native = next(line["response"]["body"] for line in output if line["custom_id"] == "r3")
    assert native["choices"][0]["message"]["content"] == live.choices[0].message.content
    assert native["usage"]["prompt_tokens"] == live.usage.prompt_tokens
    assert batch.usage.output_tokens == sum(line["response"]["body"]["usage"]["completion_tokens"] for line in output)
    assert [(line["custom_id"], line["response"]["status_code"], line["error"]) for line in errors] == [
        ("bad", 400, None)
    ]
    assert errors[0]["response"]["body"]["error"]["code"] == "unsupported_parameter"
    # r3 was paid for twice, and the ledger says so.
    ledger = simulator.ledger()
    assert (ledger["executed"], ledger["native_executed"], ledger["duplicates"]) == (21, 20, 1)
    assert simulator.nonces()["nonce-r3"] == {"calls": 2, "executed": 2, "native_calls": 1, "native_executed": 1}


def test_embeddings_are_answered_too(openai_sdk, simulator):
    body = {"model": "text-embedding-3-small", "input": ["one", "two"], "dimensions": 4}
    row = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": body}

    batch = create(openai_sdk, [row], endpoint="/v1/embeddings")
    simulator.advance(0)

    (line,) = lines(openai_sdk, openai_sdk.batches.retrieve(batch.id).output_file_id)
    assert [len(vector["embedding"]) for vector in line["response"]["body"]["data"]] == [4, 4]


@pytest.mark.parametrize(
    ("rows", "code", "line"),
    [
        ([], "empty_file", None),
        ([chat_row("a"), b"{not json"], "invalid_json_line", 2),
        ([chat_row("a"), chat_row("a")], "duplicate_custom_id", 2),
        ([chat_row("a"), chat_row("b", model="gpt-6-sol")], "mismatched_model", 2),
        ([chat_row("a") | {"url": "/v1/embeddings"}], "mismatched_url", 1),
        ([chat_row("a") | {"url": "elsewhere"}], "invalid_url", 1),
        ([chat_row("a") | {"method": "GET"}], "invalid_method", 1),
        ([{"custom_id": "a", "method": "POST", "url": CHAT}], "missing_required_parameter", 1),
        ([chat_row("a", model="gpt-99")], "model_not_found", 1),
        ([chat_row(f"r{n}") for n in range(5)], "too_many_tasks", None),
    ],
)
def test_bad_input_fails_the_batch_when_it_is_validated(openai_sdk, simulator, rows, code, line):
    simulator.config(native={"openai": {"max_rows": 4}})

    batch = create(openai_sdk, rows)
    assert (batch.status, batch.errors) == ("validating", None)
    simulator.advance(0)

    batch = openai_sdk.batches.retrieve(batch.id)
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("failed", None, None)
    assert [(error.code, error.line) for error in batch.errors.data] == [(code, line)]
    assert simulator.ledger()["executed"] == 0


def test_the_create_request_is_checked_at_once(openai_sdk):
    batch_file = openai_sdk.files.create(file=("in.jsonl", jsonl([chat_row("a")])), purpose="batch")
    other_file = openai_sdk.files.create(file=("in.jsonl", b"x"), purpose="user_data")
    good = {"input_file_id": batch_file.id, "endpoint": CHAT, "completion_window": "24h"}
    for change in (
        {"completion_window": "1h"},
        {"endpoint": "/v1/nothing"},
        {"input_file_id": other_file.id},
        {"metadata": {str(n): "x" for n in range(17)}},
        {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
    ):
        with pytest.raises(openai.BadRequestError):
            openai_sdk.batches.create(**good | change)
    with pytest.raises(openai.NotFoundError):
        openai_sdk.batches.create(**good | {"input_file_id": "file-unknown"})


def test_what_waits_has_a_limit_in_tokens(openai_sdk, simulator):
    speed = {"enqueued_tokens": {"gpt-6-luna": 12}, "seconds": 100}
    simulator.config(native={"openai": speed})
    text = "x" * 40

    first = create(openai_sdk, [chat_row("a", text=text)])
    simulator.advance(1)
    second = create(openai_sdk, [chat_row("b", text=text)])
    simulator.advance(1)
    second = openai_sdk.batches.retrieve(second.id)
    assert openai_sdk.batches.retrieve(first.id).status == "in_progress"
    assert (second.status, second.errors.data[0].code) == ("failed", "token_limit_exceeded")
    assert "Limit: 12 enqueued tokens" in second.errors.data[0].message

    simulator.advance(100)
    third = openai_sdk.batches.create(input_file_id=second.input_file_id, endpoint=CHAT, completion_window="24h")
    simulator.advance(1)
    assert openai_sdk.batches.retrieve(third.id).status == "in_progress"


def test_counts_move_through_every_state(openai_sdk, simulator):
    speed = {"validation_seconds": 10, "seconds": 100, "finalizing_seconds": 10}
    simulator.config(native={"openai": speed})
    batch = create(openai_sdk, [chat_row(f"r{n}") for n in range(10)])
    seen = []

    for _ in range(5):
        now = openai_sdk.batches.retrieve(batch.id)
        seen.append((now.status, now.request_counts.completed))
        simulator.advance({0: 15, 1: 50, 2: 46, 3: 10}.get(len(seen) - 1, 0))

    assert seen == [
        ("validating", 0),
        ("in_progress", 0),
        ("in_progress", 5),
        ("finalizing", 10),
        ("completed", 10),
    ]
    assert now.completed_at - now.created_at == 120
    assert (now.in_progress_at - now.created_at, now.finalizing_at - now.created_at) == (10, 110)


def test_expiry_leaves_partial_results(openai_sdk, simulator):
    simulator.config(native={"openai": {"rows_per_second": 10 / 86_400 / 2}})
    batch = create(openai_sdk, [chat_row(f"r{n}") for n in range(10)])

    simulator.advance(200_000)

    batch = openai_sdk.batches.retrieve(batch.id)
    assert (batch.status, batch.expired_at) == ("expired", batch.created_at + 86_400)
    done = {line["custom_id"] for line in lines(openai_sdk, batch.output_file_id)}
    left = lines(openai_sdk, batch.error_file_id)
    assert (len(done), len(left)) == (5, 5)
    assert done | {line["custom_id"] for line in left} == {f"r{n}" for n in range(10)}
    assert {(line["response"], line["error"]["code"]) for line in left} == {(None, "batch_expired")}
    assert simulator.ledger()["executed"] == 5


@pytest.mark.parametrize("with_lines", [False, True])
def test_a_cancel_has_its_phase_and_keeps_what_was_done(openai_sdk, simulator, with_lines):
    speed = {"seconds": 100, "cancelling_seconds": 60, "cancelled_lines": with_lines}
    simulator.config(native={"openai": speed})
    batch = create(openai_sdk, [chat_row(f"r{n}") for n in range(10)])
    simulator.advance(35)

    assert openai_sdk.batches.cancel(batch.id).status == "cancelling"
    simulator.advance(30)
    assert openai_sdk.batches.cancel(batch.id).status == "cancelling"
    simulator.advance(31)

    batch = openai_sdk.batches.retrieve(batch.id)
    assert batch.status == "cancelled"
    assert len(lines(openai_sdk, batch.output_file_id)) == 3
    assert [line["error"]["code"] for line in lines(openai_sdk, batch.error_file_id)] == (
        ["batch_cancelled"] * 7 if with_lines else []
    )
    with pytest.raises(openai.BadRequestError):
        openai_sdk.batches.cancel(batch.id)


def test_a_cancel_while_validating_runs_nothing(openai_sdk, simulator):
    simulator.config(native={"openai": {"validation_seconds": 60}})
    batch = create(openai_sdk, [chat_row("a")])

    openai_sdk.batches.cancel(batch.id)
    simulator.advance(600)

    batch = openai_sdk.batches.retrieve(batch.id)
    assert (batch.status, batch.request_counts.total, simulator.ledger()["executed"]) == ("cancelled", 0, 0)


def test_lists_are_paged_newest_first(openai_sdk):
    made = [create(openai_sdk, [chat_row("a")]).id for _ in range(5)]

    assert [batch.id for batch in openai_sdk.batches.list(limit=2)] == made[::-1]
    page = openai_sdk.batches.list(limit=2, after=made[3])
    assert ([batch.id for batch in page.data], page.has_more) == ([made[2], made[1]], True)
    names = [file.id for file in openai_sdk.files.list(limit=2, order="asc", purpose="batch")]
    assert len(names) == 5


def test_everything_belongs_to_its_key(openai_sdk, simulator):
    batch = create(openai_sdk, [chat_row("a")])
    simulator.advance(0)
    stranger = openai_sdk.with_options(api_key="sk-other")

    assert not stranger.batches.list().data
    assert not stranger.files.list().data
    for call, name in (
        (stranger.batches.retrieve, batch.id),
        (stranger.batches.cancel, batch.id),
        (stranger.files.content, batch.input_file_id),
        (stranger.files.delete, batch.input_file_id),
    ):
        with pytest.raises(openai.NotFoundError):
            call(name)
    with pytest.raises(openai.AuthenticationError):
        openai_sdk.with_options(api_key="invalid").batches.list()


def test_files_go_when_their_time_is_over(openai_sdk, simulator):
    policy = {"anchor": "created_at", "seconds": 3_600}
    batch = create(openai_sdk, [chat_row("a")], output_expires_after=policy)
    simulator.advance(0)
    batch = openai_sdk.batches.retrieve(batch.id)

    simulator.advance(3_601)
    with pytest.raises(openai.NotFoundError):
        openai_sdk.files.content(batch.output_file_id)
    assert openai_sdk.files.retrieve(batch.input_file_id)
    simulator.advance(31 * 86_400)
    assert not openai_sdk.files.list().data


def test_a_large_upload_stays_on_disk(simulator, client):
    piece = b"x" * (1024 * 1024)
    head = b'--b0\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
    head += b'--b0\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    headers = {"authorization": "Bearer sk-test", "content-type": "multipart/form-data; boundary=b0"}
    before = _peak_mebibytes(simulator.pid)

    def body():
        yield head
        for _ in range(100):
            yield piece
        yield b"\r\n--b0--\r\n"

    file = client.session.post(f"{simulator.openai_url}/files", data=body(), headers=headers).json()
    digest = hashlib.sha256()
    content = client.session.get(f"{simulator.openai_url}/files/{file['id']}/content", headers=headers, stream=True)
    for part in content.iter_content(1024 * 1024):
        digest.update(part)

    assert file["bytes"] == 100 * len(piece)
    assert digest.hexdigest() == hashlib.sha256(piece * 100).hexdigest()
    assert _peak_mebibytes(simulator.pid) < before + 20


def _peak_mebibytes(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024


def test_a_reset_forgets_batches_files_and_the_moved_clock(openai_sdk, simulator):
    create(openai_sdk, [chat_row("a")])
    before = simulator.native()
    assert (len(before["batches"]), before["batches"][0]["metadata"]) == (1, None)
    simulator.advance(86_400)

    simulator.reset()

    after = simulator.native()
    assert (after["batches"], after["files"]) == ([], [])
    assert after["now"] - before["now"] < 3_600
    assert json.dumps(simulator.ledger()["native"]) == "{}"
