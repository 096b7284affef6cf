"""A connection's batch API at its provider: uploads, batches and results, with flat memory in both directions."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

from core import egress
from core.call import no_answer
from core.egress.errors import EgressError
from core.errors import AddressRefused, ServiceError
from core.loaded_connections import LoadedConnection
from core.native.result_lines import MAX_LINE_BYTES, lines_of
from core.providers import adapter_for
from core.providers.anthropic_batches import AnthropicBatches
from core.providers.batches import BatchWire, Frame, Phase, RemoteBatch, RowResult, read_object
from core.providers.failures import unreadable
from core.providers.openai_batches import OpenAIBatches
from core.providers.types import Failure, ProviderRequest
from core.states import ProviderType

#: An answer about a batch or a file is small, but a page of a list may hold a thousand of them.
MAX_ANSWER_BYTES = 16 << 20
MAX_RESULTS_BYTES = 4 << 30
MAX_REFUSAL_BYTES = 1 << 20
#: A transfer that is slower than this on average is given up.
SLOWEST_BYTES_PER_SECOND = 256 << 10
#: Results may take this long altogether: their size is not known before, and their reader works while they come.
#: A wait of `timeout_seconds` for the next piece ends it sooner.
RESULTS_SECONDS = 3600.0
#: No list is followed for longer: what is looked for was made minutes ago.
MAX_PAGES = 50

T = TypeVar("T")
Lines = Callable[[], Iterator[bytes]]

_WIRES: dict[str, Callable[[], BatchWire]] = {
    ProviderType.OPENAI: OpenAIBatches,
    ProviderType.ANTHROPIC: AnthropicBatches,
}


def size_limits(provider_type: str) -> tuple[int, int]:
    """The most rows, and the most bytes, of one batch at a provider. Raises KeyError where there is no batch API."""
    wire = _WIRES[provider_type]()
    return wire.max_rows, wire.max_bytes


class RemoteProblem(ServiceError):
    """The provider's batch API did not do this."""

    def __init__(self, failure: Failure, *, sent: bool) -> None:
        super().__init__(failure.message)
        self.failure = failure
        #: the provider may have done it, although there is no answer that says so
        self.sent = sent

    @property
    def gone(self) -> bool:
        """True if the provider knows no such batch or file, or has no batch API."""
        return self.failure.provider_status == 404


