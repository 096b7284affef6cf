"""Native batches through the vendors' own packages, unmodified; and no id of a provider's in any answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from openai.types import Batch

from launcher.client import Client, wait_until
from launcher.house import House
from tests.e2e.batches import results, rows, submit, wait_for, wait_for_end
from tests.e2e.receiver import Receiver
from tests.native.steps import let_pass, shards, wait_for_shards, ways

ROWS = 50
CLAUDE = "claude-haiku-4-5"
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
ENDED = {"failed", "completed", "expired", "cancelled"}
#: What a provider says when it names its own things.
WORDS = "No such File: file-Zq7simulated, see batch_68simulated, msgbatch_01simulated, org-simulatedWithoutDigit."


@pytest.fixture
def gpt(client: Client) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{client.url}/v1", api_key=client.token, max_retries=0) as made:
        yield made


@pytest.fixture
def claude(client: Client) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=client.url, api_key=client.token, max_retries=0) as made:
        yield made


def made_of_a_file(gpt: openai.OpenAI, endpoint: str = CHAT, model: str = "gpt-4o-mini") -> Batch:
    """A batch of fifty lines in a file."""
    lines = []
    for n in range(ROWS):
        body: dict[str, Any] = {"model": "text-embedding-3-small", "input": f"text {n}"}
        if endpoint == CHAT:
            body = {"model": model, "messages": [{"role": "user", "content": f"say nonce-face-{n}"}]}
        lines.append(json.dumps({"custom_id": f"row-{n}", "method": "POST", "url": endpoint, "body": body}))
    file = gpt.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")
    return gpt.batches.create(
        input_file_id=file.id,
        endpoint=endpoint,  # type: ignore[arg-type]
        completion_window="24h",
    )


def ended(gpt: openai.OpenAI, batch_id: str) -> Batch:
    found: list[Batch] = []

    def over() -> bool:
        found[:] = [gpt.batches.retrieve(batch_id)]
        return found[0].status in ENDED

    wait_until(over, 60, lambda: f"not ended: {found}")
    return found[0]


def counts(batch: Batch) -> tuple[int, int, int]:
    """Total, completed, failed."""
    assert batch.request_counts is not None
    return batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed


def lines_of(gpt: openai.OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    assert file_id is not None
    return {row["custom_id"]: row for row in map(json.loads, gpt.files.content(file_id).text.splitlines())}


@pytest.mark.parametrize("endpoint", [CHAT, EMBEDDINGS])
def test_openais_package_sees_a_batch_at_the_provider_and_its_end(
    native_house: House, client: Client, gpt: openai.OpenAI, endpoint: str
) -> None:
    # given: a provider that takes an hour
    native_house.simulator.config(native={"openai": {"seconds": 3600}})
    made = made_of_a_file(gpt, endpoint)
    wait_for_shards(native_house, made.id, "sent")
    # then: it is in progress, and says what it was made of
    there = gpt.batches.retrieve(made.id)
    assert (there.status, there.endpoint, there.input_file_id) == ("in_progress", endpoint, made.input_file_id)
    assert counts(there) == (ROWS, 0, 0)
    assert there.in_progress_at is not None
    assert there.output_file_id is there.error_file_id is there.completed_at is None
    # when: the hour has passed
    let_pass(native_house, made.id, hours=1.01)
    done = ended(gpt, made.id)
    # then: every line is answered, by the provider's batch
    assert (done.status, counts(done), done.error_file_id) == ("completed", (ROWS, ROWS, 0), None)
    found = lines_of(gpt, done.output_file_id)
    assert set(found) == {f"row-{n}" for n in range(ROWS)}
    for n in range(ROWS):
        body = found[f"row-{n}"]["response"]["body"]
        if endpoint == CHAT:
            assert f"nonce-face-{n}." in body["choices"][0]["message"]["content"]
        else:
            assert body["data"][0]["embedding"]
    assert done.usage is not None
    assert done.usage.input_tokens == sum(row["response"]["body"]["usage"]["prompt_tokens"] for row in found.values())
    assert ways(results(client, made.id)) == {("succeeded", "native"): ROWS}


def test_rows_of_a_model_that_answers_only_at_responses(
    native_house: House, client: Client, gpt: openai.OpenAI
) -> None:
    # Given chat requests for a model that OpenAI serves only at /v1/responses, one of which fails there
    native_house.simulator.config(tokens={"reasoning": 7}, faults=[{"kind": "500", "on": "row", "contains": "face-7"}])
    made = made_of_a_file(gpt, model="gpt-5.4-pro")
    # Then every line is answered as a chat completion, those of the provider's batch at half the price
    done = ended(gpt, made.id)
    assert (done.status, done.request_counts.total if done.request_counts else 0) == ("completed", ROWS)
    found = lines_of(gpt, done.output_file_id)
    for n in set(range(ROWS)) - {7}:
        body = found[f"row-{n}"]["response"]["body"]
        assert body["object"] == "chat.completion"
        assert f"nonce-face-{n}." in body["choices"][0]["message"]["content"]
        assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 7
    assert ways(results(client, made.id))["succeeded", "native"] == ROWS - 1


def test_openais_package_cancels_a_batch_at_the_provider(native_house: House, gpt: openai.OpenAI) -> None:
    # given: a provider that stops half way, and takes its time to end
    native_house.simulator.config(native={"openai": {"stuck": 0.5, "cancelling_seconds": 3600}})
    made = made_of_a_file(gpt)
    wait_for_shards(native_house, made.id, "sent")
    # when
    assert gpt.batches.cancel(made.id).status == "cancelling"
    wait_until(lambda: shards(native_house, made.id)[0]["cancel_sent_at"] is not None, 20)
    there = gpt.batches.retrieve(made.id)
    assert (there.status, there.output_file_id, there.cancelled_at) == ("cancelling", None, None)
    native_house.simulator.advance(3601)
    done = ended(gpt, made.id)
    # then: what was answered is in the one file, the rest in the other
    assert (done.status, counts(done)) == ("cancelled", (ROWS, ROWS // 2, 0))
    answered, others = lines_of(gpt, done.output_file_id), lines_of(gpt, done.error_file_id)
    assert len(answered) == len(others) == ROWS // 2
    assert not set(answered) & set(others)
    assert {row["error"]["code"] for row in others.values()} == {"batch_cancelled"}


def claude_rows() -> list[Any]:
    question = {"model": CLAUDE, "max_tokens": 60}
    return [
        {
            "custom_id": f"row-{n}",
            "params": {**question, "messages": [{"role": "user", "content": f"say nonce-claude-{n}"}]},
        }
        for n in range(ROWS)
    ]


def test_anthropics_package_cancels_a_batch_at_the_provider(
    native_house: House, client: Client, claude: anthropic.Anthropic
) -> None:
    # given: a provider that stops half way, and takes its time to end
    native_house.simulator.config(native={"anthropic": {"stuck": 0.5, "cancelling_seconds": 3600}})
    made = claude.messages.batches.create(requests=claude_rows())
    ours = "batch_" + made.id.removeprefix("msgbatch_")
    wait_for_shards(native_house, ours, "sent")
    there = claude.messages.batches.retrieve(made.id)
    assert (there.processing_status, there.request_counts.processing) == ("in_progress", ROWS)
    # when
    assert claude.messages.batches.cancel(made.id).processing_status == "canceling"
    wait_until(lambda: shards(native_house, ours)[0]["cancel_sent_at"] is not None, 20)
    there = claude.messages.batches.retrieve(made.id)
    assert (there.processing_status, there.results_url) == ("canceling", None)
    native_house.simulator.advance(3601)
    wait_for_end(client, ours)
    # then: every row has its result
    done = claude.messages.batches.retrieve(made.id)
    assert done.processing_status == "ended"
    assert done.request_counts.model_dump() == {
        "processing": 0,
        "succeeded": ROWS // 2,
        "errored": 0,
        "canceled": ROWS // 2,
        "expired": 0,
    }
    kinds: dict[str, list[str]] = {"succeeded": [], "canceled": []}
    for line in claude.messages.batches.results(made.id):
        kinds[line.result.type].append(line.custom_id)
        if line.result.type == "succeeded":
            text = line.result.message.content[-1].text  # type: ignore[union-attr]
            assert f"nonce-claude-{line.custom_id.removeprefix('row-')}." in text
    assert len(kinds["succeeded"]) == len(kinds["canceled"]) == ROWS // 2
    assert set(kinds["succeeded"] + kinds["canceled"]) == {f"row-{n}" for n in range(ROWS)}


class Theirs:
    """The ids of batches and files that the simulated providers have had since this was made."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.ids: set[str] = set()

    def look(self) -> bool:
        there = self._house.simulator.native()
        self.ids |= {each["id"] for each in (*there["batches"], *there["files"])}
        return bool(self.ids)


