"""OpenAI's batch API: a file of lines, a batch over it, files of answers and errors (PROVIDERS.md 5.1 to 5.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

import orjson

from core.params import embeddings
from core.providers import openai_embeddings
from core.providers.batches import (
    MARGIN,
    Frame,
    Page,
    Phase,
    RemoteBatch,
    RowResult,
    checked_id,
    inside_line,
    not_run,
    read_batch,
    read_line,
    read_object,
    read_page,
    rows,
    seconds,
)
from core.providers.failures import failure_inside, unreadable
from core.providers.openai import OpenAI
from core.providers.types import Failure, ProviderRequest, Success
from core.states import FailureReason

#: the metadata key of our tag
TAG = "llm_service_shard"
#: Files that were not deleted go away by themselves after this: longer than a batch and its second try take.
KEEP_SECONDS = 7 * 86400

_PHASES = {
    "cancelling": Phase.CANCELLING,
    "completed": Phase.DONE,
    "expired": Phase.DONE,
    "cancelled": Phase.DONE,
    "failed": Phase.REFUSED,
}
_NOT_RUN = {
    "batch_expired": FailureReason.EXPIRED,
    "batch_cancelled": FailureReason.CANCELLED,
    "batch_canceled": FailureReason.CANCELLED,
}
#: refusals of a whole batch that pass: its queue is full
_QUEUE_CODES = frozenset({"token_limit_exceeded", "too_many_tasks"})
_ENQUEUED_LIMIT = re.compile(r"[Ll]imit: ([0-9][0-9,]{0,20}) enqueued tokens")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
_PAGE = 100
_FILES_PAGE = 1000
_JSON = {"content-type": "application/json"}


class OpenAIBatches:
    """Pure functions of OpenAI's Files and Batch API, for a base URL that ends in /v1 (see BatchWire)."""

    max_rows = 50_000
    max_bytes = int(200_000_000 * MARGIN)
    uploads = True
    frame = Frame(b"", b"\n", b"\n")

    def __init__(self) -> None:
        self._adapter = OpenAI()

    def line(self, row_id: int, params: Mapping[str, Any], model: str) -> bytes:
        """One line of the input file: the body of the live call, as it was encoded."""
        request = self._build(params, model)
        head = b'{"custom_id":"%d","method":"POST","url":"/v1%b","body":' % (row_id, request.path.encode())
        return b"".join((head, request.body, b"}"))

    def endpoint(self, params: Mapping[str, Any], model: str) -> str:
        """Which endpoint a row is for: /v1/chat/completions, say."""
        return "/v1" + self._build(params, model).path

    def _build(self, params: Mapping[str, Any], model: str) -> ProviderRequest:
        if embeddings.asked_for(params):
            return openai_embeddings.build(params, model)
        return self._adapter.build(params, model)

    def upload(self, name: str, boundary: str) -> tuple[ProviderRequest, Frame]:
        """The call that uploads a file, and what its body is around the file's lines. Raises ValueError for a name.

        `boundary` is a random token. In the file's JSON it could not follow a line break even if it were guessed.
        """
        if not _NAME.match(name):
            raise ValueError("a file's name is made of letters, digits, dots, dashes and underscores")
        fields = {
            "purpose": "batch",
            "expires_after[anchor]": "created_at",
            "expires_after[seconds]": str(KEEP_SECONDS),
        }
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
            for field, value in fields.items()
        ]
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        content = self.frame
        frame = Frame(
            "".join(parts).encode() + content.head, content.between, content.tail + f"\r\n--{boundary}--\r\n".encode()
        )
        headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
        return ProviderRequest(path="/files", body=b"", headers=headers), frame

    def list_files(self, after: str | None) -> ProviderRequest:
        """A page of the batch input files, newest first."""
        query = {"purpose": "batch", "limit": str(_FILES_PAGE), "order": "desc"}
        return _get("/files?" + urlencode(query | ({"after": after} if after else {})))

    def create(self, *, endpoint: str, tag: str, file_id: str | None) -> ProviderRequest:
        """The call that makes a batch of an uploaded file."""
        body = {
            "input_file_id": checked_id(file_id),
            "endpoint": endpoint,
            "completion_window": "24h",
            "metadata": {TAG: tag},
            "output_expires_after": {"anchor": "created_at", "seconds": KEEP_SECONDS},
        }
        return ProviderRequest(path="/batches", body=orjson.dumps(body), headers=_JSON)

    def get(self, remote_id: str) -> ProviderRequest:
        return _get(f"/batches/{checked_id(remote_id)}")

    def page(self, after: str | None) -> ProviderRequest:
        query = {"limit": str(_PAGE)} | ({"after": after} if after else {})
        return _get("/batches?" + urlencode(query))

    def cancel(self, remote_id: str) -> ProviderRequest:
        return ProviderRequest(path=f"/batches/{checked_id(remote_id)}/cancel", body=b"")

    def clean_up(self, batch: RemoteBatch | None, file_id: str | None) -> list[ProviderRequest]:
        """The calls that delete the input file and the result files. A batch itself cannot be deleted."""
        ids = [file_id] if file_id else []
        if batch is not None:
            ids += [batch.input_file_id] if batch.input_file_id else []
            ids += batch.result_refs
        return [
            ProviderRequest(method="DELETE", path=f"/files/{checked_id(each)}", body=b"") for each in dict.fromkeys(ids)
        ]

    def download(self, ref: str) -> ProviderRequest:
        return _get(f"/files/{checked_id(ref)}/content", accept="application/binary")

    def parse_file(
        self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None
    ) -> str | Failure:
        """The id in the answer to an upload."""
        found = read_object(status, headers, body, secret=secret)
        if isinstance(found, Failure):
            return found
        try:
            return checked_id(found.get("id"))
        except ValueError:
            return unreadable(status, "the provider's file object has no id")

    def parse_files(
        self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None
    ) -> tuple[list[tuple[str, str, int | None]], str | None] | Failure:
        """A page of files as (id, file name, bytes), and where the next begins; without those that have no id."""
        found = read_object(status, headers, body, secret=secret)
        if isinstance(found, Failure):
            return found
        listed = found.get("data")
        if not isinstance(listed, list):
            return unreadable(status, "the provider's list of files has no data")
        files = []
        for each in listed:
            try:
                file_id = checked_id(each["id"])
            except (ValueError, TypeError, KeyError):
                continue
            files.append((file_id, str(each.get("filename")), rows(each.get("bytes"))))
        return files, files[-1][0] if files and found.get("has_more") is True else None

    def parse_batch(
        self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None
    ) -> RemoteBatch | Failure:
        answer = read_object(status, headers, body, secret=secret)
        return read_batch(answer, status, partial(_batch, secret=secret))

    def parse_list(
        self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None
    ) -> Page | Failure:
        answer = read_object(status, headers, body, secret=secret)
        return read_page(answer, status, partial(_batch, secret=secret))

    def parse_line(self, line: bytes, *, secret: str | None = None) -> RowResult:
        read = read_line(line)
        if isinstance(read, RowResult):
            return read
        row_id, found = read
        response, error = found.get("response"), found.get("error")
        if isinstance(response, dict):
            status = response.get("status_code")
            if type(status) is not int:
                outcome = unreadable(200, "a line of the provider's results has no status")
                return RowResult(row_id=row_id, outcome=outcome)
            return RowResult(row_id=row_id, outcome=self._outcome(status, response.get("body"), secret))
        code = error.get("code") if isinstance(error, dict) else None
        if isinstance(code, str) and code in _NOT_RUN:
            return not_run(row_id, _NOT_RUN[code], code)
        if error:
            return RowResult(row_id=row_id, outcome=inside_line({"error": error}, secret=secret))
        return RowResult(row_id=row_id, outcome=unreadable(200, "a line of the provider's results has no response"))

    def _outcome(self, status: int, found: object, secret: str | None) -> Success | Failure:
        """What a line's answer means: a list is one of embeddings."""
        body = orjson.dumps(found)
        if status == 200 and isinstance(found, dict) and found.get("object") == "list":
            return openai_embeddings.parse(status, {}, body, str(found.get("model") or ""), secret=secret)
        return self._adapter.parse(status, {}, body, secret=secret)


