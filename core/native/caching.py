"""Prompt caching in native batches: rows that begin alike are sent one after the other, and marked where that pays.

OpenAI caches by itself what begins alike: there it helps to keep such rows together and to name them alike
(`prompt_cache_key`). Claude caches up to a mark, and writing costs more than input does (PROVIDERS.md 2.4, 2.8, 7): a
mark is set only where the reads to be expected pay for it. Rows whose caller set marks are left as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from core import catalogue, pricing, tokens
from core.states import ProviderType

#: OpenAI caches prefixes from this length on, in tokens.
OPENAI_MIN_TOKENS = 1024
#: A batch runs its rows side by side, so more than one finds nothing in the cache yet: so many of a hundred.
EXPECTED_MISSES_PERCENT = 10
#: Estimates of tokens may be too high by a fifth; a mark on less than is cached brings nothing.
CAUTION = 1.2

_CONTROL = {"type": "ephemeral", "ttl": "1h"}


@dataclass(slots=True)
class Marks:
    """How rows are marked: by completion id, Claude's mark (None) or the cache key for OpenAI."""

    by_row: dict[int, str | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Group:
    tokens: int
    rows: list[int] = field(default_factory=list)


class Plan:
    """What rows of one request begin alike; one entry a different beginning is held, whatever its length."""

    def __init__(self, provider: str, model: str) -> None:
        self._claude = provider == ProviderType.ANTHROPIC
        self._model = catalogue.find(model, provider)
        self._card = pricing.card_for(provider, model)
        self._groups: dict[bytes, _Group] = {}

    def see(self, row_id: int, params: Mapping[str, Any]) -> None:
        """Note how a row begins: its tools and all messages but the last."""
        leading = params.get("messages", [])[:-1]
        tools = params.get("tools")
        if not (leading or tools) or _has_marks(params):
            return
        text = orjson.dumps([tools, leading])
        digest = hashlib.sha256(text).digest()
        group = self._groups.get(digest)
        if group is None:
            size, _ = tokens.estimate({"messages": leading, "tools": tools}, self._model)
            group = self._groups[digest] = _Group(size)
        group.rows.append(row_id)

    def worth_it(self) -> bool:
        """Whether any rows are worth to be put together."""
        return any(map(self._pays, self._groups.values()))

    def ordered(self, rows: list[int]) -> tuple[list[int], Marks]:
        """The rows with those together that share a beginning, and their marks; the others after them as they were."""
        marks = Marks()
        order: list[int] = []
        for digest, group in self._groups.items():
            if self._pays(group):
                order += group.rows
                key = None if self._claude else digest.hex()[:32]
                marks.by_row.update(dict.fromkeys(group.rows, key))
        order += [row_id for row_id in rows if row_id not in marks.by_row]
        return order, marks

    def _pays(self, group: _Group) -> bool:
        least = (self._model.min_cacheable_tokens or 4096) if self._claude else OPENAI_MIN_TOKENS
        if len(group.rows) < 2 or group.tokens < least * CAUTION:
            return False
        if not self._claude:
            return True
        if self._card is None:
            return False
        rates = self._card.rates(group.tokens, batch=True)
        count = len(group.rows)
        misses = 1 + count * EXPECTED_MISSES_PERCENT // 100
        return misses * rates.write_1h + (count - misses) * rates.cached < count * rates.input


def marked(params: Mapping[str, Any], key: str | None) -> dict[str, Any]:
    """A request with its mark. The request that is stored and logged stays as it came."""
    if key is not None:
        return {**params, "prompt_cache_key": key}
    messages = list(params["messages"])
    if len(messages) < 2:
        *others, last = params["tools"]
        return {**params, "tools": [*others, {**last, "cache_control": _CONTROL}]}
    messages[-2] = _marked_message(messages[-2])
    return {**params, "messages": messages}


def _marked_message(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if message.get("role") == "tool":
        return {**message, "cache_control": _CONTROL}
    if isinstance(content, str):
        return {**message, "content": [{"type": "text", "text": content, "cache_control": _CONTROL}]}
    if isinstance(content, list) and content:
        return {**message, "content": [*content[:-1], {**content[-1], "cache_control": _CONTROL}]}
    # Only calls of tools: there is no place for a mark, and the rows are just kept together.
    return dict(message)


def _has_marks(params: Mapping[str, Any]) -> bool:
    """Whether the caller looks after caching."""
    if any(params.get(name) for name in ("cache_control", "prompt_cache_key", "prompt_cache_options")):
        return True
    if any("cache_control" in tool for tool in params.get("tools") or ()):
        return True
    for message in params.get("messages", ()):
        content = message.get("content")
        if "cache_control" in message or (
            isinstance(content, list)
            and any("cache_control" in part or "prompt_cache_breakpoint" in part for part in content)
        ):
            return True
    return False
