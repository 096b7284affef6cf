"""OpenAI's `POST /v1/chat/completions`: reads a request, answers it whole or as a stream (PROVIDERS.md 2, 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from simulator import openai_rules, openai_vendor
from simulator.answer import asked_tool, pieces, write
from simulator.limits import Allowance, Refused
from simulator.prompt import Plan, Reading, Refusal, Tool, ToolCall

if TYPE_CHECKING:
    from simulator.simulation import Simulation

DONE = b"data: [DONE]\n\n"
_FINISH = {"stop_sequence": "stop", "refusal": "content_filter"}


class OpenAIChat:
    """The surface. `compatible`: a server that only speaks OpenAI's dialect: any model, no quirks, unknown fields."""

    vendor = "openai"
    manners = openai_vendor

    def __init__(self, *, compatible: bool = False) -> None:
        self.compatible = compatible

    def read(self, simulation: Simulation, body: Any, headers: dict[bytes, bytes]) -> Plan:
        """The plan of the answer. Raises Refusal."""
        if not isinstance(body, dict):
            raise openai_rules.bad("The body must be a JSON object.", None)
        openai_rules.check_shape(body, strict=not self.compatible)
        name = body["model"]
        if not isinstance(name, str):
            raise openai_rules.bad("Invalid type for 'model': expected a string.", "model", "invalid_type")
        model = None if self.compatible else simulation.models.find(name, "openai")
        if not self.compatible:
            if model is None:
                raise openai_vendor.unknown_model(name)
            if "chat/completions" not in model.entry["endpoints"]:
                message = f"{name} is not a chat model and is not served by /v1/chat/completions. Use /v1/responses."
                raise Refusal(404, message, param="model")
            openai_rules.check_model(body, model)
        reading = Reading()
        openai_rules.read_messages(body["messages"], reading)
        tools = body.get("tools")
        if tools:
            reading.overhead(len(orjson.dumps(tools)))
        wanted = body.get("response_format") or {}
        schema: Any = None
        if wanted.get("type") == "json_object":
            schema = True
        elif wanted.get("type") == "json_schema":
            schema = wanted["json_schema"].get("schema", True)
        if schema is True and wanted["type"] == "json_object" and not _says_json(body["messages"]):
            message = (
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
            )
            raise openai_rules.bad(message, "messages")
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        plan = reading.plan(name, limit)
        if model is not None and (most := model.max_input_tokens) is not None and plan.prompt_tokens > most:
            message = (
                f"This model's maximum context length is {most} tokens, but the messages have {plan.prompt_tokens}."
            )
            raise openai_rules.bad(message, "messages", "context_length_exceeded")
        plan.stream = bool(body.get("stream"))
        plan.include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        plan.choices = body.get("n") or 1
        plan.service_tier = "priority" if body.get("service_tier") in ("fast", "priority") else "default"
        stop = body.get("stop") or []
        write(
            plan,
            simulation.config.tokens,
            tool=_tool(body, plan.prompt) if tools else None,
            tool_id_prefix="call_",
            schema=schema,
            stop=[stop] if isinstance(stop, str) else stop,
            limit=limit if limit is not None else model.max_output_tokens if model else None,
        )
        return plan

    def admit(self, allowance: Allowance, now: float, plan: Plan) -> Refused | None:
        """Takes prompt plus requested output from the limits."""
        output = plan.output_tokens if plan.max_tokens is None else plan.max_tokens
        return allowance.admit_total(now, plan.prompt_tokens + output * plan.choices)

    def charge(self, allowance: Allowance, now: float, plan: Plan) -> None:
        """Nothing more: all was taken up front."""

    def answer(self, plan: Plan, number: str) -> bytes:
        """The whole completion as JSON."""
        message: dict[str, Any] = {"role": "assistant", "content": plan.text, "refusal": None, "annotations": []}
        if plan.tool_calls:
            message["content"] = None
            message["tool_calls"] = [_tool_call(call, call.arguments) for call in plan.tool_calls]
        elif plan.finish == "refusal":
            message["content"], message["refusal"] = None, plan.text
        finish = _FINISH.get(plan.finish, plan.finish)
        return orjson.dumps(
            {
                "id": f"chatcmpl-{number}",
                "object": "chat.completion",
                "created": openai_vendor.now_seconds(),
                "model": plan.model,
                "choices": [
                    {"index": index, "message": message, "logprobs": None, "finish_reason": finish}
                    for index in range(plan.choices)
                ],
                "usage": _usage(plan),
                "service_tier": plan.service_tier,
                "system_fingerprint": None,
            }
        )

    def events(self, plan: Plan, number: str, chunks: int) -> list[bytes]:
        """The stream, an item per event."""
        frame: dict[str, Any] = {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion.chunk",
            "created": openai_vendor.now_seconds(),
            "model": plan.model,
            "service_tier": plan.service_tier,
            "system_fingerprint": None,
        }
        nothing = {"usage": None} if plan.include_usage else {}
        events = []

        def emit(index: int, delta: dict[str, Any], finish: str | None = None) -> None:
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
            events.append(b"data: " + orjson.dumps(frame | {"choices": [choice]} | nothing) + b"\n\n")

        indexes = range(plan.choices)
        for index in indexes:
            content = None if plan.tool_calls else ""
            emit(index, {"role": "assistant", "content": content, "refusal": None})
        for at, call in enumerate(plan.tool_calls):
            for index in indexes:
                emit(index, {"tool_calls": [{"index": at} | _tool_call(call, "")]})
                kind, field = ("custom", "input") if call.custom else ("function", "arguments")
                for piece in pieces(call.arguments, 3):
                    emit(index, {"tool_calls": [{"index": at, kind: {field: piece}}]})
        field = "refusal" if plan.finish == "refusal" else "content"
        for piece in [] if plan.tool_calls else pieces(plan.text, chunks):
            for index in indexes:
                emit(index, {field: piece})
        for index in indexes:
            emit(index, {}, _FINISH.get(plan.finish, plan.finish))
        if plan.include_usage:
            events.append(b"data: " + orjson.dumps(frame | {"choices": [], "usage": _usage(plan)}) + b"\n\n")
        events.append(DONE)
        return events

    def stream_error(self, number: str) -> bytes:
        """The event of a stream that fails half-way."""
        refusal = Refusal(500, "The server had an error while processing your request")
        return b"data: " + openai_vendor.error_body(refusal, number) + b"\n\n"


