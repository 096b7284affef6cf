"""Anthropic's message batches, driven by its own SDK."""

from __future__ import annotations

import json

import anthropic
import pytest

from tests.simulator.native import message_row, results


def test_a_batch_is_answered_as_live_calls_are(anthropic_sdk, simulator):
    rows = [message_row(f"r{n}") for n in range(20)] + [message_row("other", model="claude-sonnet-5-5")]

    batch = anthropic_sdk.messages.batches.create(requests=rows)
    assert (batch.processing_status, batch.request_counts.processing, batch.results_url) == ("in_progress", 21, None)
    simulator.advance(0)

    batch = anthropic_sdk.messages.batches.retrieve(batch.id)
    assert (batch.processing_status, batch.request_counts.succeeded) == ("ended", 21)
    assert batch.results_url == f"{simulator.url}/v1/messages/batches/{batch.id}/results"
    found = results(anthropic_sdk, batch.id)
    live = anthropic_sdk.messages.create(**rows[3]["params"])
    assert found["r3"].message.content[0].text == live.content[0].text
    assert found["r3"].message.usage.service_tier == "batch"
    assert found["r3"].message.usage.input_tokens == live.usage.input_tokens
    assert found.keys() == {row["custom_id"] for row in rows}
    assert list(found) != [row["custom_id"] for row in rows]
    ledger = simulator.ledger()
    assert (ledger["executed"], ledger["native_executed"], ledger["duplicates"]) == (22, 21, 1)


def test_counts_are_frozen_until_it_has_ended(anthropic_sdk, simulator):
    simulator.config(native={"anthropic": {"seconds": 100}})
    batch = anthropic_sdk.messages.batches.create(requests=[message_row(f"r{n}") for n in range(10)])
    simulator.advance(50)

    assert simulator.ledger()["native_executed"] == 5
    half = anthropic_sdk.messages.batches.retrieve(batch.id)
    assert (half.request_counts.processing, half.request_counts.succeeded) == (10, 0)
    with pytest.raises(anthropic.AnthropicError):
        anthropic_sdk.messages.batches.results(batch.id)
    with pytest.raises(anthropic.BadRequestError):
        anthropic_sdk.messages.batches.delete(batch.id)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"stream": True}, "stream: Extra inputs are not permitted"),
        ({"speed": "fast"}, "speed: Extra inputs are not permitted"),
        ({"temperature": 0.5}, "temperature: Extra inputs are not permitted"),
    ],
)
def test_a_bad_request_is_an_errored_result(anthropic_sdk, simulator, fields, message):
    batch = anthropic_sdk.messages.batches.create(requests=[message_row("good"), message_row("bad", **fields)])
    simulator.advance(0)

    bad = results(anthropic_sdk, batch.id)["bad"]
    assert (bad.type, bad.error.error.type, bad.error.error.message) == ("errored", "invalid_request_error", message)
    counts = anthropic_sdk.messages.batches.retrieve(batch.id).request_counts
    assert (counts.succeeded, counts.errored, counts.processing) == (1, 1, 0)


def test_an_unknown_model_is_an_errored_result_and_no_400(anthropic_sdk, simulator):
    batch = anthropic_sdk.messages.batches.create(requests=[message_row("a", model="claude-99")])
    simulator.advance(0)

    assert results(anthropic_sdk, batch.id)["a"].error.error.type == "not_found_error"


@pytest.mark.parametrize(
    "requests",
    [[], [message_row("a"), message_row("a")], [message_row("no spaces")], [{"custom_id": "a"}], [{"params": {}}]],
)
def test_the_envelope_is_checked_at_once(anthropic_sdk, simulator, requests):
    with pytest.raises(anthropic.BadRequestError):
        anthropic_sdk.messages.batches.create(requests=requests)
    assert not simulator.native()["batches"]


DEEP = '{"requests": [{"custom_id": "a", "params": {"x": ' + "[" * 500 + "]" * 500 + "}}]}"
SURROGATE = '{"requests": [{"custom_id": "a", "params": {"x": "\\ud800"}}]}'


@pytest.mark.parametrize(
    "body",
    ['{"requests": [', '{"requests": [{]}', "[]", "{}", '{"requests": 1}', '{"x": 1}', "\xe9", DEEP, SURROGATE],
)
def test_a_body_that_is_no_batch_is_a_400(client, body):
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}

    answer = client.session.post(f"{client.url}/v1/messages/batches", data=body.encode("latin-1"), headers=headers)

    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_body_is_read_in_any_pieces_and_spellings(client, simulator):
    rows = [message_row("a") | {"custom_id": "a"}, message_row("b", system='é "quoted" \\ ] } \U0001f600')]
    body = json.dumps({"requests": rows}, indent=3).encode() + b"\n \n"
    body = body.replace(b"\\u00e9", "é".encode())
    headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
    pieces = (body[at : at + 1] for at in range(len(body)))

    made = client.session.post(f"{client.url}/v1/messages/batches", data=pieces, headers=headers)
    simulator.advance(0)

    answer = client.session.get(f"{client.url}/v1/messages/batches/{made.json()['id']}/results", headers=headers)
    found = {row["custom_id"]: row["result"] for row in map(json.loads, answer.text.splitlines())}
    assert {name: result["type"] for name, result in found.items()} == {"a": "succeeded", "b": "succeeded"}


