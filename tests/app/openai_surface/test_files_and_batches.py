"""Files, batches and models through the `openai` package; the same batches through our own API."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import openai
import psutil
import pytest
import requests
from openai.types import Batch

from launcher.client import Client, wait_until
from launcher.house import House

ENDED = {"failed", "completed", "expired", "cancelled"}
MODELS = ("gpt-4o-mini", "claude-haiku-4-5")


def line(custom_id: str, model: str = "gpt-4o-mini", **fields: Any) -> dict[str, Any]:
    """One line of an input file."""
    body = {"model": model, "messages": [{"role": "user", "content": f"hello nonce-{custom_id}"}], "max_tokens": 60}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body, **fields}


def uploaded(client: openai.OpenAI, lines: list[dict[str, Any] | str]) -> str:
    text = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines)
    return client.files.create(file=("in.jsonl", text.encode()), purpose="batch").id


def batch_of(client: openai.OpenAI, file_id: str, **options: Any) -> Batch:
    return client.batches.create(
        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h", **options
    )


def ended(client: openai.OpenAI, batch_id: str) -> Batch:
    found: list[Batch] = []

    def over() -> bool:
        found[:] = [client.batches.retrieve(batch_id)]
        return found[0].status in ENDED

    wait_until(over, 20, lambda: f"not ended: {found}")
    return found[0]


def lines_of(client: openai.OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    assert file_id is not None
    return {row["custom_id"]: row for row in map(json.loads, client.files.content(file_id).text.splitlines())}


def test_a_file_is_kept_as_it_came(client: openai.OpenAI) -> None:
    data = bytes(range(256)) * 20_000 + b"\r\n--no-boundary--\r\n"

    made = client.files.create(file=("any name.bin", io.BytesIO(data)), purpose="user_data")

    assert (made.bytes, made.filename, made.purpose, made.status) == (
        len(data),
        "any name.bin",
        "user_data",
        "processed",
    )
    assert made.id.startswith("file-")
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == data


def test_files_are_listed_and_deleted(client: openai.OpenAI) -> None:
    first, second, third = (uploaded(client, [line(str(n))]) for n in range(3))
    client.files.create(file=("a.txt", b"text"), purpose="assistants")

    assert [each.id for each in client.files.list(purpose="batch")] == [third, second, first]
    assert [each.id for each in client.files.list(purpose="batch", limit=1)] == [third, second, first]
    assert [each.id for each in client.files.list(purpose="batch", order="asc", limit=2)] == [first, second, third]
    assert client.files.delete(second).deleted
    assert [each.id for each in client.files.list(purpose="batch")] == [third, first]
    for gone in (second, "file-unknown"):
        with pytest.raises(openai.NotFoundError):
            client.files.content(gone)


def test_a_file_of_a_batch_expires_and_others_when_told(client: openai.OpenAI) -> None:
    batch = client.files.create(file=("a", b"{}"), purpose="batch")
    told = client.files.create(
        file=("a", b"{}"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 7200}
    )
    other = client.files.create(file=("a", b"{}"), purpose="user_data")

    assert batch.expires_at == batch.created_at + 30 * 86400
    assert told.expires_at == told.created_at + 7200
    assert other.expires_at is None


def test_the_order_of_the_parts_does_not_matter(caller: Client) -> None:
    headers = {"authorization": f"Bearer {caller.token}"}
    form = [("file", ("x.jsonl", b"{}")), ("purpose", (None, "batch"))]

    answer = requests.post(f"{caller.url}/v1/files", files=form, headers=headers, timeout=10)

    assert answer.status_code == 200, answer.text
    assert answer.json()["bytes"] == 2


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ([("purpose", (None, "batch"))], "file"),
        ([("purpose", (None, "loot")), ("file", ("x", b"{}"))], "purpose"),
        ([("file", ("x", b"{}"))], "purpose"),
        ([("purpose", (None, "batch")), ("file", ("x", b""))], "file"),
    ],
)
def test_a_wrong_form_is_refused_and_nothing_kept(
    caller: Client, client: openai.OpenAI, form: list[Any], param: str
) -> None:
    headers = {"authorization": f"Bearer {caller.token}"}

    answer = requests.post(f"{caller.url}/v1/files", files=form, headers=headers, timeout=10)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert list(client.files.list()) == []


def test_files_of_others_do_not_exist(house: House, client: openai.OpenAI) -> None:
    stranger = house.new_client()
    theirs = openai.OpenAI(base_url=f"{stranger.url}/v1", api_key=stranger.token, max_retries=0)
    mine = uploaded(client, [line("a")])

    with pytest.raises(openai.NotFoundError):
        theirs.files.retrieve(mine)
    with pytest.raises(openai.BadRequestError):
        batch_of(theirs, mine)


def test_a_batch_from_upload_to_results(caller: Client, client: openai.OpenAI) -> None:
    rows = [line(f"row-{n}", MODELS[n % 2]) for n in range(20)]

    made = batch_of(client, uploaded(client, rows), metadata={"job": "42"})
    assert made.status in ("validating", "in_progress")
    assert (made.object, made.endpoint, made.completion_window) == ("batch", "/v1/chat/completions", "24h")
    done = ended(client, made.id)

    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (20, 20, 0)
    assert done.metadata == {"job": "42"}
    assert done.error_file_id is None
    assert done.completed_at is not None
    assert done.usage is not None
    assert done.usage.total_tokens > 0
    results = lines_of(client, done.output_file_id)
    assert set(results) == {f"row-{n}" for n in range(20)}
    for custom_id, row in results.items():
        assert row["error"] is None
        assert row["response"]["status_code"] == 200
        assert f"nonce-{custom_id}" in row["response"]["body"]["choices"][0]["message"]["content"]
    shown = client.files.retrieve(str(done.output_file_id))
    assert shown.purpose == "batch_output"
    assert shown.bytes == len(client.files.content(shown.id).content)
    # The same batch, seen from the other side.
    ours = caller.get(f"/v1/batch/{made.id}").json()
    assert ours["request_counts"]["succeeded"] == 20
    assert ours["metadata"] == {"job": "42"}


def test_lines_that_fail_are_in_the_error_file(house: House, client: openai.OpenAI) -> None:
    house.simulator.config(faults=[{"kind": "400", "contains": "nonce-bad"}])

    done = ended(client, batch_of(client, uploaded(client, [line("good"), line("bad")])).id)

    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 1)
    assert set(lines_of(client, done.output_file_id)) == {"good"}
    failed = lines_of(client, done.error_file_id)["bad"]
    assert failed["response"]["status_code"] == 400
    assert failed["response"]["body"]["error"]["message"]


def test_a_batch_whose_lines_all_fail_is_completed(house: House, client: openai.OpenAI) -> None:
    house.simulator.config(faults=[{"kind": "400"}])

    done = ended(client, batch_of(client, uploaded(client, [line("a")])).id)

    assert done.status == "completed"
    assert done.output_file_id is None
    assert done.error_file_id is not None


def test_a_file_with_wrong_lines_makes_a_failed_batch_that_names_them(caller: Client, client: openai.OpenAI) -> None:
    lines: list[dict[str, Any] | str] = [
        line("good"),
        "{not json",
        line("put", method="PUT"),
        line("elsewhere", url="/v1/embeddings"),
        {"custom_id": "bodiless", "method": "POST", "url": "/v1/chat/completions"},
        line("good"),
        line("unknown", "no-such-model"),
    ]

    made = batch_of(client, uploaded(client, lines))

    assert made.status == "failed"
    assert made.failed_at is not None
    assert made.errors is not None
    assert {(each.line, each.code) for each in made.errors.data or []} == {
        (2, "invalid_json_line"),
        (3, "invalid_method"),
        (4, "mismatched_url"),
        (5, "missing_required_parameter"),
        (6, "duplicate_custom_id"),
        (7, "model_not_found"),
    }
    assert client.batches.retrieve(made.id).errors == made.errors
    assert caller.get(f"/v1/batch/{made.id}").json()["status"] == "failed"


def test_a_file_that_is_wrong_for_a_batch_is_refused(client: openai.OpenAI) -> None:
    other = client.files.create(file=("a", b"{}"), purpose="user_data")

    for file_id in (other.id, "file-unknown"):
        with pytest.raises(openai.BadRequestError) as caught:
            batch_of(client, file_id)
        assert caught.value.param == "input_file_id"
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(input_file_id=other.id, endpoint="/v1/responses", completion_window="24h")
    assert caught.value.param == "endpoint"


def test_a_batch_is_cancelled(house: House, client: openai.OpenAI) -> None:
    house.simulator.config(latency=1.0)
    made = batch_of(client, uploaded(client, [line(f"row-{n}") for n in range(5)]))

    assert client.batches.cancel(made.id).status in ("cancelling", "cancelled")
    done = ended(client, made.id)

    assert done.status == "cancelled"
    assert done.cancelled_at is not None
    found = lines_of(client, done.error_file_id) if done.error_file_id else {}
    answered = lines_of(client, done.output_file_id) if done.output_file_id else {}
    assert len(found) + len(answered) == 5
    assert all(row["error"]["code"] == "batch_cancelled" for row in found.values())
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(made.id)


def test_batches_of_both_surfaces_are_listed(caller: Client, client: openai.OpenAI) -> None:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello nonce-ours"}]}
    ours = caller.post("/v1/batch", {"requests": [{"custom_id": "ours", **body}]}).json()["id"]
    file_id = uploaded(client, [line("a")])
    made = [batch_of(client, file_id).id for _ in range(3)]

    assert [each.id for each in client.batches.list(limit=2)] == [*reversed(made), ours]
    found = ended(client, ours)
    assert set(lines_of(client, found.output_file_id)) == {"ours"}
    assert lines_of(client, found.input_file_id)["ours"]["body"]["model"] == "gpt-4o-mini"


def test_a_large_upload_is_streamed(house: House, caller: Client) -> None:
    size = 64 << 20
    block = b"x" * (1 << 20)

    def parts() -> Any:
        head = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--b\r\n'
        yield head + b'Content-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
        for _ in range(size // len(block)):
            yield block
        yield b"\r\n--b--\r\n"

    headers = {"authorization": f"Bearer {caller.token}", "content-type": "multipart/form-data; boundary=b"}
    before = memory_of(house)
    answer = requests.post(f"{caller.url}/v1/files", data=parts(), headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["bytes"] == size

    got = 0
    path = f"{caller.url}/v1/files/{answer.json()['id']}/content"
    with requests.get(path, headers={"authorization": headers["authorization"]}, stream=True, timeout=60) as content:
        for piece in content.iter_content(1 << 20):
            got += len(piece)
    assert got == size
    assert memory_of(house) - before < size / 2


def memory_of(house: House) -> int:
    """The resident memory of the API's processes, in bytes."""
    api = psutil.Process(house.pid("api"))
    return sum(each.memory_info().rss for each in [api, *api.children(recursive=True)])


