"""Anthropic's message batch: requests come with it, results are one stream (PROVIDERS.md 5.6)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from simulator import anthropic_vendor
from simulator.native.batch import Batch
from simulator.native.blob import Blob, Results
from simulator.native.rows import answer
from simulator.prompt import Refusal

if TYPE_CHECKING:
    from simulator.config import AnthropicBatches
    from simulator.native.requests_body import RequestsBody
    from simulator.native.state import Native

_ARCHIVED_AFTER_SECONDS = 29 * 86_400
_KINDS = ("succeeded", "errored", "canceled", "expired")


class AnthropicBatch(Batch):
    """`headers`: those of the create request, as the API version holds for every row."""

    vendor = "anthropic"
    prefix = "msgbatch_"
    speed: AnthropicBatches

    def __init__(
        self, native: Native, key: str, body: RequestsBody, headers: dict[bytes, bytes], speed: AnthropicBatches
    ) -> None:
        super().__init__(native, key, body.rows, speed)
        self.total = body.count
        self.surface = native.surfaces["/v1/messages"]
        # The version's rules hold for every row.
        self.headers = {name: value for name, value in headers.items() if name.startswith(b"anthropic-")}
        self.counts = dict.fromkeys(_KINDS, 0)
        self.results: Blob | None = None
        self._results = Results(self.random)

    def validate(self, until: float) -> bool:
        # What is wrong with a request shows in its result.
        return True

    def take(self, line: bytes) -> None:
        row = orjson.loads(line)
        params = row["params"]
        try:
            _check(params)
        except Refusal as refusal:
            self._errored(row["custom_id"], refusal)
            return
        outcome = answer(self.native.simulation, self.surface, self.key, params, self.headers, "batch")
        if outcome.refusal is not None:
            self._errored(row["custom_id"], outcome.refusal)
        elif outcome.plan is not None:
            self.counts["succeeded"] += 1
            text = b'{"custom_id":%b,"result":{"type":"succeeded","message":%b}}\n' % (
                orjson.dumps(row["custom_id"]),
                outcome.body,
            )
            for _ in range(outcome.times):
                self._results.add(text)

    def _errored(self, custom_id: str, refusal: Refusal) -> None:
        self.counts["errored"] += 1
        error = orjson.Fragment(anthropic_vendor.error_body(refusal, None))
        result = {"type": "errored", "error": error}
        self._results.add(orjson.dumps({"custom_id": custom_id, "result": result}) + b"\n")

    def sweep(self, line: bytes, state: str) -> None:
        kind = "canceled" if state == "cancelled" else state
        self.counts[kind] += 1
        row = {"custom_id": orjson.loads(line)["custom_id"], "result": {"type": kind}}
        self._results.add(orjson.dumps(row) + b"\n")

    def finished(self) -> None:
        self.results = self._results.finish()
        self._results = Results(None)

    @property
    def archived(self) -> bool:
        """The results are gone, as they are 29 days after the creation."""
        return self.native.now() >= self.created + _ARCHIVED_AFTER_SECONDS

    def shown(self, host: str) -> dict[str, Any]:
        """The batch object; `host`: what the caller reached this server by. Counts move only when it has ended."""
        status = "canceling" if self.state == "cancelling" else "ended" if self.ended else "in_progress"
        frozen = {"processing": self.total} | dict.fromkeys(_KINDS, 0)
        ready = self.ended and not self.archived
        ended_at = _time(self.at[self.state]) if self.ended else None
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": {"processing": 0} | self.counts if self.ended else frozen,
            "created_at": _time(self.created),
            "expires_at": _time(self.expires),
            "ended_at": ended_at,
            "archived_at": _time(self.created + _ARCHIVED_AFTER_SECONDS) if self.archived else None,
            "cancel_initiated_at": _time(self.at["cancelling"]) if "cancelling" in self.at else None,
            "results_url": f"http://{host}/v1/messages/batches/{self.id}/results" if ready else None,
        }


def _check(params: dict[str, Any]) -> None:
    """What Messages takes and a batch does not. Raises Refusal (400)."""
    for field in ("speed", "fallbacks"):
        if params.get(field) is not None:
            raise Refusal(400, f"{field}: Extra inputs are not permitted")
    if params.get("stream"):
        raise Refusal(400, "stream: Extra inputs are not permitted")
    if params.get("max_tokens") == 0:
        raise Refusal(400, "max_tokens: Input should be greater than or equal to 1")


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
