"""Anthropic's stream of named events, turned into OpenAI's chunks as they pass."""

from __future__ import annotations

import time
from typing import Any

import orjson

from core.providers.anthropic_answer import completion_of, explanation, finish_reason, read_usage, usage_object
from core.providers.failures import unreadable
from core.providers.from_anthropic_answer import NATIVE, end_left_over
from core.providers.sse import KEEP_ALIVE, event
from core.providers.streams import StreamBase
from core.providers.types import Failure, Success, Usage


class AnthropicStream(StreamBase):
    """The translator of PROVIDERS.md 3.3. Thinking passes as `reasoning_content`, signed blocks as `thinking_blocks`.

    `include_usage`: whether the caller asked for the usage chunk at the end.
    """

    def __init__(self, *, include_usage: bool, secret: str | None = None) -> None:
        super().__init__(include_usage=include_usage, secret=secret)
        self._message: dict[str, Any] = {"content": []}
        self._counters: dict[str, Any] = {}
        #: the block that is open, and the pieces of its text by field
        self._block: dict[str, Any] = {}
        self._pieces: dict[str, list[str]] = {}
        self._calls = self._thoughts = 0
        self._head: dict[str, Any] = {}
        self._before = self._after = b""

    def _event(self, data: bytes) -> bytes:
        found = self._decoded(data)
        return self._translated(found) if found is not None else b""

    def _translated(self, found: dict[str, Any]) -> bytes:
        kind = found.get("type")
        if kind == "content_block_delta":
            return self._delta(_object(found.get("delta")))
        if kind == "content_block_start":
            return self._block_start(_object(found.get("content_block")))
        if kind == "content_block_stop":
            return self._block_stop()
        if kind == "message_start":
            return self._start(_object(found.get("message")))
        if kind == "message_delta":
            self._message.update(_object(found.get("delta")))
            self._count(found.get("usage"))
        elif kind == "message_stop":
            return self._end()
        elif kind == "ping":
            return KEEP_ALIVE
        return b""

    def _start(self, message: dict[str, Any]) -> bytes:
        self._message = {**message, "content": []}
        self._count(message.get("usage"))
        model = message.get("model")
        self._head = {
            "id": message["id"] if isinstance(message.get("id"), str) else "msg_unknown",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model if isinstance(model, str) else "",
            "system_fingerprint": None,
        }
        self._before = b"data: " + orjson.dumps(self._head)[:-1] + b',"choices":[{"index":0,"delta":'
        usage = b',"usage":null' if self._include_usage else b""
        self._after = b',"logprobs":null,"finish_reason":null}]' + usage + b"}\n\n"
        return self._chunk({"role": "assistant", "content": ""})

    def _chunk(self, delta: dict[str, Any]) -> bytes:
        return self._before + orjson.dumps(delta) + self._after if self._before else b""

    def _block_start(self, block: dict[str, Any]) -> bytes:
        # A block that was never stopped is kept all the same.
        self._block_stop()
        self._block, self._pieces = dict(block), {}
        kind = block.get("type")
        if kind == "tool_use":
            self.first_token = True
            self._calls += 1
            function = {"name": _string(block.get("name")), "arguments": ""}
            call = {"index": self._calls - 1, "id": _string(block.get("id")), "type": "function", "function": function}
            return self._chunk({"tool_calls": [call]})
        if kind == "text" and block.get("text"):
            return self._delta({"type": "text_delta", "text": self._block.pop("text")})
        return b""

    def _delta(self, delta: dict[str, Any]) -> bytes:
        kind = delta.get("type")
        if kind == "text_delta":
            text = self._piece("text", delta)
            return self._chunk({"content": text}) if text else b""
        if kind == "input_json_delta":
            text = self._piece("partial_json", delta)
            if not text or self._block.get("type") != "tool_use":
                # The input of a tool that Anthropic runs itself is no call of the caller's.
                return b""
            return self._chunk({"tool_calls": [{"index": self._calls - 1, "function": {"arguments": text}}]})
        if kind == "thinking_delta":
            text = self._piece("thinking", delta)
            return self._chunk({"reasoning_content": text}) if text else b""
        if kind == "signature_delta":
            self._piece("signature", delta)
        elif kind == "citations_delta" and isinstance(delta.get("citation"), dict):
            self._block["citations"] = [*(self._block.get("citations") or ()), delta["citation"]]
        return b""

    def _piece(self, field: str, delta: dict[str, Any]) -> str:
        text = _string(delta.get(field))
        if text:
            self.first_token = True
            self._pieces.setdefault(field, []).append(text)
        return text

    def _block_stop(self) -> bytes:
        block, self._block = self._block, {}
        if not block:
            return b""
        for field, pieces in self._pieces.items():
            block[field] = _string(block.get(field)) + "".join(pieces)
        self._message["content"].append(block)
        if block.get("type") in ("thinking", "redacted_thinking"):
            self._thoughts += 1
            # OpenAI's package adds up lists by the index of their entries, and fails without one.
            return self._chunk({"thinking_blocks": [{"index": self._thoughts - 1, **block}]})
        return b""

    def _count(self, usage: object) -> None:
        """Counters are cumulative: the last value of each holds."""
        self._counters.update({key: value for key, value in _object(usage).items() if value is not None})

    def _end(self) -> bytes:
        if not self._before:
            self._fail(unreadable(200, "the provider's stream ended before it began"))
            return b""
        self.ended = True
        self._block_stop()
        stop = self._message.get("stop_reason")
        delta = {"refusal": explanation(self._message)} if stop == "refusal" else {}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason(stop)}
        last = {**self._head, "choices": [choice]}
        rest = end_left_over(self._message, choice["finish_reason"])
        if rest:
            last[NATIVE] = rest
        if not self._include_usage:
            return event(last)
        usage = self._usage() or Usage()
        return event({**last, "usage": None}) + event({**self._head, "choices": [], "usage": usage_object(usage)})

    def _complete(self) -> bool:
        # A stream without message_stop is cut off, whatever came before.
        return False

    def _usage(self) -> Usage | None:
        return read_usage(self._counters)

    def _partial(self) -> dict[str, Any] | None:
        if not self._before:
            return None
        self._block_stop()
        completion = completion_of({**self._message, "usage": self._counters}, self._usage())
        if not self._message.get("stop_reason"):
            completion["choices"][0]["finish_reason"] = None
        return completion

    def _outcome(self) -> Success:
        usage = self._usage()
        completion = completion_of({**self._message, "usage": self._counters}, usage)
        return Success(
            completion=completion,
            usage=usage or Usage(),
            model=completion["model"],
            usage_reported=usage is not None,
        )


class NativeStream(AnthropicStream):
    """Claude's events for a caller of Anthropic's surface: they go through as they came, and are counted all the same.

    The last one, message_stop, is kept back until the answer is recorded: `finish` gives it.
    """

    def _event(self, data: bytes) -> bytes:
        found = self._decoded(data)
        if found is None:
            return b""
        self._translated(found)
        kind = found.get("type")
        if kind == "message_stop" or not isinstance(kind, str) or not kind.isidentifier() or not self._before:
            return b""
        if b"\n" in data:
            data = orjson.dumps(found)
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

    def finish(self) -> tuple[bytes, Success | Failure]:
        last, outcome = super().finish()
        if isinstance(outcome, Success):
            last += b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
        return last, outcome


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
