"""Writes the answers: deterministic text, tool calls and JSON that carry the prompt's nonce."""

from __future__ import annotations

import re
from typing import Any

import orjson

from simulator.config import Tokens
from simulator.prompt import Plan, Tool, ToolCall, tokens_of

_FILLER = " The quick brown fox jumps over the lazy dog."


def write(
    plan: Plan,
    settings: Tokens,
    *,
    tool: Tool | None,
    tool_id_prefix: str,
    schema: Any,
    stop: list[str],
    limit: int | None,
) -> None:
    """Fill in the plan's answer and usage. `tool`: the one to call. `schema`: the answer
    is JSON that fits it (True: any object). `limit`: the most tokens that may be written, reasoning included."""
    _usage_of_prompt(plan, settings)
    plan.reasoning_tokens = settings.reasoning
    subject = plan.nonce or "the prompt"
    if tool is not None:
        arguments = subject if tool.custom else orjson.dumps(fit(tool.schema, subject)).decode()
        plan.tool_calls = [ToolCall(f"{tool_id_prefix}{plan.prompt_hash:016x}", tool.name, arguments, tool.custom)]
        plan.finish = "tool_calls"
        plan.output_tokens = plan.reasoning_tokens + tokens_of(tool.name) + tokens_of(arguments)
        return
    if schema is not None:
        text = orjson.dumps({"answer": subject} if schema is True else fit(schema, subject)).decode()
    else:
        text = f"Simulated answer {plan.prompt_hash & 0xFFFFFFFF:08x} to {subject}."
    if settings.output is not None:
        text = sized(text, max(0, settings.output - plan.reasoning_tokens))
    for sequence in stop:
        if sequence and (at := text.find(sequence)) >= 0:
            text, plan.finish, plan.stop_sequence = text[:at], "stop_sequence", sequence
    tokens = plan.reasoning_tokens + tokens_of(text)
    if limit is not None and tokens > limit:
        # A reasoning model may spend the whole budget before its first word, and is paid for it.
        plan.reasoning_tokens = min(plan.reasoning_tokens, limit)
        text = _cut(text, limit - plan.reasoning_tokens)
        tokens, plan.finish = limit, "length"
    plan.text = text
    plan.output_tokens = tokens


def rewrite(plan: Plan, text: str) -> None:
    """Another text in place of the planned one, usage with it."""
    plan.text = text
    plan.tool_calls = []
    plan.finish = "stop"
    plan.output_tokens = plan.reasoning_tokens + tokens_of(text)


def sized(text: str, tokens: int) -> str:
    """The text cut or filled up to exactly so many tokens (four bytes each)."""
    size = tokens * 4
    missing = size - len(text.encode())
    if missing > 0:
        return text + (_FILLER * (missing // len(_FILLER) + 1))[:missing]
    return _cut(text, tokens)


def pieces(text: str, count: int) -> list[str]:
    """The text in at most `count` pieces of about the same length; none if it is empty."""
    size = max(1, -(-len(text) // count))
    return [text[at : at + size] for at in range(0, len(text), size)]


def asked_tool(names: list[str], prompt: str) -> str | None:
    """The first tool whose name the prompt mentions as a word: how a prompt asks for a tool here."""
    return next((name for name in names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", prompt)), None)


def fit(schema: Any, text: str, depth: int = 0) -> Any:
    """The simplest value that fits a JSON schema; strings are `text`."""
    if not isinstance(schema, dict) or depth > 20:
        return {}
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if schema.get(choice):
            return fit(schema[choice][0], text, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else None)
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    if kind == "object" or kind is None:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        return {name: fit(inner, text, depth + 1) for name, inner in properties.items()}
    if kind == "array":
        return [fit(schema.get("items"), text, depth + 1)] * max(1, schema.get("minItems") or 1)
    return {"string": text, "integer": schema.get("minimum", 1), "number": schema.get("minimum", 1.5)}.get(
        kind, True if kind == "boolean" else None
    )


def _cut(text: str, tokens: int) -> str:
    return text.encode()[: max(0, tokens) * 4].decode("utf-8", "ignore")


def _usage_of_prompt(plan: Plan, settings: Tokens) -> None:
    if settings.cached or settings.cache_write:
        plan.cached_tokens = int(plan.prompt_tokens * settings.cached)
        plan.cache_write_tokens = min(
            plan.prompt_tokens - plan.cached_tokens, int(plan.prompt_tokens * settings.cache_write)
        )
