"""Anthropic's Message Batches: all requests in one JSON body, one stream of results (PROVIDERS.md 5.6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from core.errors import FieldError, InvalidInput
from core.providers.anthropic import PATH as MESSAGES
from core.providers.anthropic import VERSION_WITH_SAMPLING, Anthropic
from core.providers.anthropic_answer import read_message
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
    rfc3339,
    rows,
)
from core.providers.failures import unreadable
from core.providers.types import Failure, ProviderRequest, Success
from core.states import FailureReason

PATH = "/v1/messages/batches"

_PHASES = {"canceling": Phase.CANCELLING, "ended": Phase.DONE}
_NOT_RUN = {
    "expired": FailureReason.EXPIRED,
    "canceled": FailureReason.CANCELLED,
    "cancelled": FailureReason.CANCELLED,
}
_COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")
_PAGE = 1000
# The version that takes sampling parameters takes everything else too, and a batch has one version for all its rows.
_VERSION = {"anthropic-version": VERSION_WITH_SAMPLING}


class AnthropicBatches:
    """Pure functions of the Message Batches API, for a base URL without /v1 (see BatchWire)."""

    max_rows = 100_000
    max_bytes = int(256_000_000 * MARGIN)
    uploads = False
    frame = Frame(b'{"requests":[', b",", b"]}")

    def __init__(self) -> None:
        self._adapter = Anthropic()

    def line(self, row_id: int, params: Mapping[str, Any], model: str) -> bytes:
        """One element of `requests`: the body of the live call, as it was encoded."""
        request = self._adapter.build(params, model)
        if "anthropic-beta" in request.headers:
            raise InvalidInput([FieldError("", "beta features are not sent in a provider's batch")])
        return b"".join((b'{"custom_id":"%d","params":' % row_id, request.body, b"}"))

    def endpoint(self, params: Mapping[str, Any], model: str) -> str:
        return MESSAGES

    def create(self, *, endpoint: str, tag: str, file_id: str | None) -> ProviderRequest:
        """The call that makes a batch; its body is `frame` with the lines. The tag has no place in it."""
        return ProviderRequest(path=PATH, body=b"", headers={**_VERSION, "content-type": "application/json"})

    def get(self, remote_id: str) -> ProviderRequest:
        return ProviderRequest(method="GET", path=f"{PATH}/{checked_id(remote_id)}", body=b"", headers=_VERSION)

    def page(self, after: str | None) -> ProviderRequest:
        query = urlencode({"limit": str(_PAGE)} | ({"after_id": after} if after else {}))
        return ProviderRequest(method="GET", path=f"{PATH}?{query}", body=b"", headers=_VERSION)

    def cancel(self, remote_id: str) -> ProviderRequest:
        return ProviderRequest(path=f"{PATH}/{checked_id(remote_id)}/cancel", body=b"", headers=_VERSION)

    def clean_up(self, batch: RemoteBatch | None, file_id: str | None) -> list[ProviderRequest]:
        """The call that deletes an ended batch with its results."""
        if batch is None:
            return []
        path = f"{PATH}/{checked_id(batch.remote_id)}"
        return [ProviderRequest(method="DELETE", path=path, body=b"", headers=_VERSION)]

    def download(self, ref: str) -> ProviderRequest:
        headers = {**_VERSION, "accept": "application/binary"}
        return ProviderRequest(method="GET", path=f"{PATH}/{checked_id(ref)}/results", body=b"", headers=headers)

    def parse_batch(
        self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None
    ) -> RemoteBatch | Failure:
        return read_batch(read_object(status, headers, body, secret=secret), status, _batch)

    def parse_list(
        self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None
    ) -> Page | Failure:
        return read_page(read_object(status, headers, body, secret=secret), status, _batch)

    def parse_line(self, line: bytes, *, secret: str | None = None) -> RowResult:
        read = read_line(line)
        if isinstance(read, RowResult):
            return read
        row_id, found = read
        result = found.get("result")
        kind = result.get("type") if isinstance(result, dict) else None
        outcome: Success | Failure
        if not isinstance(result, dict) or not isinstance(kind, str):
            outcome = unreadable(200, "a line of the provider's results has no result")
        elif kind in _NOT_RUN:
            return not_run(row_id, _NOT_RUN[kind], kind)
        elif kind == "succeeded":
            outcome = read_message(result.get("message"), secret=secret)
        elif kind == "errored":
            error = result.get("error")
            outcome = inside_line(error if isinstance(error, dict) else {"error": error}, secret=secret)
        else:
            outcome = unreadable(200, "a line of the provider's results has a result of an unknown type")
        return RowResult(row_id=row_id, outcome=outcome)


def _batch(found: Any) -> RemoteBatch:
    word = found["processing_status"]
    if not isinstance(word, str):
        raise ValueError("processing_status is no text")
    phase = _PHASES.get(word, Phase.WORKING)
    given = found.get("request_counts") or {}
    counts = {name: rows(given.get(name)) or 0 for name in _COUNTS}
    remote_id = checked_id(found["id"])
    expires_at = found.get("expires_at")
    ended = phase is Phase.DONE
    batch = RemoteBatch(
        remote_id=remote_id,
        phase=phase,
        status=word[:64],
        total=sum(counts.values()) if given else None,
        completed=None,
        failed=None,
        created_at=rfc3339(found["created_at"]),
        expires_at=None if expires_at is None else rfc3339(expires_at),
        # The results' address is made from the id: a credential goes to no host that an answer names.
        result_refs=(remote_id,) if ended and found.get("results_url") is not None else (),
    )
    if not ended or not given:
        return batch
    return replace(
        batch,
        completed=counts["succeeded"],
        failed=counts["errored"] + counts["canceled"] + counts["expired"],
    )
