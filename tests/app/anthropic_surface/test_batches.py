"""Message batches through the unmodified `anthropic` package, and the same batches at /v1/batch."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from launcher.client import wait_until
from launcher.house import House

pytestmark = pytest.mark.e2e


def row(custom_id: str, model: str = "claude-haiku-5-5", text: str = "hi", **fields: Any) -> Any:
    params = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": text}], **fields}
    return {"custom_id": custom_id, "params": params}


def ended(claude: anthropic.Anthropic, batch_id: str) -> Any:
    seen: list[Any] = []

    def done() -> bool:
        seen.append(claude.messages.batches.retrieve(batch_id))
        return bool(seen[-1].processing_status == "ended")

    wait_until(done, 60, lambda: f"not ended: {seen[-1]}")
    return seen[-1]


def test_a_batch_of_both_vendors_models_from_its_making_to_its_end(claude: anthropic.Anthropic, service: House) -> None:
    # Given a batch of three rows, one of which its provider refuses
    service.simulator.config(faults=[{"kind": "400", "contains": "nonce-bad"}], tokens={"reasoning": 2})
    rows = [row("a", text="nonce-a"), row("b", "gpt-4o", "nonce-b"), row("c", text="nonce-bad")]
    batch = claude.messages.batches.create(requests=rows)
    assert batch.id.startswith("msgbatch_")
    assert batch.request_counts.processing == 3 or batch.processing_status == "ended"
    # When it has ended
    batch = ended(claude, batch.id)
    assert batch.request_counts.model_dump() == {
        "processing": 0,
        "succeeded": 2,
        "errored": 1,
        "canceled": 0,
        "expired": 0,
    }
    # Then its results are matched by custom_id, in Anthropic's form
    assert batch.results_url == f"{service.url}/v1/messages/batches/{batch.id}/results"
    found = {line.custom_id: line.result for line in claude.messages.batches.results(batch.id)}
    assert [block.type for block in found["a"].message.content] == ["thinking", "text"]  # type: ignore[union-attr]
    assert "nonce-b" in found["b"].message.content[-1].text  # type: ignore[union-attr]
    assert found["c"].error.error.type == "invalid_request_error"  # type: ignore[union-attr]
    # And it is the same batch at /v1/batch
    own = service.client.get(f"/v1/batch/batch_{batch.id.removeprefix('msgbatch_')}").json()
    assert (own["request_counts"]["succeeded"], own["request_counts"]["failed"]) == (2, 1)
    # And once it is deleted, nobody finds it
    assert claude.messages.batches.delete(batch.id).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.batches.retrieve(batch.id)


def test_a_batch_of_ours_is_seen_here_and_canceled(claude: anthropic.Anthropic, service: House) -> None:
    # Given a batch that takes its time, made at /v1/batch
    service.simulator.config(latency=2)
    rows = [{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]} for _ in range(3)]
    made = service.client.post("/v1/batch", {"requests": rows}).json()
    batch_id = "msgbatch_" + made["id"].removeprefix("batch_")
    with pytest.raises(anthropic.APIStatusError) as refused:
        claude.messages.batches.delete(batch_id)
    assert refused.value.status_code == 409
    assert claude.messages.batches.retrieve(batch_id).results_url is None
    # When it is canceled
    batch = claude.messages.batches.cancel(batch_id)
    assert batch.processing_status in ("canceling", "ended")
    assert batch.cancel_initiated_at is not None
    assert claude.messages.batches.cancel(batch_id).id == batch_id
    # Then it ends, and every row has a result
    counts = ended(claude, batch_id).request_counts
    assert counts.processing == 0
    assert counts.succeeded + counts.canceled == 3
    kinds = [line.result.type for line in claude.messages.batches.results(batch_id)]
    assert sorted(kinds) == ["canceled"] * counts.canceled + ["succeeded"] * counts.succeeded


def test_batches_are_paged_in_both_directions(claude: anthropic.Anthropic) -> None:
    made = [claude.messages.batches.create(requests=[row("a")]).id for _ in range(3)]
    newest = claude.messages.batches.list(limit=2)
    assert [batch.id for batch in newest.data] == [made[2], made[1]]
    assert newest.has_more
    assert [batch.id for batch in claude.messages.batches.list(limit=1, after_id=made[2]).data] == [made[1]]
    assert [batch.id for batch in claude.messages.batches.list(limit=1, before_id=made[0]).data] == [made[1]]
    everything = [batch.id for batch in claude.messages.batches.list(limit=1)]
    assert everything[:3] == made[::-1]
    with pytest.raises(anthropic.BadRequestError, match="limit"):
        claude.messages.batches.list(limit=1001)


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "requests: Input should be a list"),
        ([row("a b")], "requests.0.custom_id: String should match pattern"),
        ([row("a"), row("a")], "requests.1.custom_id: `a` is already used"),
        ([row("a"), row("b", stream=True)], "requests.1.params.stream: is not available in a batch"),
        ([row("a", max_tokens=None)], "requests.0.params.max_tokens: Field required"),
        ([row("a", temperature=0.5)], "requests.0.params.temperature: claude-haiku-5-5 does not take temperature"),
        ([row("a", max_tokens=0)], "requests.0.params.max_tokens: rows of a batch ask for an answer"),
        ([row("a", context_management={"edits": []})], "requests.0.params.context_management: is not available"),
        ([row("a", "claude-opus-5-5", speed="fast")], "requests.0.params.speed: is not available in a batch"),
        ([row("a", inference_geo="us")], "requests.0.params.inference_geo: is not available in a batch"),
        ([row("a", mcp_servers=[{"name": "m", "authorization_token": "t"}])], "mcp_servers: is not available"),
        ([row("a", "llama-9")], "requests.0.params.model: No provider serves"),
    ],
)
def test_a_wrong_request_is_named_and_nothing_is_kept(claude: anthropic.Anthropic, requests: Any, message: str) -> None:
    before = [batch.id for batch in claude.messages.batches.list(limit=1).data]
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.batches.create(requests=requests)
    assert message in refused.value.message
    assert [batch.id for batch in claude.messages.batches.list(limit=1).data] == before


def test_betas_are_not_left_out_in_silence(claude: anthropic.Anthropic) -> None:
    requests: Any = [row("a")]
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.beta.messages.batches.create(requests=requests, betas=["output-300k-2026-03-24"])
    assert "output-300k-2026-03-24 is not available in a batch" in refused.value.message
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.batches.create(requests=requests, extra_headers={"anthropic-user-profile-id": "profile_1"})
    assert "anthropic-user-profile-id: is not available in a batch" in refused.value.message
    # Those that the API has without asking are no obstacle
    made = claude.beta.messages.batches.create(requests=requests, betas=["prompt-caching-2024-07-31"])
    assert made.processing_status == "in_progress"
