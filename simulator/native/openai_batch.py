"""OpenAI's batch: an input file becomes an output file and an error file (PROVIDERS.md 5.2 to 5.4)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from simulator import openai_vendor
from simulator.native.batch import Batch
from simulator.native.blob import Blob, Results
from simulator.native.openai_checks import LineChecks
from simulator.native.rows import answer, read
from simulator.prompt import Refusal

if TYPE_CHECKING:
    from simulator.config import OpenAIBatches
    from simulator.native.openai_files import File
    from simulator.native.state import Native

_RESULTS_LIFE_SECONDS = 30 * 86_400
_NOT_RUN = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed because the batch was cancelled."),
}
_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


class OpenAIBatch(Batch):
    """`body`: the create request, which has been checked. `fails`: a code that it will fail with."""

    vendor = "openai"
    prefix = "batch_"
    speed: OpenAIBatches

    def __init__(
        self, native: Native, key: str, source: File, body: dict[str, Any], speed: OpenAIBatches, fails: str | None
    ) -> None:
        super().__init__(native, key, source.blob, speed)
        self.endpoint: str = body["endpoint"]
        self.input_id = source.id
        self.metadata = body.get("metadata")
        self.surface = native.surfaces[self.endpoint]
        self.model: str | None = None
        self.enqueued = 0
        self.errors: list[dict[str, Any]] = []
        self.completed = self.failed = 0
        self.output_id: str | None = None
        self.error_id: str | None = None
        self._fails = fails
        self._checks: LineChecks | None = LineChecks(self.endpoint, speed.max_rows)
        policy = body.get("output_expires_after")
        self._life_seconds = policy["seconds"] if policy else _RESULTS_LIFE_SECONDS
        self._output, self._error = Results(self.random), Results(self.random)
        self._prompt = self._cached = self._completion = self._reasoning = 0

    def validate(self, until: float) -> bool:
        checks = self._checks
        assert checks is not None
        lines = self.lines()
        while (line := lines.take()) is not None and not checks.hopeless:
            row = checks.line(line, lines.number)
            if row is not None:
                self._weigh(row["body"], lines.number, checks)
            if time.perf_counter() > until:
                return False
        if not checks.lines:
            checks.add("empty_file", "The input file is empty.", None, None)
        self.total, self.model = checks.lines, checks.model
        if not checks.errors:
            self._check_queue(checks)
        if checks.errors:
            self.errors, self.total = checks.errors, 0
            self.end("failed", self.native.now())
        self._checks = None
        self.rewind()
        return True

    def _weigh(self, body: dict[str, Any], number: int, checks: LineChecks) -> None:
        """Look whether the model exists, and count the prompt's tokens where that has a limit."""
        first = checks.lines == 1
        if not first and self._cap(body["model"]) is None:
            return
        try:
            self.enqueued += read(self.native.simulation, self.surface, body, {}).prompt_tokens
        except Refusal as refusal:
            if first and refusal.code == "model_not_found":
                checks.add("model_not_found", refusal.message, "body.model", number)

    def _cap(self, model: str) -> int | None:
        return self.speed.enqueued_tokens.get(model, self.speed.enqueued_tokens_default)

    def _check_queue(self, checks: LineChecks) -> None:
        model = self.model or ""
        cap = self._cap(model)
        waiting = sum(
            batch.enqueued
            for batch in self.native.batches.values()
            if isinstance(batch, OpenAIBatch) and batch.model == model and batch.key == self.key and not batch.ended
        )
        over = cap is not None and waiting > cap
        code = self._fails or ("token_limit_exceeded" if over else None)
        if code == "token_limit_exceeded":
            message = (
                f"Enqueued token limit reached for {model} in organization org-simulator. "
                f"Limit: {cap or 0:,} enqueued tokens. "
                "Please try again once some in_progress batches have been completed."
            )
            checks.add(code, message, None, None)
        elif code is not None:
            checks.add(code, "The batch could not be processed.", None, None)

    def take(self, line: bytes) -> None:
        row = orjson.loads(line)
        outcome = answer(self.native.simulation, self.surface, self.key, row["body"], {}, None)
        if outcome.plan is not None:
            results, status, body = self._output, 200, outcome.body
        elif outcome.refusal is not None:
            results, status = self._error, outcome.refusal.status
            body = openai_vendor.error_body(outcome.refusal, "")
        else:
            return
        number, custom_id = outcome.number.encode(), orjson.dumps(row["custom_id"])
        text = (
            b'{"id":"batch_req_%b","custom_id":%b,"response":{"status_code":%d,"request_id":"req_%b","body":%b},'
            b'"error":null}\n' % (number, custom_id, status, number, body)
        )
        for _ in range(outcome.times):
            results.add(text)
        plan = outcome.plan
        if plan is None:
            self.failed += 1
            return
        self.completed += 1
        self._prompt += plan.prompt_tokens
        self._cached += plan.cached_tokens
        self._completion += plan.output_tokens * plan.choices
        self._reasoning += plan.reasoning_tokens * plan.choices

    def sweep(self, line: bytes, state: str) -> None:
        if state == "cancelled" and not self.speed.cancelled_lines:
            return
        code, message = _NOT_RUN[state]
        self.failed += 1
        row = {
            "id": f"batch_req_{self.native.simulation.number()}",
            "custom_id": orjson.loads(line)["custom_id"],
            "response": None,
            "error": {"code": code, "message": message},
        }
        self._error.add(orjson.dumps(row) + b"\n")

    def finished(self) -> None:
        self.output_id = self._keep(self._output, "output")
        self.error_id = self._keep(self._error, "error")
        self._output = self._error = Results(None)
        self.native.tell(self)

    def _keep(self, results: Results, name: str) -> str | None:
        if not results.lines:
            return None
        blob: Blob = results.finish()
        file_name = f"{self.id}_{name}.jsonl"
        return self.native.files.add(self.key, file_name, "batch_output", blob, self._life_seconds).id

    def shown(self) -> dict[str, Any]:
        """The batch object."""
        at = {f"{name}_at": int(self.at[name]) if name in self.at else None for name in _TIMES}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.model,
            "errors": {"object": "list", "data": self.errors} if self.state == "failed" else None,
            "input_file_id": self.input_id,
            "completion_window": "24h",
            "status": self.state,
            "output_file_id": self.output_id,
            "error_file_id": self.error_id,
            "created_at": int(self.created),
            "expires_at": int(self.expires),
            **at,
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "usage": {
                "input_tokens": self._prompt,
                "input_tokens_details": {"cached_tokens": self._cached},
                "output_tokens": self._completion,
                "output_tokens_details": {"reasoning_tokens": self._reasoning},
                "total_tokens": self._prompt + self._completion,
            },
            "metadata": self.metadata,
        }
