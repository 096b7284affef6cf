"""Rows and batches as these tests submit them, through the vendors' own SDKs."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai

CHAT = "/v1/chat/completions"


def chat_row(name: str, *, model: str = "gpt-6-luna", text: str | None = None, **fields: Any) -> dict[str, Any]:
    """A line of a batch input file that asks for the nonce `nonce-<name>`."""
    content = text if text is not None else f"hello nonce-{name}"
    body = {"model": model, "messages": [{"role": "user", "content": content}]} | fields
    return {"custom_id": name, "method": "POST", "url": CHAT, "body": body}


def message_row(name: str, *, model: str = "claude-haiku-4-5", **fields: Any) -> Any:
    """A request of a message batch, likewise."""
    messages = [{"role": "user", "content": f"hello nonce-{name}"}]
    return {"custom_id": name, "params": {"model": model, "max_tokens": 100, "messages": messages} | fields}


def jsonl(rows: list[Any]) -> bytes:
    """The rows as a file; what is no object goes in as it is."""
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def create(sdk: openai.OpenAI, rows: list[Any], *, endpoint: Any = CHAT, **fields: Any) -> Any:
    """Upload and create."""
    file = sdk.files.create(file=("in.jsonl", jsonl(rows)), purpose="batch")
    return sdk.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **fields)


def lines(sdk: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of a result file; none without a file."""
    return [json.loads(line) for line in sdk.files.content(file_id).text.splitlines()] if file_id else []


def results(sdk: anthropic.Anthropic, batch_id: str) -> dict[str, Any]:
    """custom_id -> result of a message batch that has ended."""
    return {line.custom_id: line.result for line in sdk.messages.batches.results(batch_id)}
