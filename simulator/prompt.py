"""What the simulator takes from a request, and what it makes of it: text, nonce, tokens, the plan of an answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

NONCE = re.compile(r"nonce-[A-Za-z0-9_-]+")
#: an image or a document counts as so many bytes of text
_BYTES_PER_ATTACHMENT = 1024


def tokens_of_bytes(size: int) -> int:
    """The simulator's tokenizer: a token is four bytes of UTF-8, rounded up."""
    return (size + 3) >> 2


def tokens_of(text: str) -> int:
    """Tokens of a text."""
    return tokens_of_bytes(len(text) if text.isascii() else len(text.encode("utf-8", "replace")))


class Refusal(Exception):
    """The request is answered with an error of the vendor's. `code` goes where the vendor has a place for it."""

    def __init__(
        self, status: int, message: str, *, type: str | None = None, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the request offers. `schema`: JSON schema of its parameters, which a custom tool has not."""

    name: str
    schema: Any
    custom: bool = False


@dataclass(slots=True)
class ToolCall:
    """A call that the answer makes. `arguments`: JSON text, or free text for one of OpenAI's custom tools."""

    id: str
    name: str
    arguments: str
    custom: bool = False


@dataclass(slots=True)
class Plan:
    """A request that was understood, and the answer it will get. Kept while a call is held open, so it is small."""

    model: str
    nonce: str | None
    prompt_hash: int
    #: the last user message's text, which rules with `contains` look into
    prompt: str
    prompt_tokens: int
    #: the output limit the caller set, in tokens
    max_tokens: int | None
    stream: bool = False
    include_usage: bool = False
    choices: int = 1
    text: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    #: stop, length, tool_calls, stop_sequence or refusal: the vendor spells it its own way
    finish: str = "stop"
    stop_sequence: str | None = None
    output_tokens: int = 0
    reasoning_tokens: int = 0
    #: the caller wants back what was thought, encrypted
    encrypted_reasoning: bool = False
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    #: those of them that are kept for an hour
    cache_write_1h_tokens: int = 0
    #: hash and life in seconds of each prefix that its execution leaves in the prompt cache
    prefixes: list[tuple[bytes, float]] = field(default_factory=list)
    service_tier: str | None = None
    #: Anthropic's: how fast and where it runs
    speed: str = "standard"
    inference_geo: str = "global"


class Reading:
    """Gathers the text of a request: bytes for the token count, a hash, and the last user message."""

    __slots__ = ("_hash", "last_user", "size")

    def __init__(self) -> None:
        self.size = 0
        self.last_user = ""
        self._hash = blake2b(digest_size=8)

    def text(self, text: str, *, user: bool = False) -> None:
        """One piece of text of the conversation."""
        data = text.encode("utf-8", "replace")
        self.size += len(data)
        self._hash.update(data)
        if user:
            self.last_user = f"{self.last_user}\n{text}" if self.last_user else text

    def attachment(self) -> None:
        """An image or a file."""
        self.size += _BYTES_PER_ATTACHMENT

    def overhead(self, size: int) -> None:
        """Bytes that count as prompt without being part of the conversation: tools, schemas."""
        self.size += size

    def new_turn(self, role: Any) -> None:
        """A message begins; only the last user turn is looked into for a nonce."""
        if role == "user":
            self.last_user = ""

    def plan(self, model: str, max_tokens: int | None) -> Plan:
        """The plan as far as the prompt decides it."""
        found = NONCE.search(self.last_user)
        digest = int.from_bytes(self._hash.digest(), "big")
        tokens = max(1, tokens_of_bytes(self.size))
        return Plan(model, found[0] if found else None, digest, self.last_user, tokens, max_tokens)
