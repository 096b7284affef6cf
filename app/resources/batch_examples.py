"""What the document shows of batches: a new one as JSON and as lines, its object, its results."""

from __future__ import annotations

from typing import Any

NEW_BATCH = {
    "requests": [
        {"custom_id": "request-1", "model": "gpt-4", "messages": [{"role": "user", "content": "Why is the sky blue?"}]},
        {
            "custom_id": "request-2",
            "model": "claude-sonnet-4-5",
            "messages": [{"role": "user", "content": "Why is the sea salt?"}],
            "max_tokens": 200,
        },
    ],
    "name": "questions",
    "processing": "realtime",
    "webhook_url": "https://example.com/batch-complete",
}

NDJSON = (
    '{"custom_id": "request-1", "model": "gpt-4", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}\n'
    '{"custom_id": "request-2", "model": "gpt-4", "messages": [{"role": "user", "content": "Why is the sea salt?"}]}\n'
)


def _option(name: str, description: str) -> dict[str, Any]:
    return {
        "in": "query",
        "name": name,
        "required": False,
        "schema": {"type": "string"},
        "description": f"With application/x-ndjson: {description}",
    }


NDJSON_PARAMETERS = (
    _option("name", "the batch's name"),
    _option("metadata[key]", "one pair of its metadata; repeat with other keys"),
    _option("processing", "auto, realtime or native"),
    _option("completion_window", "1h to 7d"),
    _option("priority", "-10 to 10"),
    _option("max_cost_usd", "pause at this cost"),
    _option("max_error_rate", "stop at this share of failed rows, 0 to 1"),
    _option("prompt_caching", "true or false"),
    _option("webhook_url", "called when it has ended"),
)

BATCH: dict[str, Any] = {
    "id": "batch_0199aa54e7f27c3d9d2b6f1f0a4c8e11",
    "name": "questions",
    "status": "processing",
    "status_reason": None,
    "status_message": None,
    "processing": "realtime",
    "processing_plan": [
        {"provider": "openai", "model": "gpt-4", "rows": 2, "processing": "realtime", "reason": "asked for"}
    ],
    "native": None,
    "priority": 0,
    "created_at": "2026-11-23T12:00:00.000000Z",
    "started_at": "2026-11-23T12:00:00.210000Z",
    "ended_at": None,
    "expires_at": "2026-11-24T12:00:00.000000Z",
    "request_counts": {
        "total": 2,
        "pending": 0,
        "processing": 1,
        "succeeded": 1,
        "failed": 0,
        "cancelled": 0,
        "expired": 0,
    },
    "usage": {"input_tokens": 14, "output_tokens": 21, "cached_tokens": 0, "reasoning_tokens": 0},
    "cost_usd": "0.00168",
    "savings_usd": "0",
    "max_cost_usd": None,
    "max_error_rate": None,
    "prompt_caching": True,
    "progress": {"rows_per_second": 0.71, "eta": "2026-11-23T12:00:02.800000Z", "waiting_for": "answers of providers"},
    "errors": [],
    "webhook_url": "https://example.com/batch-complete",
    "metadata": {},
    "retry_of": None,
}

RESULT: dict[str, Any] = {
    "custom_id": "request-1",
    "status": "succeeded",
    "response": {
        "id": "chatcmpl-8f3a",
        "object": "chat.completion",
        "created": 1795435200,
        "model": "gpt-4",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "logprobs": None,
                "message": {"role": "assistant", "content": "Air scatters blue light more than red.", "refusal": None},
            }
        ],
        "usage": {"prompt_tokens": 14, "completion_tokens": 21, "total_tokens": 35},
    },
    "error": None,
    "usage": {"input_tokens": 14, "output_tokens": 21, "cached_tokens": 0, "reasoning_tokens": 0},
    "cost_usd": "0.00168",
    "model": "gpt-4",
    "provider": "openai",
    "attempts": 1,
    "processing": "realtime",
    "request_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "started_at": "2026-11-23T12:00:00.210000Z",
    "ended_at": "2026-11-23T12:00:01.630000Z",
}

RESULTS = {"data": [RESULT], "has_more": False, "next_cursor": None}

RESULT_LINE = (
    '{"custom_id": "request-1", "status": "succeeded", "response": {"object": "chat.completion"}, "error": null,'
    ' "cost_usd": "0.00168", "model": "gpt-4", "provider": "openai", "attempts": 1}\n'
)

_ESTIMATED_MODEL: dict[str, Any] = {
    "provider": "openai",
    "provider_id": "prov_0199aa54e7f27c3d9d2b6f1f0a4c8e12",
    "model": "gpt-4o-mini",
    "rows": 49999,
    "input_tokens": 6010000,
    "output_tokens_max": 9999800,
    "rows_without_max_tokens": 0,
    "cost_usd": {"realtime": "6.90138", "native": "3.45069", "chosen": "3.45069"},
    "expected": {"output_tokens": 4100000, "cost_usd": "1.68075"},
    "processing": "native",
    "processing_reason": "49,999 rows of gpt-4o-mini at half the price within 24 h",
    "expected_duration_seconds": 484.5,
    "seconds_per_call": 1.8,
    "limits": {
        "requests_per_minute": 10000,
        "tokens_per_minute": 2000000,
        "input_tokens_per_minute": None,
        "output_tokens_per_minute": None,
        "max_concurrency": 10000,
    },
    "notes": [],
}

ESTIMATE: dict[str, Any] = {
    "valid": False,
    "rows": 50000,
    "invalid_rows": 1,
    "errors": [{"pointer": "/model", "message": "is required: the name of a model, such as gpt-4o", "line": 17}],
    "processing": "auto",
    "completion_window_seconds": 86400,
    "max_cost_usd": "5",
    "models": [_ESTIMATED_MODEL],
    "totals": {
        "rows": 49999,
        "unpriced_rows": 0,
        "input_tokens": 6010000,
        "output_tokens_max": 9999800,
        "rows_without_max_tokens": 0,
        "cost_usd": {"realtime": "6.90138", "native": "3.45069", "chosen": "3.45069"},
        "expected": {"output_tokens": 4100000, "cost_usd": "1.68075"},
        "within_max_cost": True,
        "expected_duration_seconds": 484.5,
        "within_window": True,
        "notes": [],
    },
}
