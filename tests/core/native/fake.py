"""A provider's batch API in memory, in the place of Remote: what the steps of shards are tried on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from core import loaded_connections
from core.ids import new_id
from core.native import drive
from core.native.remote import RemoteProblem
from core.providers.batches import Phase, RemoteBatch, RowResult
from core.providers.failures import unreadable
from core.providers.types import Success, Usage
from core.secret import Secret

_numbers = itertools.count(1)


def lost(what: str = "no answer") -> RemoteProblem:
    """The provider may have done it."""
    return RemoteProblem(unreadable(200, what), sent=True)


def gone() -> RemoteProblem:
    """404."""
    return RemoteProblem(unreadable(404, "no such thing"), sent=False)


def answer(row_id: int, *, output_tokens: int = 5) -> RowResult:
    text = f"answer {row_id}"
    model = "gpt-4o-mini-2024-07-18"
    body = {"object": "chat.completion", "model": model, "choices": [{"message": {"content": text}}]}
    usage = Usage(input_tokens=10, output_tokens=output_tokens)
    return RowResult(row_id=row_id, outcome=Success(completion=body, model=model, usage=usage))


@dataclass(slots=True)
class Made:
    """A batch at the provider."""

    batch: RemoteBatch
    row_ids: list[int]
    #: how often each row's result comes; once if it is not named
    copies: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Provider:
    """All that one provider has. `before` and `after` (call -> what to raise then, once) make calls fail."""

    uploads: bool = True
    batches: dict[str, Made] = field(default_factory=dict)
    files: dict[str, tuple[str, list[int]]] = field(default_factory=dict)
    before: dict[str, BaseException] = field(default_factory=dict)
    after: dict[str, BaseException] = field(default_factory=dict)
    #: run before a call does anything: what else happens in that moment
    meanwhile: dict[str, Callable[[], None]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def working(self) -> list[Made]:
        return [made for made in self.batches.values() if not made.batch.phase.ended]

    def make(self, row_ids: list[int], *, tag: str | None = None, created_at: datetime | None = None) -> Made:
        number = next(_numbers)
        batch = RemoteBatch(
            remote_id=f"batch_{number}",
            phase=Phase.WORKING,
            status="in_progress",
            total=len(row_ids),
            completed=None,
            failed=None,
            created_at=created_at or datetime.now(UTC),
            tag=tag if self.uploads else None,
        )
        made = self.batches[batch.remote_id] = Made(batch, row_ids)
        return made

    def end(self, made: Made, *, share: float = 1.0) -> None:
        """It ends with the results of this share of its rows."""
        made.row_ids = made.row_ids[: round(len(made.row_ids) * share)]
        made.batch = replace(made.batch, phase=Phase.DONE, status="completed", result_refs=("results",))

    def refuse(self, made: Made, error: Any = None) -> None:
        made.row_ids = []
        made.batch = replace(made.batch, phase=Phase.REFUSED, status="failed", error=error)


class FakeRemote:
    """The calls of Remote on a Provider."""

    max_rows, max_bytes = 1000, 1 << 20

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.uploads = provider.uploads

    def line(self, row_id: int, params: Mapping[str, Any], model: str) -> bytes:
        return orjson.dumps({"custom_id": str(row_id)})

    def endpoint(self, params: Mapping[str, Any], model: str) -> str:
        return "/v1/chat/completions"

    def framed_length(self, rows: int, line_bytes: int) -> int:
        return rows + line_bytes

    def _call(self, name: str) -> None:
        self.provider.asked.append(name)
        if (happens := self.provider.meanwhile.pop(name, None)) is not None:
            happens()
        if (problem := self.provider.before.pop(name, None)) is not None:
            raise problem

    def _answer(self, name: str) -> None:
        if (problem := self.provider.after.pop(name, None)) is not None:
            raise problem

    def upload(self, name: str, lines: Callable[[], Iterator[bytes]], rows: int, line_bytes: int) -> str:
        self._call("upload")
        file_id = f"file-{next(_numbers)}"
        self.provider.files[file_id] = (name, [int(orjson.loads(line)["custom_id"]) for line in lines()])
        self._answer("upload")
        return file_id

    def find_upload(self, name: str, size: int) -> str | None:
        self._call("find_upload")
        return next((file_id for file_id, (known, _) in self.provider.files.items() if known == name), None)

    def create(
        self, *, tag: str, file_id: str | None, lines: Callable[[], Iterator[bytes]], **sizes: Any
    ) -> RemoteBatch:
        self._call("create")
        if file_id is None:
            row_ids = [int(orjson.loads(line)["custom_id"]) for line in lines()]
        else:
            row_ids = list(self.provider.files[file_id][1])
        made = self.provider.make(row_ids, tag=tag)
        self._answer("create")
        return made.batch

    def find(self, *, tag: str, rows: int, since: datetime) -> list[RemoteBatch]:
        self._call("find")
        found = [made.batch for made in self.provider.batches.values() if made.batch.created_at >= since]
        return [batch for batch in found if (batch.tag == tag if self.uploads else batch.total == rows)]

    def get(self, remote_id: str) -> RemoteBatch:
        self._call("get")
        if remote_id not in self.provider.batches:
            raise gone()
        self._answer("get")
        return self.provider.batches[remote_id].batch

    def cancel(self, remote_id: str) -> RemoteBatch | None:
        self._call("cancel")
        made = self.provider.batches.get(remote_id)
        if made is not None and not made.batch.phase.ended:
            made.batch = replace(made.batch, phase=Phase.CANCELLING, status="cancelling")
        self._answer("cancel")
        return None if made is None else made.batch

    def results(self, batch: RemoteBatch) -> Iterator[RowResult]:
        self._call("results")
        made = self.provider.batches[batch.remote_id]
        for row_id in made.row_ids:
            for _ in range(made.copies.get(row_id, 1)):
                yield answer(row_id)
        self._answer("results")

    def clean_up(self, batch: RemoteBatch | None, file_id: str | None) -> None:
        self._call("clean_up")
        if batch is not None:
            self.provider.batches.pop(batch.remote_id, None)
        self.provider.files.pop(file_id or "", None)


def stand_in(monkeypatch: pytest.MonkeyPatch, provider: Provider) -> None:
    """Every connection leads to this provider."""

    def load(connection_id: Any) -> Any:
        return SimpleNamespace(
            id=connection_id,
            tenant_id=new_id(),
            project_id=new_id(),
            provider_type="openai",
            secret=Secret("sk"),
            key_ciphertext=b"",
        )

    monkeypatch.setattr(loaded_connections, "load", load)
    monkeypatch.setattr(drive, "Remote", lambda connection: FakeRemote(provider))


def days_ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)