def answers(client: Client, batch_id: str, gpt: openai.OpenAI, claude: anthropic.Anthropic) -> dict[str, str]:
    """What the API says of a batch and its rows, everywhere: place -> text."""
    project = f"{client.tenant_id}/{client.project_id}"
    places = [
        f"/v1/batch/{batch_id}",
        "/v1/batch",
        f"/v1/batch/{batch_id}/results",
        f"/v1/logs/{project}?limit=100",
        f"/v1/logs/{project}/export?format=ndjson",
        f"/v1/stats/{project}?group_by=error",
        "/v1/providers",
        "/v1/webhooks/deliveries",
    ]
    found = {place: client.get(place).text for place in places}
    logs = client.get(f"/v1/logs/{project}?limit=3").json()["data"]
    found |= {log["id"]: client.get(f"/v1/logs/{project}/{log['id']}").text for log in logs}
    batch = gpt.batches.retrieve(batch_id)
    found["openai"] = batch.model_dump_json()
    for file_id in (batch.input_file_id, batch.output_file_id, batch.error_file_id):
        if file_id is not None:
            found[file_id] = gpt.files.content(file_id).text
    message_batch = claude.messages.batches.retrieve("msgbatch_" + batch_id.removeprefix("batch_"))
    found["anthropic"] = message_batch.model_dump_json()
    if message_batch.results_url is not None:
        found["results"] = "".join(line.to_json() for line in claude.messages.batches.results(message_batch.id))
    return found


