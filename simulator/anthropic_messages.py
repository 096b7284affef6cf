"""Anthropic's `POST /v1/messages`: reads a request, answers it whole or as a stream (PROVIDERS.md 2.4, 2.5, 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from simulator import anthropic_rules, anthropic_vendor
from simulator.answer import asked_tool, pieces, write
from simulator.limits import Allowance, Refused
from simulator.models import Model
from simulator.prompt import Plan, Reading, Refusal, Tool

if TYPE_CHECKING:
    from simulator.simulation import Simulation

_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
#: the signature of a simulated thinking block
_SIGNATURE = "c2ltdWxhdGVk"


class AnthropicMessages:
    """The surface."""

    vendor = "anthropic"
    manners = anthropic_vendor

    def read(self, simulation: Simulation, body: Any, headers: dict[bytes, bytes]) -> Plan:
        """The plan of the answer. Raises Refusal."""
        model, reading = understand(simulation, body, headers, counting=False)
        limit = body["max_tokens"]
        plan = reading.plan(body["model"], limit)
        if (most := model.max_input_tokens) is not None and plan.prompt_tokens > most:
            raise Refusal(400, f"prompt is too long: {plan.prompt_tokens} tokens > {most} maximum")
        plan.stream = bool(body.get("stream"))
        plan.service_tier = "standard"
        plan.speed = body.get("speed") or "standard"
        plan.inference_geo = body.get("inference_geo") or "global"
        schema = ((body.get("output_config") or {}).get("format") or {}).get("schema")
        write(
            plan,
            simulation.config.tokens,
            tool=_tool(body, plan.prompt) if body.get("tools") else None,
            tool_id_prefix="toolu_",
            schema=schema,
            stop=body.get("stop_sequences") or [],
            limit=limit,
        )
        return plan

    def admit(self, allowance: Allowance, now: float, plan: Plan) -> Refused | None:
        """Takes the input that did not come from the cache."""
        return allowance.admit_input(now, plan.prompt_tokens - plan.cached_tokens)

    def charge(self, allowance: Allowance, now: float, plan: Plan) -> None:
        """Output counts when it was written."""
        allowance.produced(now, plan.output_tokens)

    def answer(self, plan: Plan, number: str) -> bytes:
        """The whole message as JSON."""
        content: list[dict[str, Any]] = []
        if plan.reasoning_tokens:
            content.append({"type": "thinking", "thinking": "", "signature": _SIGNATURE})
        if plan.text and plan.finish != "refusal":
            content.append({"type": "text", "text": plan.text})
        content.extend(
            {"type": "tool_use", "id": call.id, "name": call.name, "input": orjson.loads(call.arguments)}
            for call in plan.tool_calls
        )
        return orjson.dumps(_message(plan, number) | _ending(plan) | {"content": content, "usage": _usage(plan)})

    def events(self, plan: Plan, number: str, chunks: int) -> list[bytes]:
        """The stream, an item per event."""
        opening = {"output_tokens": 1 if plan.output_tokens else 0, "output_tokens_details": None}
        start = _message(plan, number) | {"usage": _usage(plan) | opening}
        events = [_event("message_start", message=start)]
        index = 0

        def block(content: dict[str, Any], deltas: list[dict[str, Any]]) -> None:
            nonlocal index
            events.append(_event("content_block_start", index=index, content_block=content))
            if index == 0:
                events.append(_PING)
            events.extend(_event("content_block_delta", index=index, delta=delta) for delta in deltas)
            events.append(_event("content_block_stop", index=index))
            index += 1

        if plan.reasoning_tokens:
            signed = {"type": "signature_delta", "signature": _SIGNATURE}
            block({"type": "thinking", "thinking": "", "signature": ""}, [signed])
        if plan.text and plan.finish != "refusal":
            block(
                {"type": "text", "text": ""},
                [{"type": "text_delta", "text": piece} for piece in pieces(plan.text, chunks)],
            )
        for call in plan.tool_calls:
            parts = ["", *pieces(call.arguments, 3)]
            block(
                {"type": "tool_use", "id": call.id, "name": call.name, "input": {}},
                [{"type": "input_json_delta", "partial_json": part} for part in parts],
            )
        if index == 0:
            events.append(_PING)
        usage = {
            "input_tokens": _input_tokens(plan),
            "cache_creation_input_tokens": plan.cache_write_tokens,
            "cache_read_input_tokens": plan.cached_tokens,
            "output_tokens": plan.output_tokens,
            "output_tokens_details": {"thinking_tokens": plan.reasoning_tokens},
        }
        events.append(_event("message_delta", delta=_ending(plan), usage=usage))
        events.append(_event("message_stop"))
        return events

    def stream_error(self, number: str) -> bytes:
        """The event of a stream that fails half-way."""
        error = {"type": "overloaded_error", "message": "Overloaded"}
        return _event("error", error=error, request_id=f"req_{number}")


def understand(
    simulation: Simulation, body: Any, headers: dict[bytes, bytes], *, counting: bool
) -> tuple[Model, Reading]:
    """Checks a body of Messages or count_tokens, and reads its text. Raises Refusal."""
    anthropic_vendor.check_version(headers)
    if not isinstance(body, dict):
        raise anthropic_rules.bad("Input should be a valid dictionary")
    anthropic_rules.check_shape(body, counting=counting)
    model = simulation.models.find(body["model"], "anthropic")
    if model is None:
        raise anthropic_vendor.unknown_model(body["model"])
    version = headers[b"anthropic-version"]
    anthropic_rules.check_model(body, model, version)
    reading = Reading()
    anthropic_rules.read_conversation(body, model, version, reading)
    return model, reading


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind} | fields))


def _message(plan: Plan, number: str) -> dict[str, Any]:
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": plan.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
    }


def _ending(plan: Plan) -> dict[str, Any]:
    ending: dict[str, Any] = {
        "stop_reason": _STOP.get(plan.finish, plan.finish),
        "stop_sequence": plan.stop_sequence,
        "stop_details": None,
    }
    if plan.finish == "refusal":
        ending["stop_details"] = {"type": "refusal", "category": "general_harms", "explanation": plan.text}
    return ending


def _input_tokens(plan: Plan) -> int:
    return plan.prompt_tokens - plan.cached_tokens - plan.cache_write_tokens


def _usage(plan: Plan) -> dict[str, Any]:
    return {
        "input_tokens": _input_tokens(plan),
        "cache_creation_input_tokens": plan.cache_write_tokens,
        "cache_read_input_tokens": plan.cached_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": plan.cache_write_tokens - plan.cache_write_1h_tokens,
            "ephemeral_1h_input_tokens": plan.cache_write_1h_tokens,
        },
        "output_tokens": plan.output_tokens,
        "output_tokens_details": {"thinking_tokens": plan.reasoning_tokens},
        "server_tool_use": None,
        "service_tier": plan.service_tier,
        "inference_geo": plan.inference_geo,
        "speed": plan.speed,
    }


def _tool(body: dict[str, Any], prompt: str) -> Tool | None:
    """The tool that is called: forced by tool_choice, or named in the prompt when that is left to the model."""
    tools = {tool["name"]: Tool(tool["name"], tool.get("input_schema")) for tool in body["tools"] if "name" in tool}
    choice = body.get("tool_choice") or {"type": "auto"}
    if choice["type"] == "tool":
        return tools[choice["name"]]
    found = asked_tool(list(tools), prompt)
    if choice["type"] == "any":
        return tools[found or next(iter(tools))]
    if choice["type"] == "none" or _answers_tool(body["messages"][-1]) or found is None:
        return None
    return tools[found]


def _answers_tool(message: dict[str, Any]) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(block.get("type") == "tool_result" for block in content)
