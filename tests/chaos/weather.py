"""How badly providers behave in a trial: rules for the simulator, drawn from every kind of bad answer it knows."""

from __future__ import annotations

import random
from typing import Any

#: Kinds after which a row is simply tried again.
TRANSIENT: tuple[dict[str, Any], ...] = (
    {"kind": "429", "retry_after": 1},
    {"kind": "429_no_hint"},
    {"kind": "500"},
    {"kind": "502"},
    {"kind": "503"},
    {"kind": "529"},
    {"kind": "reset"},
    {"kind": "close"},
    {"kind": "reset_after"},
    {"kind": "half_close"},
    {"kind": "truncated_json"},
    {"kind": "wrong_json"},
    {"kind": "not_json"},
    {"kind": "error_in_200"},
    {"kind": "slow_first_byte", "seconds": 2},
    {"kind": "split_utf8"},
)
#: Kinds that hold a call until its deadline, or cost more than others: rarer.
SLOW: tuple[dict[str, Any], ...] = (
    {"kind": "silence"},
    {"kind": "hang"},
    {"kind": "drip", "seconds": 1},
    {"kind": "gzip_bomb", "bytes": 128 << 20},
    {"kind": "huge_chunk", "bytes": 1 << 20},
)
#: The account is empty: the batch pauses until its owner resumes it.
TERMINAL: dict[str, Any] = {"kind": "quota"}


def fair() -> list[dict[str, Any]]:
    return []


def changing(rng: random.Random) -> list[dict[str, Any]]:
    """A few kinds, each now and then."""
    return [{**rule, "probability": 0.02} for rule in rng.sample(TRANSIENT, 3)]


def foul(rng: random.Random) -> list[dict[str, Any]]:
    """Every kind there is, and an account that runs out of credit."""
    rules = [{**rule, "probability": 0.01} for rule in TRANSIENT]
    rules += [{**rule, "probability": 0.003} for rule in SLOW]
    rules.append({**TERMINAL, "probability": 0.01, "count": rng.randint(1, 2)})
    return rules