class Remote:
    """The batch API behind one connection. Every method but the pure ones raises RemoteProblem.

    Parameters
    ----------
    connection : of type openai or anthropic; ValueError for others, which have no batch API that we know.
    timeout_seconds : wall-clock limit of a small call. Uploads get more by their length, results RESULTS_SECONDS.
    """

    def __init__(self, connection: LoadedConnection, *, timeout_seconds: float = 60.0) -> None:
        if connection.provider_type not in _WIRES:
            raise ValueError(f"{connection.provider_type} has no batch API")
        self._connection = connection
        self._timeout_seconds = timeout_seconds
        self._wire = _WIRES[connection.provider_type]()
        self.max_rows = self._wire.max_rows
        self.max_bytes = self._wire.max_bytes
        #: True if the lines are uploaded as a file, which a batch is then made of; else they go with `create`
        self.uploads = self._wire.uploads

    def line(self, row_id: int, params: Mapping[str, Any], model: str) -> bytes:
        """One row for this provider, without a line break. Raises InvalidInput if it cannot be expressed."""
        return self._wire.line(row_id, params, model)

    def endpoint(self, params: Mapping[str, Any], model: str) -> str:
        """The provider's endpoint for a row: rows of one batch must have the same."""
        return self._wire.endpoint(params, model)

    def framed_length(self, rows: int, line_bytes: int) -> int:
        """Bytes of the file or body that so many lines of so many bytes altogether make: `max_bytes` is the most."""
        return self._wire.frame.length(rows, line_bytes)

    def upload(self, name: str, lines: Lines, rows: int, line_bytes: int) -> str:
        """Upload the lines as a file, produced while they are sent: its id at the provider. OpenAI only.

        Parameters
        ----------
        name : [A-Za-z0-9._-]{1,128}; what `find_upload` finds it by.
        lines : called for each attempt; gives the same `rows` lines of `line_bytes` bytes altogether each time.
        """
        request, frame = self._files.upload(name, secrets.token_hex(16))
        answer = self._call(request, body=_body(frame, lines, rows, line_bytes))
        return self._read(answer, self._files.parse_file)

    def find_upload(self, name: str, size: int) -> str | None:
        """The file of that name and so many bytes, after the answer to its upload was lost; None if there is none."""
        after: str | None = None
        for _ in range(MAX_PAGES):
            answer = self._call(self._files.list_files(after))
            files, after = self._read(answer, self._files.parse_files)
            for file_id, filename, size_there in files:
                if filename == name and size_there == size:
                    return file_id
            if after is None:
                break
        return None

    def create(
        self,
        *,
        endpoint: str,
        tag: str,
        file_id: str | None,
        lines: Lines | None = None,
        rows: int = 0,
        line_bytes: int = 0,
    ) -> RemoteBatch:
        """Make a batch: of an uploaded file, or (where nothing is uploaded) of these lines, as in `upload`.

        After a RemoteProblem with `sent`, ask `find` before trying again.
        """
        request = self._wire.create(endpoint=endpoint, tag=tag, file_id=file_id)
        body = None
        if not self.uploads:
            if lines is None:
                raise ValueError("this provider takes the lines with the call")
            body = _body(self._wire.frame, lines, rows, line_bytes)
        return self._read(self._call(request, body=body), self._wire.parse_batch)

    def find(self, *, tag: str, rows: int, since: datetime) -> list[RemoteBatch]:
        """Batches that a lost `create` may have made, newest first.

        OpenAI's carry the tag. Anthropic's have none: those of that many rows are given, so the caller must know which
        of them are its others. `since` is in the provider's time: take some off for a clock that differs.
        """
        found: list[RemoteBatch] = []
        after: str | None = None
        for _ in range(MAX_PAGES):
            page = self._read(self._call(self._wire.page(after)), self._wire.parse_list)
            recent = [batch for batch in page.batches if batch.created_at >= since]
            found += [batch for batch in recent if (batch.tag == tag if self.uploads else batch.total == rows)]
            after = page.after
            if after is None or len(recent) < len(page.batches):
                return found
        raise RemoteProblem(unreadable(200, "the provider's list of batches does not end"), sent=False)

    def get(self, remote_id: str) -> RemoteBatch:
        """How the batch stands."""
        return self._read(self._call(self._wire.get(remote_id)), self._wire.parse_batch)

    def cancel(self, remote_id: str) -> RemoteBatch | None:
        """Ask for an end: how the batch stands then, None if the provider has none. An ended one is no error."""
        try:
            return self._read(self._call(self._wire.cancel(remote_id)), self._wire.parse_batch)
        except RemoteProblem as problem:
            if problem.gone:
                return None
            if problem.failure.provider_status not in (400, 409, 422):
                raise
            batch = self.get(remote_id)
            if batch.phase is Phase.WORKING:
                raise
            return batch

    def results(self, batch: RemoteBatch) -> Iterator[RowResult]:
        """The results of a batch, a line at a time, in any order; a row may come twice or not at all.

        A line of more than MAX_LINE_BYTES is passed over: its row does not come. RemoteProblem may also come in the
        middle; then begin anew.
        """
        secret = self._connection.secret.reveal()
        for ref in batch.result_refs:
            for line in self._downloaded(self._wire.download(ref)):
                if line is None:
                    too_long = f"a line of the provider's results is longer than {MAX_LINE_BYTES} bytes"
                    yield RowResult(row_id=None, outcome=unreadable(200, too_long))
                else:
                    yield self._wire.parse_line(line, secret=secret)

    def clean_up(self, batch: RemoteBatch | None, file_id: str | None) -> None:
        """Delete what a batch has left at the provider, its results among it. What is gone already is no error."""
        problem: RemoteProblem | None = None
        for request in self._wire.clean_up(batch, file_id):
            try:
                self._read(self._call(request), read_object)
            except RemoteProblem as error:
                if not error.gone:
                    problem = error
        if problem is not None:
            raise problem

    @property
    def _files(self) -> OpenAIBatches:
        if not isinstance(self._wire, OpenAIBatches):
            raise ValueError(f"{self._connection.provider_type} takes no files")
        return self._wire

    def _call(self, request: ProviderRequest, body: egress.Body | None = None) -> egress.Answer:
        seconds = self._timeout_seconds + (len(body) / SLOWEST_BYTES_PER_SECOND if body else 0.0)
        try:
            return egress.request(
                request.method,
                self._connection.base_url + request.path,
                headers=self._headers(request),
                body=body or request.body or None,
                timeout_seconds=seconds,
                max_bytes=MAX_ANSWER_BYTES,
            )
        except (EgressError, AddressRefused) as error:
            raise _unanswered(error) from error

    def _downloaded(self, request: ProviderRequest) -> Iterator[bytes | None]:
        try:
            with egress.stream(
                request.method,
                self._connection.base_url + request.path,
                headers=self._headers(request),
                timeout_seconds=RESULTS_SECONDS,
                max_bytes=MAX_RESULTS_BYTES,
                idle_seconds=self._timeout_seconds,
            ) as stream:
                if stream.status == 200:
                    yield from lines_of(stream)
                    return
                answer = egress.Answer(stream.status, stream.headers, _beginning(stream))
        except (EgressError, AddressRefused) as error:
            raise _unanswered(error) from error
        self._read(answer, read_object)
        raise RemoteProblem(unreadable(answer.status, "the provider's answer holds no results"), sent=False)

    def _headers(self, request: ProviderRequest) -> dict[str, str]:
        connection = self._connection
        adapter = adapter_for(connection.provider_type)
        return {
            **request.headers,
            **adapter.credential_headers(connection.secret.reveal(), connection.organization),
        }

    def _read(self, answer: egress.Answer, parse: Callable[..., T | Failure]) -> T:
        found = parse(answer.status, answer.headers, answer.body, secret=self._connection.secret.reveal())
        if isinstance(found, Failure):
            # A success that cannot be read was one; an error of the server, or of one before it, says nothing.
            sent = answer.status < 300 or answer.status >= 500 or answer.status == 408
            raise RemoteProblem(found, sent=sent)
        return found


def _unanswered(error: EgressError | AddressRefused) -> RemoteProblem:
    return RemoteProblem(no_answer(error), sent=isinstance(error, EgressError) and error.sent)


def _body(frame: Frame, lines: Lines, rows: int, line_bytes: int) -> egress.Body:
    return egress.Body(frame.length(rows, line_bytes), lambda: frame.pieces(lines()))


def _beginning(stream: Iterable[bytes]) -> bytes:
    """As much of a refusal as can say why."""
    found = b""
    for piece in stream:
        found += piece
        if len(found) >= MAX_REFUSAL_BYTES:
            break
    return found
