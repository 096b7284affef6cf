"""The values of the providers' own batch APIs, and what both have in common (PROVIDERS.md 5). No I/O here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol

import orjson

from core.providers.failures import failure, failure_inside, unreadable
from core.providers.lenient import loads
from core.providers.types import Failure, ProviderRequest, Success
from core.states import FailureReason

#: Part of a provider's limit on bytes that stays unused: what counts as a megabyte is told in different ways.
MARGIN = 0.98

_REMOTE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_CUSTOM_ID = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z")


class Phase(StrEnum):
    """Where a provider's batch stands, in terms that both providers share."""

    WORKING = "working"
    CANCELLING = "cancelling"
    #: ended in whatever way: completed, expired, cancelled. What it has to give can be read.
    DONE = "done"
    #: not taken in: nothing ran and nothing is billed
    REFUSED = "refused"

    @property
    def ended(self) -> bool:
        return self in (Phase.DONE, Phase.REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteBatch:
    """A provider's batch as its last answer tells it.

    `status` is the provider's own word. The counts are of rows; None where the provider does not tell (Anthropic's
    stand still until the end). `result_refs` are what `download` takes, once there is something to be read.
    """

    remote_id: str
    phase: Phase
    status: str
    total: int | None
    completed: int | None
    failed: int | None
    created_at: datetime
    expires_at: datetime | None = None
    #: why it was refused
    error: Failure | None = None
    #: with a refusal for a full queue: how many tokens may wait there, if the provider says so
    enqueued_limit: int | None = None
    tag: str | None = None
    result_refs: tuple[str, ...] = ()
    input_file_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResult:
    """One line of results. `row_id` is None if the line cannot be read or its custom_id is none of ours.

    `executed` is False where the provider never ran the row, so that nothing is billed for it.
    """

    row_id: int | None
    outcome: Success | Failure
    executed: bool = True


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around and between the lines of a request's body; its length is known before any line is made."""

    head: bytes
    between: bytes
    tail: bytes

    def length(self, rows: int, line_bytes: int) -> int:
        """Bytes of the whole for so many lines of so many bytes altogether."""
        return len(self.head) + line_bytes + max(rows - 1, 0) * len(self.between) + len(self.tail)

    def pieces(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        yield self.head
        first = True
        for line in lines:
            if not first:
                yield self.between
            first = False
            yield line
        yield self.tail


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a provider's list, newest first; `after` continues it, None at its end."""

    batches: list[RemoteBatch]
    after: str | None


class BatchWire(Protocol):
    """One provider's batch API as pure functions. Paths are relative to the connection's base URL.

    The parse functions never raise: what cannot be read is a Failure. `secret` is removed from messages.
    """

    max_rows: int
    max_bytes: int
    #: True if lines are uploaded as a file first
    uploads: bool
    #: what stands around the lines: of the file, or of the create call's body
    frame: Frame

    def line(self, row_id: int, params: Mapping[str, Any], model: str) -> bytes:
        """One row, without a line break. Raises InvalidInput if it cannot be expressed."""

    def endpoint(self, params: Mapping[str, Any], model: str) -> str:
        """Which endpoint the row is for: rows of one batch share it."""

    def create(self, *, endpoint: str, tag: str, file_id: str | None) -> ProviderRequest:
        """The call that makes a batch; without a file, its body is `frame` with the lines."""

    def get(self, remote_id: str) -> ProviderRequest: ...

    def page(self, after: str | None) -> ProviderRequest: ...

    def cancel(self, remote_id: str) -> ProviderRequest: ...

    def clean_up(self, batch: RemoteBatch | None, file_id: str | None) -> list[ProviderRequest]:
        """The calls that delete what a batch has left at the provider."""

    def download(self, ref: str) -> ProviderRequest: ...

    def parse_batch(
        self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None
    ) -> RemoteBatch | Failure: ...

    def parse_list(
        self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None
    ) -> Page | Failure: ...

    def parse_line(self, line: bytes, *, secret: str | None = None) -> RowResult: ...


def checked_id(value: object) -> str:
    """An id of a provider's answer, fit to stand in a path. Raises ValueError."""
    if not isinstance(value, str) or not _REMOTE_ID.match(value):
        raise ValueError("not an id")
    return value


def row_id_of(custom_id: object) -> int | None:
    """Our row behind a custom_id; None if it is none of ours."""
    if not isinstance(custom_id, str) or not _CUSTOM_ID.match(custom_id):
        return None
    found = int(custom_id)
    return found if found < 1 << 63 else None


def read_object(
    status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None
) -> dict[str, Any] | Failure:
    """The JSON object in an answer about batches or files. Never raises.

    A 404 is about a batch, a file or the whole API, so it is not taken for an unknown model.
    """
    if not 200 <= status < 300:
        found = failure(status, headers, body, secret=secret)
        if status == 404 and found.provider_code != "model_not_found":
            found = replace(found, reason=FailureReason.INVALID_REQUEST)
        return found
    try:
        read = orjson.loads(body)
    except ValueError:
        return unreadable(status, "the provider's answer is not JSON or is cut off")
    if not isinstance(read, dict):
        return unreadable(status, "the provider's answer is not a JSON object")
    if read.get("error"):
        return failure_inside(read, status, secret=secret)
    return read


def read_batch(
    answer: dict[str, Any] | Failure, status: int, read: Callable[[Any], RemoteBatch]
) -> RemoteBatch | Failure:
    """The batch in an answer; `read` may stumble over whatever is not as it should be."""
    if isinstance(answer, Failure):
        return answer
    try:
        return read(answer)
    except (ValueError, TypeError, KeyError, AttributeError):
        return unreadable(status, "the provider's batch object cannot be read")


def read_page(answer: dict[str, Any] | Failure, status: int, read: Callable[[Any], RemoteBatch]) -> Page | Failure:
    """The page of batches in an answer. One that cannot be read spoils it: it could be the one that is looked for."""
    if isinstance(answer, Failure):
        return answer
    try:
        batches = [read(each) for each in answer["data"]]
    except (ValueError, TypeError, KeyError, AttributeError):
        return unreadable(status, "the provider's list of batches cannot be read")
    return Page(batches, batches[-1].remote_id if batches and answer.get("has_more") is True else None)


def read_line(line: bytes) -> tuple[int | None, dict[str, Any]] | RowResult:
    """A result line's row and object, or what there is to say of a line that is none."""
    try:
        found = loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return RowResult(row_id=None, outcome=unreadable(200, "a line of the provider's results is not a JSON object"))
    return row_id_of(found.get("custom_id")), found


def inside_line(found: Mapping[str, Any], *, secret: str | None = None) -> Failure:
    """The Failure of an error that stands in a line without an HTTP status."""
    return replace(failure_inside(found, 200, secret=secret), provider_status=None)


def not_run(row_id: int | None, reason: FailureReason, code: str) -> RowResult:
    """A row that the provider did not come to."""
    message = "the provider's batch was cancelled before this request ran"
    if reason is FailureReason.EXPIRED:
        message = "the provider's batch expired before this request ran"
    outcome = Failure(reason=reason, message=message, provider_code=code)
    return RowResult(row_id=row_id, outcome=outcome, executed=False)


def seconds(value: object) -> datetime:
    """Unix seconds as an aware datetime. Raises ValueError."""
    if type(value) not in (int, float):
        raise ValueError("not a time")
    try:
        return datetime.fromtimestamp(value, UTC)  # type: ignore[arg-type]
    except (OverflowError, OSError) as error:
        raise ValueError("not a time") from error


def rfc3339(value: object) -> datetime:
    """An RFC 3339 time as an aware datetime. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("not a time")
    found = datetime.fromisoformat(value)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def rows(value: object) -> int | None:
    """A count of rows; None if it is none."""
    return value if type(value) is int and 0 <= value < 1 << 53 else None