def _get(path: str, accept: str = "application/json") -> ProviderRequest:
    return ProviderRequest(method="GET", path=path, body=b"", headers={"accept": accept})


def _batch(found: Any, *, secret: str | None) -> RemoteBatch:
    word = found["status"]
    if not isinstance(word, str):
        raise ValueError("status is no text")
    phase = _PHASES.get(word, Phase.WORKING)
    counts = found.get("request_counts") or {}
    tag = (found.get("metadata") or {}).get(TAG)
    refs = [found.get("output_file_id"), found.get("error_file_id")]
    input_file = found.get("input_file_id")
    expires_at = found.get("expires_at")
    error = _refusal(found.get("errors"), secret) if phase is Phase.REFUSED else None
    limit = _ENQUEUED_LIMIT.search(error.message) if error else None
    return RemoteBatch(
        remote_id=checked_id(found["id"]),
        phase=phase,
        status=word[:64],
        total=rows(counts.get("total")),
        completed=rows(counts.get("completed")),
        failed=rows(counts.get("failed")),
        created_at=seconds(found["created_at"]),
        expires_at=None if expires_at is None else seconds(expires_at),
        error=error,
        enqueued_limit=int(limit[1].replace(",", "")) if limit else None,
        tag=tag if isinstance(tag, str) else None,
        result_refs=tuple(checked_id(ref) for ref in refs if ref is not None),
        input_file_id=None if input_file is None else checked_id(input_file),
    )


def _refusal(errors: object, secret: str | None) -> Failure:
    """Why a whole batch was refused: the first of its errors, with the line it names."""
    listed = errors.get("data") if isinstance(errors, dict) else None
    first = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else {}
    found = replace(failure_inside({"error": first}, 400, secret=secret), provider_status=None)
    if first.get("code") in _QUEUE_CODES:
        found = replace(found, reason=FailureReason.RATE_LIMITED)
    line = rows(first.get("line"))
    return found if line is None else replace(found, message=f"line {line}: {found.message}")
