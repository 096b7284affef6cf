"""The events of /v1/responses on their way through, as the chunks of a chat completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.providers import openai_reasoning
from core.providers.openai_responses_answer import completion_of, finish_reason, head_of, usage_of
from core.providers.sse import event
from core.providers.streams import OpenAIStream


class ResponsesStream(OpenAIStream):
    """The events of /v1/responses, given on as Chat's chunks (PROVIDERS.md 2.9).

    The first chunk goes out with the first of the answer's own, so that a response that fails before has not begun.
    """

    def __init__(self, *, include_usage: bool, secret: str | None = None) -> None:
        super().__init__(include_usage=include_usage, secret=secret)
        self._head: dict[str, Any] = {}
        self._begun = False
        #: output_index -> index of the tool call, and whether its arguments have begun to come
        self._calls: dict[Any, int] = {}
        self._filled: set[Any] = set()
        #: messages and calls so far, and what was thought between them
        self._spoken = self._thoughts = 0

    def _event(self, data: bytes) -> bytes:
        if data.startswith(b"[DONE]"):
            return b""
        found = self._decoded(data)
        if found is None:
            return b""
        response = found.get("response")
        response = response if isinstance(response, dict) else {}
        at = found.get("output_index")
        match found.get("type"):
            case "response.created":
                self._head = head_of(response)
            case "response.output_text.delta":
                return self._delta({"content": found.get("delta")})
            case "response.refusal.delta":
                return self._delta({"refusal": found.get("delta")})
            case "response.output_item.added":
                return self._added(at, found.get("item"))
            case "response.function_call_arguments.delta" if at in self._calls:
                return self._arguments(at, found.get("delta"))
            case "response.output_item.done" if (item := found.get("item") or {}).get("type") == "reasoning":
                return self._reasoning(item)
            case "response.output_item.done" if at in self._calls and at not in self._filled:
                return self._arguments(at, (found.get("item") or {}).get("arguments"))
            case "response.completed" | "response.incomplete":
                return self._last(response)
            case "response.failed":
                self._decoded_error(completion_of({**response, "status": "failed"}))
            case "error":
                self._decoded_error({"error": {**found, "type": found.get("code") or "server_error"}})
        return b""

    def _complete(self) -> bool:
        # Exactly one event ends a response; without it the stream was cut off.
        return False

    def _reasoning(self, item: dict[str, Any]) -> bytes:
        entry = openai_reasoning.kept(item, self._head.get("model"), self._spoken)
        if entry is None:
            return b""
        self._thoughts += 1
        # OpenAI's package adds up lists by the index of their entries.
        return self._delta({openai_reasoning.FIELD: [{"index": self._thoughts - 1, **entry}]})

    def _added(self, at: Any, item: Any) -> bytes:
        if not isinstance(item, dict) or item.get("type") == "reasoning":
            return b""
        self._spoken += 1
        if item.get("type") != "function_call":
            return b""
        self._calls[at] = index = len(self._calls)
        function = {"name": item.get("name"), "arguments": ""}
        call = {"index": index, "id": item.get("call_id"), "type": "function", "function": function}
        return self._delta({"tool_calls": [call]})

    def _arguments(self, at: Any, piece: Any) -> bytes:
        self._filled.add(at)
        return self._delta({"tool_calls": [{"index": self._calls[at], "function": {"arguments": piece}}]})

    def _last(self, response: Mapping[str, Any]) -> bytes:
        """The finish_reason, and the usage if the caller asked for it; the counters are kept in any case."""
        self._head = head_of(response)
        out = self._delta({}, finish_reason(response, bool(self._calls)))
        usage = self._chunk([]) | {"usage": usage_of(response)}
        self._assembly.add(usage)
        self.ended = True
        return out + event(usage) if self._include_usage else out

    def _delta(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        out = b""
        if not self._begun:
            self._begun = True
            out = self._delta({"role": "assistant", "content": "", "refusal": None})
        chunk = self._chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])
        if self._include_usage:
            chunk["usage"] = None
        if self._assembly.add(chunk):
            self.first_token = True
        return out + event(chunk)

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk", "choices": choices}
