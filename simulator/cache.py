"""A model of prompt caching, per key and model: OpenAI's by itself, Anthropic's where a request asks for it.

Both look at the prompt as a text that grows: tools, system, messages. A prefix is known by the hash of all that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson

from simulator.prompt import Plan, tokens_of_bytes

if TYPE_CHECKING:
    from simulator.config import Cache as Settings
    from simulator.models import Models

#: OpenAI: the shortest prefix that is kept, and the steps it grows in, in tokens
_LEAST_TOKENS, _STEP_TOKENS = 1024, 128
_STEP_BYTES = _STEP_TOKENS * 4
_LIFE_SECONDS = {"5m": 300.0, "1h": 3600.0}
#: Anthropic looks so many blocks back from a breakpoint for something that was written
_LOOK_BACK = 20
_BYTES_PER_ATTACHMENT = 1024
#: entries that are kept before those that have gone stale are thrown out
_MANY = 200_000


class PromptCache:
    """`look` fills in what a plan finds, `store` keeps what its execution leaves behind."""

    def __init__(self, settings: Settings, models: Callable[[], Models], now: Callable[[], float]) -> None:
        self.settings = settings
        self._models = models
        self._now = now
        #: hash of key, model and prefix -> until when it is known
        self._known: dict[bytes, float] = {}

    def look(self, vendor: str, key: str, body: Any, plan: Plan) -> None:
        """Set the plan's cache counters, and remember in it what is to be stored."""
        if not self.settings.enabled or not isinstance(body, dict):
            return
        plan.cached_tokens = plan.cache_write_tokens = plan.cache_write_1h_tokens = 0
        start = f"{vendor}\0{key}\0{plan.model}\0".encode()
        if vendor == "openai":
            self._look_openai(start, body, plan)
        else:
            self._look_anthropic(start, body, plan)

    def store(self, plan: Plan) -> None:
        """The request was executed: its prefixes are known from now on."""
        if not plan.prefixes:
            return
        now = self._now()
        if len(self._known) > _MANY:
            self._known = {digest: until for digest, until in self._known.items() if until > now}
        for digest, life in plan.prefixes:
            self._known[digest] = max(now + life, self._known.get(digest, 0.0))
        plan.prefixes = []

    def _is_known(self, digest: bytes) -> bool:
        return self._known.get(digest, 0.0) > self._now()

    def _look_openai(self, start: bytes, body: dict[str, Any], plan: Plan) -> None:
        text = _openai_text(body)
        running = blake2b(start, digest_size=16)
        whole = len(text) // _STEP_BYTES
        found = 0
        for step in range(1, whole + 1):
            running.update(text[(step - 1) * _STEP_BYTES : step * _STEP_BYTES])
            if step * _STEP_TOKENS < _LEAST_TOKENS:
                continue
            digest = running.copy().digest()
            plan.prefixes.append((digest, self.settings.openai_seconds))
            if found in (step - 1, 0) and self._is_known(digest):
                found = step
        plan.cached_tokens = min(found * _STEP_TOKENS, plan.prompt_tokens)
        model = self._models().find(plan.model, "openai")
        if plan.prefixes and model is not None and model.entry.get("cache_write_per_mtok_usd") is not None:
            plan.cache_write_tokens = min(whole * _STEP_TOKENS, plan.prompt_tokens) - plan.cached_tokens

    def _look_anthropic(self, start: bytes, body: dict[str, Any], plan: Plan) -> None:
        model = self._models().find(plan.model, "anthropic")
        least = (model.entry.get("min_cacheable_tokens") if model is not None else None) or _LEAST_TOKENS
        running = blake2b(start, digest_size=16)
        size = 0
        #: of every block: hash and tokens of the prompt up to it, and the life that a breakpoint there asks for
        ends: list[tuple[bytes, int, str | None]] = []
        for content, length, ttl in _anthropic_blocks(body):
            running.update(content)
            size += length
            ends.append((running.copy().digest(), min(tokens_of_bytes(size), plan.prompt_tokens), ttl))
        if body.get("cache_control") and ends:
            # The last block that can be cached is marked by itself.
            ends[-1] = (*ends[-1][:2], body["cache_control"].get("ttl") or "5m")
        marks = [at for at, (_, tokens, ttl) in enumerate(ends) if ttl is not None and tokens >= least]
        read = -1
        for mark in marks:
            for at in range(mark, max(-1, mark - _LOOK_BACK - 1), -1):
                if at <= read:
                    break
                if ends[at][1] >= least and self._is_known(ends[at][0]):
                    read = at
                    break
        plan.cached_tokens = reached = ends[read][1] if read >= 0 else 0
        for mark in marks:
            digest, tokens, ttl = ends[mark]
            plan.prefixes.append((digest, _LIFE_SECONDS.get(ttl or "5m", 300.0)))
            if mark > read:
                plan.cache_write_tokens += tokens - reached
                plan.cache_write_1h_tokens += tokens - reached if ttl == "1h" else 0
                reached = tokens


def _openai_text(body: dict[str, Any]) -> bytes:
    """The prompt of Chat Completions or Responses, as far as it counts as tokens."""
    parts = [orjson.dumps(body["tools"])] if body.get("tools") else []
    given = body.get("messages") or body.get("input") or []
    if body.get("instructions"):
        parts.append(str(body["instructions"]).encode("utf-8", "replace"))
    for message in [{"content": given}] if isinstance(given, str) else given:
        content = message.get("content") if isinstance(message, dict) else None
        for part in [{"text": content}] if isinstance(content, str) else content or []:
            text = part.get("text") if isinstance(part, dict) else None
            # An image counts as so many tokens, and is the same only if all of it is.
            parts.append(text.encode("utf-8", "replace") if isinstance(text, str) else _attachment(part))
    return b"".join(parts)


def _attachment(part: Any) -> bytes:
    digest = blake2b(orjson.dumps(part), digest_size=32).hexdigest().encode()
    return digest * (_BYTES_PER_ATTACHMENT // len(digest))


def _anthropic_blocks(body: dict[str, Any]) -> Iterator[tuple[bytes, int, str | None]]:
    """Content, bytes that count, and breakpoint of every block, in caching's order: tools, system, messages."""
    for tool in body.get("tools") or []:
        yield _block(tool, None)
    system = body.get("system")
    for block in [{"type": "text", "text": system}] if isinstance(system, str) else system or []:
        yield _block(block, block.get("text"))
    for message in body["messages"]:
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            data, length, ttl = _block(block, block.get("text"))
            yield message["role"].encode() + data, length, ttl


def _block(block: dict[str, Any], text: Any) -> tuple[bytes, int, str | None]:
    control = block.get("cache_control")
    plain = orjson.dumps({name: value for name, value in block.items() if name != "cache_control"})
    if isinstance(text, str):
        length = len(text.encode("utf-8", "replace"))
    else:
        length = _BYTES_PER_ATTACHMENT if block.get("type") in ("image", "document") else len(plain)
    return plain, length, (control.get("ttl") or "5m") if isinstance(control, dict) else None
