"""Result lines of the providers' batch APIs: which row, which outcome, and whether it ran at all."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from core.providers import adapter_for
from core.providers.anthropic_batches import AnthropicBatches
from core.providers.batches import RowResult
from core.providers.openai_batches import OpenAIBatches
from core.providers.types import Failure, Success
from core.states import FailureReason as R

OPENAI, ANTHROPIC = OpenAIBatches(), AnthropicBatches()
BOTH = pytest.mark.parametrize("wire", [OPENAI, ANTHROPIC])
PARAMS: dict[str, Any] = {"messages": [{"role": "user", "content": "2+2?"}], "max_tokens": 20}
KEY = "sk-test-0123456789"

COMPLETION = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1795430400, "model": "gpt-6-luna",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "4"}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}},
}  # fmt: skip
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "4"}],
    "usage": {"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 3, "service_tier": "batch"},
}  # fmt: skip


def openai_line(response: Any = None, error: Any = None, custom_id: Any = "7") -> bytes:
    return orjson.dumps({"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": error})


def anthropic_line(result: Any, custom_id: Any = "7") -> bytes:
    return orjson.dumps({"custom_id": custom_id, "result": result})


def errored(type: str, message: str = "m", **more: Any) -> dict[str, Any]:
    error = {"type": "error", "error": {"type": type, "message": message, **more}, "request_id": None}
    return {"type": "errored", "error": error}


def test_an_answer_in_a_line_is_the_live_answer() -> None:
    live = adapter_for("openai").parse(200, {}, orjson.dumps(COMPLETION))
    assert OPENAI.parse_line(openai_line({"status_code": 200, "request_id": "r", "body": COMPLETION})) == RowResult(
        row_id=7, outcome=live, executed=True
    )

    live = adapter_for("anthropic").parse(200, {}, orjson.dumps(MESSAGE))
    found = ANTHROPIC.parse_line(anthropic_line({"type": "succeeded", "message": MESSAGE})).outcome
    assert isinstance(found, Success)
    assert isinstance(live, Success)
    found.completion["created"] = live.completion["created"] = 0
    assert found == live
    assert (found.usage.input_tokens, found.usage.cached_tokens) == (9, 4)
    assert found.completion["service_tier"] == "default"


def refused(status: int, **error: Any) -> dict[str, Any]:
    return {"status_code": status, "request_id": "r", "body": {"error": error}}


@pytest.mark.parametrize(
    ("wire", "line", "reason", "executed", "status", "code"),
    [
        (OPENAI, openai_line(refused(400, message="m", code="invalid_prompt")),
         R.INVALID_REQUEST, True, 400, "invalid_prompt"),
        (OPENAI, openai_line(refused(429, message="m", code="rate_limit_exceeded")),
         R.RATE_LIMITED, True, 429, "rate_limit_exceeded"),
        (OPENAI, openai_line({"status_code": 500, "body": None}), R.PROVIDER_ERROR, True, 500, None),
        (OPENAI, openai_line({"status_code": 200, "body": None}), R.INVALID_RESPONSE, True, 200, None),
        (OPENAI, openai_line({"status_code": "200", "body": COMPLETION}), R.INVALID_RESPONSE, True, 200, None),
        (OPENAI, openai_line(error={"code": "batch_expired", "message": "m"}),
         R.EXPIRED, False, None, "batch_expired"),
        (OPENAI, openai_line(error={"code": "batch_cancelled", "message": "m"}),
         R.CANCELLED, False, None, "batch_cancelled"),
        (OPENAI, openai_line(error={"code": "server_error", "message": "m"}),
         R.PROVIDER_ERROR, True, None, "server_error"),
        (OPENAI, openai_line(error={"code": ["x"]}), R.PROVIDER_ERROR, True, None, None),
        (OPENAI, openai_line(), R.INVALID_RESPONSE, True, 200, None),
        (ANTHROPIC, anthropic_line({"type": "expired"}), R.EXPIRED, False, None, "expired"),
        (ANTHROPIC, anthropic_line({"type": "canceled"}), R.CANCELLED, False, None, "canceled"),
        (ANTHROPIC, anthropic_line(errored("invalid_request_error")),
         R.INVALID_REQUEST, True, None, "invalid_request_error"),
        (ANTHROPIC, anthropic_line(errored("overloaded_error")), R.OVERLOADED, True, None, "overloaded_error"),
        (ANTHROPIC, anthropic_line(errored("not_found_error")), R.MODEL_NOT_FOUND, True, None, "not_found_error"),
        (
            ANTHROPIC,
            anthropic_line(errored("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"})),
            R.QUOTA_EXHAUSTED, True, None, "enforced_spend_limit_reached",
        ),
        (ANTHROPIC, anthropic_line({"type": "errored"}), R.PROVIDER_ERROR, True, None, None),
        (ANTHROPIC, anthropic_line({"type": "succeeded"}), R.INVALID_RESPONSE, True, 200, None),
        (ANTHROPIC, anthropic_line({"type": "new"}), R.INVALID_RESPONSE, True, 200, None),
        (ANTHROPIC, anthropic_line(None), R.INVALID_RESPONSE, True, 200, None),
    ],
)  # fmt: skip
def test_lines_without_an_answer(
    wire: Any, line: bytes, reason: R, executed: bool, status: int | None, code: str | None
) -> None:
    found = wire.parse_line(line)
    assert isinstance(found.outcome, Failure)
    assert (found.row_id, found.outcome.reason, found.executed) == (7, reason, executed)
    assert (found.outcome.provider_status, found.outcome.provider_code) == (status, code)
    assert found.outcome.message


@BOTH
@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"7", b'"x"', b"<html>", b"\xff\xfe"])
def test_a_line_that_cannot_be_read_is_of_no_row(wire: Any, line: bytes) -> None:
    found = wire.parse_line(line)
    assert found.row_id is None
    assert found.outcome.reason is R.INVALID_RESPONSE


@BOTH
@pytest.mark.parametrize(
    "custom_id", [None, 7, "", "row-7", "-7", "+7", "07", " 7", "7\n", "٧", "9" * 19, "1" * 20, "7.0"]
)
def test_a_custom_id_that_is_none_of_ours(wire: Any, custom_id: Any) -> None:
    assert wire.parse_line(orjson.dumps({"custom_id": custom_id})).row_id is None


@BOTH
@pytest.mark.parametrize("row_id", [0, 1, 10, 2**63 - 1])
def test_our_row_ids_come_back(wire: Any, row_id: int) -> None:
    line = orjson.loads(wire.line(row_id, PARAMS, "gpt-4o-mini" if wire.uploads else "claude-haiku-4-5"))
    assert wire.parse_line(orjson.dumps({"custom_id": line["custom_id"]})).row_id == row_id


def test_half_a_surrogate_pair_does_not_cost_the_answer() -> None:
    line = openai_line({"status_code": 200, "body": COMPLETION}).replace(b'"content":"4"', b'"content":"4\\ud83d"')
    found = OPENAI.parse_line(line)
    assert isinstance(found.outcome, Success)
    assert (found.row_id, found.outcome.completion["choices"][0]["message"]["content"]) == (7, "4\ufffd")


@pytest.mark.parametrize(
    ("wire", "line"),
    [
        (OPENAI, openai_line(refused(401, message=f"Incorrect API key {KEY}"))),
        (OPENAI, openai_line(error={"code": "x", "message": f"key {KEY}"})),
        (ANTHROPIC, anthropic_line(errored("authentication_error", f"key {KEY}"))),
    ],
)
def test_a_key_does_not_come_through(wire: Any, line: bytes) -> None:
    found = wire.parse_line(line, secret=KEY).outcome
    assert isinstance(found, Failure)
    assert "****" in found.message
    assert KEY not in found.message
