"""Streams for callers of Anthropic's surface: OpenAI's chunks become Anthropic's events, Claude's own pass."""

from __future__ import annotations

from typing import Any

import orjson

from core.providers import openai_reasoning
from core.providers.from_anthropic_answer import ADDED, message_id, stop_reason, usage_of, use
from core.providers.from_anthropic_errors import error_object, status_of
from core.providers.sse import EventDecoder, EventTooLong

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
#: how an event of ours begins among Claude's, which all have a name
_OURS = b"\n\ndata: "


def event(kind: str, **fields: Any) -> bytes:
    """One named event."""
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind, **fields}) + b"\n\n"


def error_event(status: int, message: str, request_id: str) -> bytes:
    """The event that says why there will be no more."""
    error = error_object(status, message, request_id)["error"]
    return event("error", error=error, request_id=request_id)


class MessageEvents:
    """Takes what core.streaming yields and gives Anthropic's events (PROVIDERS.md 3.2).

    Parameters
    ----------
    input_tokens : an estimate for message_start, as OpenAI counts the prompt only at the end; message_delta has the
        provider's own count.
    """

    def __init__(self, *, request_id: str, input_tokens: int) -> None:
        self._request_id = request_id
        self._input_tokens = input_tokens
        self._native: bool | None = None
        self._decoder = EventDecoder()
        self._started = False
        self._over = False
        #: blocks so far, and the kind of the open one ("" for none); of a call also its index among the calls
        self._blocks = 0
        self._open = ""
        self._call: int | None = None
        self._calls: set[int] = set()
        self._finish_reason: object = None
        self._refusal: list[str] = []
        self._usage: object = None
        self._tier: object = None
        #: what the last chunk says beyond OpenAI's fields
        self._added: dict[str, Any] = {}

    def feed(self, piece: bytes) -> bytes:
        """Events for the caller for one piece of the stream, which holds whole events."""
        if self._native is None and piece and not piece.startswith(b":"):
            self._native = piece.startswith(b"event:")
        return self._pass(piece) if self._native else self._translate(piece)

    def _pass(self, piece: bytes) -> bytes:
        """Claude's events as they are; an error or the end among them is core.streaming's own."""
        if piece.startswith(b"data: "):
            return self._translate(piece)
        events, mark, own = piece.partition(_OURS)
        return events + b"\n\n" + self._translate(b"data: " + own) if mark else piece

    def _translate(self, piece: bytes) -> bytes:
        try:
            found = self._decoder.feed(piece)
        except EventTooLong:
            return self._fail(500, "the provider's stream has an event that is too long")
        out = [PING if data is None else self._event(data) for data in found]
        return b"".join(out)

    def _event(self, data: bytes) -> bytes:
        if self._over:
            return b""
        if data == b"[DONE]":
            return self._end()
        chunk = orjson.loads(data)
        error = chunk.get("error")
        if error:
            return self._fail(status_of(str(error.get("type"))), str(error.get("message")))
        out = b"" if self._started else self._start(chunk)
        if chunk.get("usage"):
            self._usage = chunk["usage"]
        if "request_id" in chunk:
            self._added = {field: chunk.get(field) for field in ADDED}
        if chunk.get("service_tier"):
            self._tier = chunk["service_tier"]
        for choice in chunk.get("choices") or ():
            if not isinstance(choice, dict):
                continue
            delta = choice.get("delta")
            out += self._delta(delta if isinstance(delta, dict) else {})
            if choice.get("finish_reason"):
                self._finish_reason = choice["finish_reason"]
                out += self._close()
        return out

    def _start(self, chunk: dict[str, Any]) -> bytes:
        self._started = True
        usage = usage_of({"prompt_tokens": self._input_tokens})
        message: dict[str, Any] = {
            "id": message_id(chunk.get("id")),
            "type": "message",
            "role": "assistant",
            "model": chunk.get("model") or "",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "container": None,
            "usage": usage,
        }
        return event("message_start", message=message) + PING

    def _delta(self, delta: dict[str, Any]) -> bytes:
        out = b""
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thought, str) and thought:
            out += self._block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            out += self._piece({"type": "thinking_delta", "thinking": thought})
        entries = delta.get(openai_reasoning.FIELD)
        for entry in filter(openai_reasoning.is_entry, entries if isinstance(entries, list) else ()):
            # A block that is whole at its start.
            out += self._close() + self._block("redacted_thinking", openai_reasoning.block_of(entry)) + self._close()
        text = delta.get("content")
        if isinstance(text, str) and text:
            out += self._block("text", {"type": "text", "text": ""})
            out += self._piece({"type": "text_delta", "text": text})
        refusal = delta.get("refusal")
        if isinstance(refusal, str):
            self._refusal.append(refusal)
        calls = delta.get("tool_calls")
        for fragment in calls if isinstance(calls, list) else ():
            if isinstance(fragment, dict):
                out += self._fragment(fragment)
        return out

    def _fragment(self, fragment: dict[str, Any]) -> bytes:
        """A piece of a call: a new index begins one, and blocks do not interleave."""
        out = b""
        index = fragment.get("index")
        number = index if isinstance(index, int) else len(self._calls)
        function = fragment.get("function")
        function = function if isinstance(function, dict) else {}
        if number not in self._calls:
            self._calls.add(number)
            block = use(fragment.get("id"), function.get("name"), {}, number)
            out += self._close() + self._block("tool_use", block)
            self._call = number
        elif number != self._call:
            return out + self._fail(500, "the provider's stream goes back to a call that it had left")
        if isinstance(function.get("arguments"), str) and function["arguments"]:
            out += self._piece({"type": "input_json_delta", "partial_json": function["arguments"]})
        return out

    def _block(self, kind: str, block: dict[str, Any]) -> bytes:
        if self._open == kind:
            return b""
        out = self._close()
        self._open = kind
        return out + event("content_block_start", index=self._blocks, content_block=block)

    def _piece(self, delta: dict[str, Any]) -> bytes:
        return event("content_block_delta", index=self._blocks, delta=delta)

    def _close(self) -> bytes:
        if not self._open:
            return b""
        self._open, self._call = "", None
        self._blocks += 1
        return event("content_block_stop", index=self._blocks - 1)

    def _end(self) -> bytes:
        self._over = True
        if not self._started:
            # Claude's own events, which end by themselves.
            return b""
        refusal = "".join(self._refusal)
        reason = stop_reason(self._finish_reason or "stop", called=bool(self._calls), refused=bool(refusal))
        delta: dict[str, Any] = {"stop_reason": reason, "stop_sequence": None, "stop_details": None}
        if reason == "refusal":
            delta["stop_details"] = {"type": "refusal", "category": None, "explanation": refusal or None}
        usage = usage_of(self._usage or {"prompt_tokens": self._input_tokens}, self._tier)
        counters = {field: usage[field] for field in _COUNTERS}
        return (
            self._close() + event("message_delta", delta=delta, usage=counters) + event("message_stop", **self._added)
        )

    def _fail(self, status: int, message: str) -> bytes:
        self._over = True
        return error_event(status, message, self._request_id)


#: what message_delta repeats of the usage, as totals
_COUNTERS = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "output_tokens_details",
    "server_tool_use",
)
