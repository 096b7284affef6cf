"""What the limiter is asked and what it answers, and which models share a limit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID


@dataclass(frozen=True, slots=True)
class LimitKey:
    """Whose limits: a connection's, for one family of models (`family`)."""

    connection_id: UUID
    family: str


@dataclass(frozen=True, slots=True)
class Configured:
    """What the owner of a connection configured; None: learn it from the provider."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """How many of the rows may start now.

    If fewer than were asked for, the next may in about `wait_seconds`, and `waiting_for` says what is short, in words
    for a batch's progress (the constants in core.limits.types).
    """

    granted: int
    wait_seconds: float
    waiting_for: str | None


#: The kinds of a connection's quotas, as LimitReading names them.
REQUESTS_KIND = "requests"
TOKEN_KINDS = ("tokens", "input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class Quota:
    """How much of one limit a minute is left.

    `kind` is REQUESTS_KIND or one of TOKEN_KINDS. `remaining` is the share of what may be used at once that is left,
    of the minute's limit: at zero the next call waits. `reset_seconds` is the time until all of it is there again.
    """

    kind: str
    limit: int
    remaining: int
    reset_seconds: float


class Meter:
    """Takes down what the limiter says, with each answer to a live call, of the limits that the call stands under."""

    __slots__ = ("said",)

    def __init__(self) -> None:
        #: kind, limit, remaining and seconds of each quota, as acquire.lua writes them
        self.said = ""

    def quotas(self) -> list[Quota]:
        """The quotas after the last call, or refusal; none while no limit is known."""
        words = self.said.split()
        return [
            Quota(kind, int(limit), int(remaining), float(seconds))
            for kind, limit, remaining, seconds in zip(words[::4], words[1::4], words[2::4], words[3::4], strict=True)
        ]


#: What rows and live calls can wait for. The scripts use the same words.
REQUESTS = "requests per minute"
TOKENS = "tokens per minute"
INPUT_TOKENS = "input tokens per minute"
OUTPUT_TOKENS = "output tokens per minute"
CONCURRENCY = "concurrency"
LIVE = "live completions"
FIRST_ANSWERS = "first answers"
RETRY_AFTER = "the provider's Retry-After"
PROVIDER_DOWN = "the provider to be back"

_CLAUDE = re.compile(r"claude-(?P<line>[a-z]+)-(?P<major>\d+)(?:$|[-.@])")
_DATE = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|20\d{6}|(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])|latest)(?=$|-preview$)")
_LONGEST = 128


@lru_cache(maxsize=4096)
def family(model: str) -> str:
    """The models that share limits with this one, by name.

    OpenAI's limits are per model, and a dated snapshot or a fine-tuned model shares its base model's. Anthropic's
    are per class line: all Sonnet 4.x together (PROVIDERS.md 4.4). Anything else is a family of its own.
    """
    name = model.lower()
    if name.startswith("ft:"):
        name = name.split(":", 2)[1]
    claude = _CLAUDE.match(name)
    if claude:
        return f"claude-{claude['line']}-{claude['major']}"
    return _DATE.sub("", name, count=1)[:_LONGEST] or name[:_LONGEST]


def counts_produced_output(family: str) -> bool:
    """True if output counts when it is produced (Anthropic), False if what is asked for counts up front (OpenAI)."""
    return family.startswith("claude-")