def test_limits_are_kept(anthropic_sdk, simulator):
    batches = anthropic_sdk.messages.batches
    simulator.config(native={"anthropic": {"max_rows": 2, "queue_rows": 3, "seconds": 60, "max_bytes": 2_000}})
    batches.create(requests=[message_row("a"), message_row("b")])

    with pytest.raises(anthropic.APIStatusError) as too_many:
        batches.create(requests=[message_row(name) for name in "abc"])
    with pytest.raises(anthropic.APIStatusError) as too_large:
        batches.create(requests=[message_row("a", system="x" * 2_000)])
    with pytest.raises(anthropic.RateLimitError) as full:
        batches.create(requests=[message_row("a"), message_row("b")])
    assert (too_many.value.status_code, too_large.value.status_code) == (413, 413)
    assert full.value.response.headers["retry-after"]

    simulator.advance(61)
    batches.create(requests=[message_row("a"), message_row("b")])


def test_a_cancel_leaves_what_was_done_and_says_what_was_not(anthropic_sdk, simulator):
    simulator.config(native={"anthropic": {"seconds": 100, "cancelling_seconds": 60}})
    batch = anthropic_sdk.messages.batches.create(requests=[message_row(f"r{n}") for n in range(10)])
    simulator.advance(35)

    canceling = anthropic_sdk.messages.batches.cancel(batch.id)
    assert (canceling.processing_status, canceling.request_counts.processing) == ("canceling", 10)
    assert canceling.cancel_initiated_at is not None
    simulator.advance(61)

    batch = anthropic_sdk.messages.batches.retrieve(batch.id)
    assert (batch.processing_status, batch.request_counts.succeeded, batch.request_counts.canceled) == ("ended", 3, 7)
    assert sorted(result.type for result in results(anthropic_sdk, batch.id).values()) == (
        ["canceled"] * 7 + ["succeeded"] * 3
    )
    with pytest.raises(anthropic.BadRequestError):
        anthropic_sdk.messages.batches.cancel(batch.id)


def test_expiry(anthropic_sdk, simulator):
    simulator.config(native={"anthropic": {"stuck": 0.3}})
    batch = anthropic_sdk.messages.batches.create(requests=[message_row(f"r{n}") for n in range(10)])

    simulator.advance(86_401)

    batch = anthropic_sdk.messages.batches.retrieve(batch.id)
    assert (batch.request_counts.succeeded, batch.request_counts.expired) == (3, 7)
    assert batch.ended_at == batch.expires_at
    assert [result.type for result in results(anthropic_sdk, batch.id).values()].count("expired") == 7


def test_results_go_after_29_days(anthropic_sdk, simulator):
    batch = anthropic_sdk.messages.batches.create(requests=[message_row("a")])
    simulator.advance(29 * 86_400 + 1)

    batch = anthropic_sdk.messages.batches.retrieve(batch.id)
    assert (batch.results_url, batch.archived_at is None) == (None, False)


def test_a_batch_that_was_deleted_is_gone(anthropic_sdk, simulator):
    batches = anthropic_sdk.messages.batches
    batch = batches.create(requests=[message_row("a")])
    simulator.advance(0)

    assert batches.delete(batch.id).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        batches.retrieve(batch.id)


def test_lists_are_paged_with_both_cursors(anthropic_sdk):
    batches = anthropic_sdk.messages.batches
    made = [batches.create(requests=[message_row("a")]).id for _ in range(5)]

    assert [batch.id for batch in batches.list(limit=2)] == made[::-1]
    newer = batches.list(limit=2, before_id=made[1])
    assert ([batch.id for batch in newer.data], newer.has_more) == ([made[3], made[2]], True)


def test_everything_belongs_to_its_key_and_both_headers_are_taken(anthropic_sdk, client, simulator):
    batch = anthropic_sdk.messages.batches.create(requests=[message_row("a")])
    simulator.advance(0)
    path = f"/v1/messages/batches/{batch.id}"

    assert client.get(path, **{"x-api-key": "sk-ant-test", "anthropic-version": "2023-06-01"}).json()["id"] == batch.id
    assert client.get(path, **{"x-api-key": "sk-ant-test"}).status_code == 400
    stranger = {"x-api-key": "sk-ant-other", "anthropic-version": "2023-06-01"}
    assert client.get(path, **stranger).status_code == 404
    assert client.get(f"{path}/results", **stranger).status_code == 404
    assert client.get("/v1/messages/batches", **stranger).json()["data"] == []
