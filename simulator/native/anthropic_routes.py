"""Anthropic's operations on message batches (PROVIDERS.md 5.6)."""

from __future__ import annotations

from typing import Any

from simulator.native.anthropic_batch import AnthropicBatch
from simulator.native.blob import Blob
from simulator.native.exchange import Asked
from simulator.native.requests_body import RequestsBody
from simulator.paging import page
from simulator.prompt import Refusal


def create_batch(asked: Asked) -> dict[str, Any]:
    native, body = asked.native, asked.request.upload
    if not isinstance(body, RequestsBody):
        raise Refusal(400, "requests: Field required")
    body.check()
    most = native.settings.anthropic.queue_rows
    waiting = sum(batch.total for batch in native.listed(AnthropicBatch, asked.key) if not batch.ended)
    if most is not None and waiting + body.count > most:
        raise Refusal(429, f"This request would exceed the limit of {most} batch requests in the processing queue.")
    fault = native.simulation.faults.choose(vendor="anthropic", key=asked.key, model="", prompt="", on="batch")
    if fault is not None and fault.kind == "fails":
        raise Refusal(429, "The processing queue of batches is full.")
    speed = native.speed("anthropic", fault)
    batch = AnthropicBatch(native, asked.key, body, asked.request.headers, speed)
    native.add(batch)
    return batch.shown(_host(asked))


def get_batch(asked: Asked) -> dict[str, Any]:
    return _batch(asked).shown(_host(asked))


def list_batches(asked: Asked) -> dict[str, Any]:
    own = asked.native.listed(AnthropicBatch, asked.key)
    part, more = page([batch.id for batch in own], asked.request.query)
    data = [batch.shown(_host(asked)) for batch in own[part]]
    return {
        "data": data,
        "has_more": more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def cancel_batch(asked: Asked) -> dict[str, Any]:
    batch = _batch(asked)
    if batch.ended:
        raise Refusal(400, f"Batch {batch.id} has ended and cannot be canceled.")
    if batch.state != "cancelling":
        batch.cancel()
    return batch.shown(_host(asked))


def delete_batch(asked: Asked) -> dict[str, Any]:
    batch = _batch(asked)
    if not batch.ended:
        raise Refusal(400, f"Batch {batch.id} has not ended: cancel it before it is deleted.")
    del asked.native.batches[batch.id]
    asked.native.simulation.ledger.native["batches_deleted"] += 1
    return {"id": batch.id, "type": "message_batch_deleted"}


def results(asked: Asked) -> Blob:
    batch = _batch(asked)
    if batch.results is None or batch.archived:
        raise Refusal(404, f"Batch {batch.id} has no results available.")
    return batch.results


def _batch(asked: Asked) -> AnthropicBatch:
    return asked.native.get(AnthropicBatch, asked.key, asked.id)


def _host(asked: Asked) -> str:
    return asked.request.headers.get(b"host", b"localhost").decode("latin-1")