def _usage(plan: Plan) -> dict[str, Any]:
    completion = plan.output_tokens * plan.choices
    return {
        "prompt_tokens": plan.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": plan.prompt_tokens + completion,
        "prompt_tokens_details": {
            "cached_tokens": plan.cached_tokens,
            "cache_write_tokens": plan.cache_write_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": plan.reasoning_tokens * plan.choices,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _tool(body: dict[str, Any], prompt: str) -> Tool | None:
    """The tool that is called: forced by tool_choice, or named in the prompt when that is left to the model."""
    tools = {}
    for offered in body["tools"]:
        described = offered[offered["type"]]
        tools[described["name"]] = Tool(
            described["name"], described.get("parameters"), custom=offered["type"] == "custom"
        )
    choice = body.get("tool_choice") or "auto"
    if isinstance(choice, dict):
        kind = choice.get("type")
        if kind in ("function", "custom"):
            return tools[choice[kind]["name"]]
        allowed = choice["allowed_tools"]
        tools = {tool[tool["type"]]["name"]: tools[tool[tool["type"]]["name"]] for tool in allowed["tools"]}
        choice = allowed["mode"]
    found = asked_tool(list(tools), prompt)
    if choice == "required":
        return tools[found or next(iter(tools))]
    if choice == "none" or body["messages"][-1].get("role") == "tool" or found is None:
        return None
    return tools[found]


def _tool_call(call: ToolCall, arguments: str) -> dict[str, Any]:
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _says_json(messages: list[dict[str, Any]]) -> bool:
    return any("json" in str(message.get("content")).lower() for message in messages)
