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