def named(found: dict[str, str], ids: set[str]) -> list[tuple[str, str]]:
    return [(place, each) for place, text in found.items() for each in ids if each in text]


#: Ids that the faults below put into the providers' words.
PLANTED = {"file-Zq7simulated", "batch_68simulated", "msgbatch_01simulated", "org-simulatedWithoutDigit"}


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "400", "on": "row", "probability": 0.5},
        {"kind": "400", "on": "create"},
        {"kind": "400", "on": "upload"},
        {"kind": "fails", "code": "invalid_request", "vendor": "openai"},
    ],
    ids=lambda fault: f"{fault['kind']}-on-{fault.get('on', 'batch')}",
)
def test_no_id_of_a_providers_is_in_any_answer(
    native_house: House,
    client: Client,
    gpt: openai.OpenAI,
    claude: anthropic.Anthropic,
    fault: dict[str, Any],
) -> None:
    native_house.simulator.config(faults=[{**fault, "message": WORDS}])
    says = ("No such File", "could not be processed")
    theirs = Theirs(native_house)
    with Receiver() as receiver:
        options = {"processing": "native", "webhook_url": receiver.url}
        batch_id = submit(client, rows("ids", 20, models=("gpt-4o-mini", CLAUDE)), **options)["id"]
        wait_for(client, batch_id, lambda batch: theirs.look() and batch["ended_at"] is not None)
        wait_until(lambda: bool(receiver.received()), 20)
        found = answers(client, batch_id, gpt, claude)
        found["webhook"] = receiver.received()[0].body.decode()
    assert len(theirs.ids) > 0
    assert named(found, theirs.ids | PLANTED) == []
    # and: what the provider said is there without them
    messages = {row["error"]["message"] for row in results(client, batch_id) if row["status"] == "failed"}
    assert any(words in message for message in messages for words in says)


def test_no_id_of_a_providers_is_in_the_words_for_a_refused_key(
    native_house: House, client: Client, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    native_house.simulator.config(faults=[{"kind": "401", "on": "create", "message": WORDS}])
    with Receiver() as receiver:
        batch_id = submit(client, rows("key", 20, models=("gpt-4o-mini",)), webhook_url=receiver.url)["id"]
        wait_for(client, batch_id, lambda batch: batch["status"] == "paused")
        wait_until(lambda: bool(receiver.received()), 20)
        found = answers(client, batch_id, gpt, claude)
        found["webhook"] = receiver.received()[0].body.decode()
    assert named(found, PLANTED) == []
    stopped = [each for each in client.get("/v1/providers").json()["data"] if each["state"] == "stopped"]
    assert len(stopped) == 1
    assert "No such File" in str(stopped[0])
