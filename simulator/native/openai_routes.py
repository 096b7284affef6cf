"""OpenAI's operations on files and batches (PROVIDERS.md 5.1, 5.3)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from simulator.native.blob import Blob
from simulator.native.exchange import Asked
from simulator.native.multipart import FileUpload
from simulator.native.openai_batch import OpenAIBatch
from simulator.native.openai_checks import check_create
from simulator.native.openai_files import lifetime, page
from simulator.prompt import Refusal

_HOUR_SECONDS = 3_600.0


def upload_file(asked: Asked) -> dict[str, Any]:
    upload = asked.request.upload
    if not isinstance(upload, FileUpload):
        raise Refusal(400, "The body must be multipart/form-data.")
    return asked.native.files.upload(asked.key, upload).shown()


def list_files(asked: Asked) -> dict[str, Any]:
    return asked.native.files.listed(asked.key, asked.request.query)


def get_file(asked: Asked) -> dict[str, Any]:
    return asked.native.files.get(asked.key, asked.id).shown()


def file_content(asked: Asked) -> Blob:
    return asked.native.files.get(asked.key, asked.id).blob


def delete_file(asked: Asked) -> dict[str, Any]:
    return asked.native.files.delete(asked.key, asked.id)


def create_batch(asked: Asked) -> dict[str, Any]:
    native = asked.native
    body = check_create(asked.body(), native.surfaces.keys() - {"/v1/messages"})
    if (policy := body.get("output_expires_after")) is not None:
        policy["seconds"] = lifetime(policy, "output_expires_after")
    source = native.files.get(asked.key, body["input_file_id"])
    if source.purpose != "batch":
        message = f"The file {source.id} has the purpose '{source.purpose}': a batch's input needs 'batch'."
        raise Refusal(400, message, param="input_file_id")
    since = native.now() - _HOUR_SECONDS
    recent = sum(batch.created > since for batch in native.listed(OpenAIBatch, asked.key))
    if recent >= native.settings.openai.batches_per_hour:
        raise Refusal(429, "Too many batches were created within the last hour.", code="rate_limit_exceeded")
    fault = native.simulation.faults.choose(
        vendor="openai", key=asked.key, model="", prompt=str(body.get("metadata")), on="batch"
    )
    fails = (fault.code or "token_limit_exceeded") if fault is not None and fault.kind == "fails" else None
    batch = OpenAIBatch(native, asked.key, source, body, native.speed("openai", fault), fails)
    native.add(batch)
    return batch.shown()


def get_batch(asked: Asked) -> dict[str, Any]:
    return asked.native.get(OpenAIBatch, asked.key, asked.id).shown()


def list_batches(asked: Asked) -> dict[str, Any]:
    own = asked.native.listed(OpenAIBatch, asked.key)
    return page(own, parse_qs(asked.request.query), most=100, default=20)


def cancel_batch(asked: Asked) -> dict[str, Any]:
    batch = asked.native.get(OpenAIBatch, asked.key, asked.id)
    if batch.state in ("validating", "in_progress"):
        batch.cancel()
    elif batch.state != "cancelling":
        raise Refusal(400, f"Cannot cancel a batch with status '{batch.state}'.")
    return batch.shown()
