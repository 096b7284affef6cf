"""Rows of a batch as they stream by: checked, routed, and all that is wrong with them reported at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from core import catalogue, params, project_routes, tokens
from core.batches.seen import Seen
from core.catalogue import ModelInfo
from core.errors import FieldError, InvalidInput, TooLarge
from core.json_input import BadJson, loads
from core.native.choice import names_tier
from core.params import embeddings
from core.principal import Principal
from core.providers import adapter_for
from core.routing import Route
from core.settings import settings
from core.states import ProviderType

#: Rows that are checked, then written, together: the most that one submission holds in memory.
CHUNK_ROWS = 2000
#: Bytes after which a chunk is closed early.
CHUNK_BYTES = 4 << 20
#: Bad rows that one answer reports.
MAX_REPORTED = 100
MAX_CUSTOM_ID = 128


#: fields of Claude's that a row cannot have, with the value that asks for nothing: betas and secrets are not stored,
#: and what a batch may cost is reckoned without the surcharges
_NOT_IN_BATCHES = {"context_management": None, "mcp_servers": None, "speed": "standard", "inference_geo": "global"}


@dataclass(slots=True)
class Row:
    """A checked row, ready to be written."""

    line: int
    custom_id: str
    model: str
    route: Route
    body: bytes
    estimated_input: int
    estimated_output: int
    #: it names a service tier, so that no native batch can hold it
    names_tier: bool
    #: it came without a custom_id: that is its number among the batch's rows
    numbered: bool = False


def wrong_rows(
    principal: Principal, rows: Iterable[bytes | dict[str, Any]], *, ndjson: bool = False
) -> list[FieldError]:
    """What is wrong with the rows of a request that is refused for something else already; the first 100 bad rows."""
    reader = Reader(Router(principal), ndjson=ndjson)
    seen = Seen()
    for chunk in reader.chunks(rows):
        for row in chunk:
            if not seen.add(row.custom_id):
                reader.refuse_repeated(row)
    return reader.errors


class Router:
    """Where a model name leads in this project, decided once per name."""

    def __init__(self, principal: Principal) -> None:
        self._routes = project_routes.of(principal, fresh=True)
        self._known: dict[str, tuple[Route, ModelInfo] | str] = {}

    def find(self, model: str) -> tuple[Route, ModelInfo] | str:
        """The route and what is known of its model, or what is wrong with the name."""
        found = self._known.get(model)
        if found is None:
            try:
                to = self._routes.route(model)
                found = (to, catalogue.find(to.model, to.provider))
            except InvalidInput as error:
                found = error.detail
            if len(self._known) < 10_000:
                self._known[model] = found
        return found


class Reader:
    """Turns what the caller sent into checked rows, and keeps what is wrong with the others."""

    def __init__(self, router: Router, *, ndjson: bool) -> None:
        self.router = router
        self.ndjson = ndjson
        self.count = 0
        self.bad_rows = 0
        #: rows came without a custom_id
        self.numbers_are_ids = False
        self.errors: list[FieldError] = []
        self._last_bad = 0
        limits = settings()
        self._max_rows, self._max_line, self._max_depth = limits.max_rows, limits.max_line_bytes, limits.max_depth

    def chunks(self, rows: Iterable[bytes | dict[str, Any]]) -> Iterator[list[Row]]:
        chunk: list[Row] = []
        size = 0
        for line, raw in enumerate(rows, start=1):
            if self.ndjson and isinstance(raw, bytes) and not raw.strip():
                # An empty line, as editors and scripts leave one at the end, is no row.
                continue
            self.count += 1
            if self.count > self._max_rows:
                raise TooLarge(f"a batch takes at most {self._max_rows:,} rows; split it")
            row = self._read(line, raw)
            if row is None:
                continue
            chunk.append(row)
            size += len(row.body)
            if len(chunk) >= CHUNK_ROWS or size >= CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk

    def refuse_repeated(self, row: Row) -> None:
        message = f"`{row.custom_id[:64]}` is already used in this batch"
        if row.numbered:
            message = (
                f"row {row.custom_id} has no custom_id, so its number stands for it, and a row before it has"
                f" the custom_id `{row.custom_id}`; give each row a custom_id, or none"
            )
        elif row.custom_id.isdecimal() and self.numbers_are_ids:
            message += "; a row without a custom_id has its number for one: give each row a custom_id, or none"
        self.refuse(row.line, "/custom_id", message)

    def refuse(self, line: int, pointer: str, message: str) -> None:
        if line != self._last_bad:
            self._last_bad = line
            self.bad_rows += 1
        if self.bad_rows <= MAX_REPORTED:
            if self.ndjson:
                self.errors.append(FieldError(pointer, message, line=line))
            else:
                self.errors.append(FieldError(f"/requests/{line - 1}{pointer}", message))

    def _read(self, line: int, raw: bytes | dict[str, Any]) -> Row | None:
        if isinstance(raw, bytes):
            if len(raw) > self._max_line:
                raise TooLarge(f"line {line} is longer than {self._max_line:,} bytes, the limit of one row")
            try:
                row = loads(raw, max_depth=self._max_depth)
            except BadJson as error:
                self.refuse(line, "", str(error))
                return None
        else:
            row = raw
        if not isinstance(row, dict):
            self.refuse(line, "", "must be an object with at least model and messages, or model and input")
            return None

        custom_id = row.pop("custom_id", None)
        bad_id = False
        numbered = custom_id is None
        if numbered:
            custom_id = str(self.count)
            self.numbers_are_ids = True
        elif not isinstance(custom_id, str) or not 1 <= len(custom_id) <= MAX_CUSTOM_ID or "\0" in custom_id:
            bad_id = True
            self.refuse(line, "/custom_id", f"must be a string of 1 to {MAX_CUSTOM_ID} characters")
        name = row.get("model")
        found = self.router.find(name) if isinstance(name, str) else "is required"
        to = None if isinstance(found, str) else found[0]
        embedding = embeddings.asked_for(row)
        if embedding:
            wrong = embeddings.validate(row)
        else:
            wrong = params.validate(row, open_fields=to is not None and to.provider == ProviderType.OPENAI_COMPATIBLE)
        if row.get("stream"):
            wrong.append(FieldError("/stream", "rows of a batch are not streamed; leave it out"))
        if row.get("max_tokens") == 0:
            # It would only warm a cache; Anthropic refuses a whole batch for it.
            wrong.append(FieldError("/max_tokens", "rows of a batch ask for an answer; give at least 1"))
        for field, neutral in _NOT_IN_BATCHES.items():
            if row.get(field) and row[field] != neutral:
                wrong.append(FieldError(f"/{field}", "is not available in a batch; leave it out"))
        if isinstance(found, str):
            if not any(error.pointer == "/model" for error in wrong):
                wrong.append(FieldError("/model", found))
        elif not wrong:
            to, model = found
            wrong = embeddings.check(to.provider, to.model) if embedding else adapter_for(to.provider).check(row, model)
            if not wrong and not bad_id:
                estimate_in, estimate_out = (
                    (embeddings.estimate(row, model), 0) if embedding else tokens.estimate(row, model)
                )
                # A copy: what orjson gives keeps the room it was written in, up to 13 times its length.
                body = memoryview(orjson.dumps(row)).tobytes()
                tier = "service_tier" in row and names_tier(row)
                return Row(line, custom_id, row["model"], to, body, estimate_in, estimate_out, tier, numbered)
        for each in wrong:
            self.refuse(line, each.pointer, each.message)
        return None
