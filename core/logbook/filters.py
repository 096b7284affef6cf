"""What a reader of logs looks for: conditions on a row for the database, and text in prompts and answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from core.errors import FieldError, InvalidInput

#: Values of these keys are of the protocol, not what anybody wrote.
_NOT_TEXT = frozenset({"role", "type", "id", "tool_call_id", "finish_reason", "object", "detail", "media_type"})
_LIKE = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which logs; None: all. Raises InvalidInput if `until` is not after `since`."""

    #: as asked for, as called, or as the provider says who answered
    model: str | None = None
    provider: str | None = None
    status: str | None = None
    batch_id: UUID | None = None
    custom_id: str | None = None
    #: created_at from here, and before there
    since: datetime | None = None
    until: datetime | None = None
    min_duration_ms: float | None = None
    #: in what was written, case aside
    text: str | None = None

    def __post_init__(self) -> None:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise InvalidInput([FieldError("?from", "must be before `to`: nothing lies between them")])

    @property
    def searches(self) -> bool:
        """True if rows are looked at that do not pass: those that an index leads to pass all."""
        looked_for = (self.model, self.provider, self.status, self.min_duration_ms, self.text)
        return any(value is not None for value in looked_for)

    def conditions(self) -> tuple[str, dict[str, object]]:
        """What a row `c` must meet beside project, time and text, as SQL that ends a WHERE, with its values."""
        sql, values = [], {}
        for name, condition in _CONDITIONS.items():
            value = getattr(self, name)
            if value is not None:
                sql.append(f" AND {condition}")
                values[name] = value
        return "".join(sql), values

    def like(self) -> str:
        """The pattern for ILIKE that the JSON of every body with the text meets."""
        in_json = orjson.dumps(self.text or "")[1:-1].decode()
        return f"%{in_json.translate(_LIKE)}%"

    def in_bodies(self, request: str | None, response: str | None) -> bool:
        """True if somebody wrote the text: keys and protocol values, which JSON is full of, do not count."""
        wanted = (self.text or "").casefold()
        return any(wanted in written.casefold() for written in _written(request, response))


_CONDITIONS = {
    "model": "(c.model_requested = %(model)s OR c.model = %(model)s OR c.model_called = %(model)s)",
    "provider": "c.provider = %(provider)s",
    "status": "c.status = %(status)s",
    "batch_id": "c.batch_id = %(batch_id)s",
    "custom_id": "c.custom_id = %(custom_id)s",
    "min_duration_ms": "c.ended_at - c.started_at >= make_interval(secs => %(min_duration_ms)s / 1000.0)",
}


def _written(request: str | None, response: str | None) -> Iterator[str]:
    if request is not None:
        yield from _strings(orjson.loads(request).get("messages"))
    if response is not None:
        yield from _strings(orjson.loads(response).get("choices"))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in _NOT_TEXT:
                yield from _strings(item)
