"""OpenAI's `POST /v1/responses`: reads a request, answers it whole or as a stream (PROVIDERS.md 2.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from simulator import openai_rules, openai_vendor
from simulator.answer import asked_tool, pieces, write
from simulator.limits import Allowance, Refused
from simulator.openai_responses_rules import check_model, check_shape, encrypted, read_input
from simulator.prompt import Plan, Reading, Refusal, Tool

if TYPE_CHECKING:
    from simulator.simulation import Simulation


class OpenAIResponses:
    """The surface."""

    vendor = "openai"
    manners = openai_vendor

    def read(self, simulation: Simulation, body: Any, headers: dict[bytes, bytes]) -> Plan:
        """The plan of the answer. Raises Refusal."""
        if not isinstance(body, dict):
            raise openai_rules.bad("The body must be a JSON object.", None)
        check_shape(body)
        name = body["model"]
        model = simulation.models.find(name, "openai")
        if model is None:
            raise openai_vendor.unknown_model(name)
        if "responses" not in model.entry["endpoints"]:
            raise Refusal(404, f"{name} is not served by /v1/responses.", param="model")
        check_model(body, model)
        reading = Reading()
        answers_tool = read_input(body, reading)
        tools = body.get("tools")
        if tools:
            reading.overhead(len(orjson.dumps(tools)))
        wanted = (body.get("text") or {}).get("format") or {"type": "text"}
        schema: Any = {"json_object": True, "json_schema": wanted.get("schema")}.get(wanted["type"])
        limit = body.get("max_output_tokens")
        plan = reading.plan(name, limit)
        plan.stream = bool(body.get("stream"))
        plan.encrypted_reasoning = "reasoning.encrypted_content" in (body.get("include") or ())
        plan.service_tier = "priority" if body.get("service_tier") in ("fast", "priority") else "default"
        write(
            plan,
            simulation.config.tokens,
            tool=_tool(body, plan.prompt, answers_tool) if tools else None,
            tool_id_prefix="call_",
            schema=schema,
            stop=[],
            limit=limit if limit is not None else model.max_output_tokens,
        )
        return plan

    def admit(self, allowance: Allowance, now: float, plan: Plan) -> Refused | None:
        """Takes prompt plus requested output from the limits."""
        output = plan.output_tokens if plan.max_tokens is None else plan.max_tokens
        return allowance.admit_total(now, plan.prompt_tokens + output)

    def charge(self, allowance: Allowance, now: float, plan: Plan) -> None:
        """Nothing more: all was taken up front."""

    def answer(self, plan: Plan, number: str) -> bytes:
        """The whole response as JSON."""
        return orjson.dumps(_response(plan, number, _items(plan, number), ended=True))

    def events(self, plan: Plan, number: str, chunks: int) -> list[bytes]:
        """The stream, an item per event; no [DONE]."""
        events: list[bytes] = []

        def emit(kind: str, **fields: Any) -> None:
            data = {"type": kind, "sequence_number": len(events)} | fields
            events.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(data)))

        begun = _response(plan, number, [], ended=False)
        emit("response.created", response=begun)
        emit("response.in_progress", response=begun)
        for at, item in enumerate(_items(plan, number)):
            _emit_item(emit, at, item, chunks)
        ended = _response(plan, number, _items(plan, number), ended=True)
        emit(f"response.{ended['status']}", response=ended)
        return events

    def stream_error(self, number: str) -> bytes:
        """The event of a stream that fails half-way."""
        message = "The server had an error while processing your request"
        data = {"type": "error", "code": "server_error", "message": message, "param": None, "sequence_number": 3}
        return b"event: error\ndata: " + orjson.dumps(data) + b"\n\n"


def _emit_item(emit: Any, at: int, item: dict[str, Any], chunks: int) -> None:
    place = {"output_index": at, "item_id": item["id"]}
    kind = item["type"]
    opening: dict[str, Any] = {**item, "status": "in_progress"}
    if kind in ("message", "function_call"):
        opening["content" if kind == "message" else "arguments"] = [] if kind == "message" else ""
    emit("response.output_item.added", output_index=at, item=opening)
    if kind == "function_call":
        for piece in pieces(item["arguments"], 3):
            emit("response.function_call_arguments.delta", **place, delta=piece)
        emit("response.function_call_arguments.done", **place, arguments=item["arguments"])
    elif kind == "message":
        part = item["content"][0]
        name, text = ("refusal", part["refusal"]) if part["type"] == "refusal" else ("text", part["text"])
        spoken = "refusal" if name == "refusal" else "output_text"
        place |= {"content_index": 0}
        emit("response.content_part.added", **place, part={**part, name: ""})
        for piece in pieces(text, chunks):
            emit(f"response.{spoken}.delta", **place, delta=piece)
        emit(f"response.{spoken}.done", **place, **{name: text})
        emit("response.content_part.done", **place, part=part)
    emit("response.output_item.done", output_index=at, item=item)


def _items(plan: Plan, number: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if plan.reasoning_tokens:
        thought: dict[str, Any] = {"type": "reasoning", "id": f"rs_{number}", "summary": []}
        if plan.encrypted_reasoning:
            thought["encrypted_content"] = encrypted(thought["id"])
        items.append(thought)
    for at, call in enumerate(plan.tool_calls):
        items.append(
            {
                "type": "function_call",
                "id": f"fc_{number}_{at}",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.arguments,
                "status": "completed",
            }
        )
    refused = plan.finish == "refusal"
    if plan.text:
        part: dict[str, Any] = {"type": "output_text", "text": plan.text, "annotations": []}
        if refused:
            part = {"type": "refusal", "refusal": plan.text}
        message = {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed"}
        items.append({**message, "content": [part]})
    return items


def _response(plan: Plan, number: str, output: list[dict[str, Any]], *, ended: bool) -> dict[str, Any]:
    reason = {"length": "max_output_tokens", "refusal": "content_filter"}.get(plan.finish)
    status = ("incomplete" if reason else "completed") if ended else "in_progress"
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": openai_vendor.now_seconds(),
        "status": status,
        "error": None,
        "incomplete_details": {"reason": reason} if ended and reason else None,
        "model": plan.model,
        "output": output,
        "service_tier": plan.service_tier,
        "store": False,
        "usage": _usage(plan) if ended else None,
    }


def _usage(plan: Plan) -> dict[str, Any]:
    return {
        "input_tokens": plan.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": plan.cached_tokens,
            "cache_write_tokens": plan.cache_write_tokens,
        },
        "output_tokens": plan.output_tokens,
        "output_tokens_details": {"reasoning_tokens": plan.reasoning_tokens},
        "total_tokens": plan.prompt_tokens + plan.output_tokens,
    }


def _tool(body: dict[str, Any], prompt: str, answers_tool: bool) -> Tool | None:
    """The tool that is called: forced by tool_choice, or named in the prompt when that is left to the model."""
    tools = {tool["name"]: Tool(tool["name"], tool["parameters"]) for tool in body["tools"]}
    choice = body.get("tool_choice") or "auto"
    if isinstance(choice, dict):
        if choice["type"] == "function":
            return tools[choice["name"]]
        choice = choice["mode"]
    found = asked_tool(list(tools), prompt)
    if choice == "required":
        return tools[found or next(iter(tools))]
    return None if choice == "none" or answers_tool or found is None else tools[found]
