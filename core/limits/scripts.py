"""Runs the limiter's Lua scripts: by their digest, sent whole only to a server that does not know them yet."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoScriptError

from core.limits import tuning

Arguments = Sequence[str | int | float]


class Script:
    """One script: the constants, what all share if it stands on that, and its own file."""

    def __init__(self, name: str, *, common: bool = True) -> None:
        here = Path(__file__).parent
        parts = [tuning.as_lua()]
        if common:
            parts.append((here / "common.lua").read_text())
        parts.append((here / f"{name}.lua").read_text())
        self.text = "\n".join(parts)
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: redis.Redis, keys: Sequence[str], arguments: Arguments) -> Any:
        """One round trip. Raises redis.RedisError."""
        try:
            return client.evalsha(self.digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return client.eval(self.text, len(keys), *keys, *arguments)


TAKE = Script("take")
ACQUIRE = Script("acquire")
FEEDBACK = Script("feedback")
SLOTS = Script("slots", common=False)


def run_all(client: redis.Redis, calls: Sequence[tuple[Script, Sequence[str], Arguments]]) -> None:
    """Many scripts in one pipeline. Raises redis.RedisError."""
    pipeline = client.pipeline(transaction=False)
    for script, keys, arguments in calls:
        pipeline.evalsha(script.digest, len(keys), *keys, *arguments)
    for (script, keys, arguments), result in zip(calls, pipeline.execute(raise_on_error=False), strict=True):
        if isinstance(result, NoScriptError):
            client.eval(script.text, len(keys), *keys, *arguments)
        elif isinstance(result, redis.RedisError):
            raise result