def test_models(caller: Client, client: openai.OpenAI) -> None:
    caller.put("/v1/model-mappings/our fast/one", {"model": "gpt-4o-mini"})
    caller.put("/v1/model-mappings/fast", {"model": "gpt-4o-mini"})

    listed = {each.id: each for each in client.models.list()}

    assert {"fast", "gpt-4o", "claude-haiku-4-5"} <= set(listed)
    assert listed["claude-haiku-4-5"].owned_by == "anthropic"
    assert client.models.retrieve("gpt-4o") == listed["gpt-4o"]
    assert client.models.retrieve("fast").owned_by == "openai"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no-such-model")
    assert caught.value.code == "model_not_found"
    # With our four headers the same path answers in our form.
    assert "next_cursor" in caller.get("/v1/models").json()


def test_the_asynchronous_client(caller: Client) -> None:
    async def run() -> dict[str, Any]:
        async with openai.AsyncOpenAI(base_url=f"{caller.url}/v1", api_key=caller.token) as client:
            text = json.dumps(line("a")).encode()
            file = await client.files.create(file=("in.jsonl", text), purpose="batch")
            batch = await client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            for _ in range(200):
                if batch.status in ENDED:
                    break
                await asyncio.sleep(0.1)
                batch = await client.batches.retrieve(batch.id)
            content = await client.files.content(str(batch.output_file_id))
            assert [each.id async for each in client.models.list()]
            vectors = await client.embeddings.create(model="text-embedding-3-small", input="one")
            assert vectors.data
            return dict(json.loads(content.text))

    assert asyncio.run(run())["custom_id"] == "a"
