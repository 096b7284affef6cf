"""What can go wrong at a provider: the kinds of fault, and the rules that decide which call meets which."""

from __future__ import annotations

import random
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from simulator.config import Fault

#: refuse: a vendor's error; connection: no answer; body: an answer was produced, and suffers; stream: streams only;
#: download: result files only; row: one row of a native batch; batch: all of one
Stage = Literal["refuse", "connection", "body", "stream", "download", "row", "batch"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault. `executed`: the provider did the work and charges for it. Status 0: none was sent."""

    stage: Stage
    executed: bool
    status: int


def _refusals(*statuses: int) -> dict[str, Kind]:
    return {str(status): Kind("refuse", False, status) for status in statuses}


KINDS: dict[str, Kind] = {
    **_refusals(400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529),
    "429_no_hint": Kind("refuse", False, 429),
    "slow_down": Kind("refuse", False, 429),
    "quota": Kind("refuse", False, 429),
    "context_length": Kind("refuse", False, 400),
    "reset": Kind("connection", False, 0),
    "close": Kind("connection", False, 0),
    "hang": Kind("connection", False, 0),
    "reset_after": Kind("body", True, 0),
    "half_close": Kind("body", True, 200),
    "truncated_json": Kind("body", True, 200),
    "wrong_json": Kind("body", True, 200),
    "not_json": Kind("body", True, 200),
    "error_in_200": Kind("body", False, 200),
    "gzip_bomb": Kind("body", True, 200),
    "silence": Kind("body", True, 200),
    "drip": Kind("body", True, 200),
    "slow_first_byte": Kind("body", True, 200),
    "huge_chunk": Kind("body", True, 200),
    "split_utf8": Kind("body", True, 200),
    "refusal": Kind("body", True, 200),
    "stream_error": Kind("stream", True, 200),
    "stream_cut": Kind("stream", True, 200),
    "stream_reset": Kind("stream", True, 200),
    "stream_stall": Kind("stream", True, 200),
    "stream_unfinished": Kind("stream", True, 200),
    "slow_body": Kind("download", False, 200),
    "vanish": Kind("row", False, 0),
    "duplicate": Kind("row", True, 200),
    "stuck": Kind("batch", False, 0),
    "slow": Kind("batch", False, 0),
    "expires": Kind("batch", False, 0),
    "fails": Kind("batch", False, 0),
}
#: what a rule strikes that does not say it, by the stage of its kind
OWN_PLACE: dict[str, Any] = {"download": "content", "row": "row", "batch": "batch"}
#: kinds that change a model's answer, of which files and batches have none
_OF_ANSWERS = frozenset({"huge_chunk", "split_utf8", "refusal"})


def strikes(kind: str, on: str) -> bool:
    """Whether this kind of fault can happen there: on a live call, a row, a batch, or a request to files or batches."""
    stage = KINDS[kind].stage
    if on == "call":
        return stage not in OWN_PLACE
    if on == "row":
        return stage in ("refuse", "row") and kind != "502"
    if on == "batch":
        return stage == "batch"
    if stage == "download":
        return on == "content"
    return stage in ("refuse", "connection", "body") and kind not in _OF_ANSWERS


class Faults:
    """The rules in force. One draw per call is laid over the matching rules, so that 5 % each means 5 % each."""

    def __init__(self, rules: list[Fault], seed: int) -> None:
        self.rules = rules
        self._seed = str(seed).encode()
        self._random = random.Random(seed)
        self._struck = [0] * len(rules)

    def choose(
        self,
        *,
        vendor: str,
        key: str,
        model: str,
        prompt: str,
        stream: bool = False,
        nonce: str | None = None,
        attempt: int = 0,
        on: str = "call",
    ) -> Fault | None:
        """The fault that this call meets, if any. `attempt` counts the calls of its nonce from 1."""
        matching = []
        for index, rule in enumerate(self.rules):
            if rule.on != on:
                continue
            if rule.count is not None and self._struck[index] >= rule.count:
                continue
            if rule.key is not None and rule.key != key:
                continue
            if rule.model is not None and rule.model != model:
                continue
            if rule.vendor is not None and rule.vendor != vendor:
                continue
            if rule.first_attempts is not None and attempt > rule.first_attempts:
                continue
            if rule.contains is not None and rule.contains not in prompt:
                continue
            if KINDS[rule.kind].stage == "stream" and not stream:
                continue
            matching.append(index)
        if not matching:
            return None
        draw = self._draw(nonce, attempt)
        for index in matching:
            draw -= self.rules[index].probability
            if draw < 0:
                self._struck[index] += 1
                return self.rules[index]
        return None

    def _draw(self, nonce: str | None, attempt: int) -> float:
        """In [0, 1): by nonce and attempt, whatever the order calls arrive in; else the next of the sequence."""
        if nonce is None or attempt == 0:
            return self._random.random()
        digest = blake2b(b"%b %b %d" % (self._seed, nonce.encode(), attempt), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64
