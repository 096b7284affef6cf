"""The state of one simulator: configuration, limits, faults and ledger, which the control endpoint changes."""

from __future__ import annotations

import asyncio
import math
import os
import random
from itertools import count
from typing import Any

from simulator.cache import PromptCache
from simulator.config import Config
from simulator.faults import Faults
from simulator.ledger import Ledger
from simulator.limits import Allowances
from simulator.models import Models
from simulator.native.state import Native


class Simulation:
    """Everything the surfaces share. `initial`: the configuration of the start, which a full reset returns to."""

    def __init__(self, initial: Config, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._initial = initial
        self._numbers = count(1)
        # Ids stay unique over restarts, as a provider's are.
        self._run = os.urandom(4).hex()
        self.config = initial
        self._random = random.Random(initial.seed)
        self.valid_keys: frozenset[str] | None = None
        self.models: Models
        self.allowances: Allowances
        self.faults: Faults
        self.ledger: Ledger
        self.native = Native(self, initial.native)
        self.cache: PromptCache
        self._apply(initial, set(Config.model_fields))
        self.clear()

    def number(self) -> str:
        """A fresh number for request and answer ids."""
        return f"{self._run}{next(self._numbers):012x}"

    def configure(self, changes: dict[str, Any]) -> Config:
        """Replace the top-level fields named in `changes`. Raises ValidationError, with nothing changed."""
        config = Config.model_validate(self.config.model_dump() | changes)
        self._apply(config, set(changes))
        return config

    def reset(self, *, config: bool) -> None:
        """Empty the ledger, fill the buckets, count faults from zero, forget native batches, files and cached prompts.

        With `config`, undo every configure().
        """
        if config:
            self._apply(self._initial, set(Config.model_fields))
        self.clear()
        self.native.clear()
        self._apply(self.config, {"limits", "faults", "seed", "cache"})

    def clear(self) -> None:
        """Begin a new ledger; calls in flight end in the one they began in."""
        self.ledger = Ledger(calls=self.config.record_calls, nonces=self.config.record_nonces)

    def _apply(self, config: Config, changed: set[str]) -> None:
        self.config = config
        # What did not change keeps its state: a new latency must not refill anybody's bucket.
        if "limits" in changed:
            self.allowances = Allowances(config.limits)
        if changed & {"faults", "seed"}:
            self.faults = Faults(config.faults, config.seed)
            self._random = random.Random(config.seed)
        if "extra_models" in changed:
            self.models = Models(config.extra_models)
        if "valid_keys" in changed:
            self.valid_keys = None if config.valid_keys is None else frozenset(config.valid_keys)
        if "native" in changed:
            self.native.configure(config.native)
        if "cache" in changed:
            self.cache = PromptCache(config.cache, lambda: self.models, self.native.now)
        if changed & {"record_calls", "record_nonces"}:
            self.clear()

    def latency(self) -> float:
        """Seconds that the next answer takes."""
        settings = self.config.latency
        if settings.kind == "fixed":
            return settings.seconds
        if settings.kind == "uniform":
            return self._random.uniform(settings.low, settings.high)
        # The median of a lognormal distribution is the exponential of its mu.
        mu = math.log(max(settings.seconds, 1e-6))
        return min(settings.at_most, self._random.lognormvariate(mu, settings.sigma))
