"""A chat completion object put together from the chunks of a stream, for the log and for billing."""

from __future__ import annotations

from typing import Any

from core.providers import openai_reasoning
from core.providers.openai_answer import fill_in

#: text that a delta may carry and that is joined; compatible servers call reasoning by either name
_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")


class _Choice:
    """One choice as far as it has come."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.texts: dict[str, list[str]] = {}
        self.calls: dict[int, dict[str, Any]] = {}
        self.function: dict[str, Any] | None = None
        self.reasoning: list[dict[str, Any]] = []
        self.logprobs: list[Any] = []
        self.finish_reason: str | None = None

    def add(self, delta: dict[str, Any]) -> bool:
        """Take in a delta; True if it carried some of the answer."""
        spoke = False
        for field in _TEXTS:
            text = delta.get(field)
            if isinstance(text, str):
                self.texts.setdefault(field, []).append(text)
                spoke = spoke or bool(text)
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            for call in calls:
                if isinstance(call, dict):
                    self._add_call(call)
                    spoke = True
        reasoning = delta.get(openai_reasoning.FIELD)
        if isinstance(reasoning, list):
            self.reasoning += [
                {field: value for field, value in entry.items() if field != "index"}
                for entry in reasoning
                if isinstance(entry, dict)
            ]
        function = delta.get("function_call")
        if isinstance(function, dict):
            self.function = self.function or {"name": "", "arguments": []}
            _join(self.function, function)
            spoke = True
        return spoke

    def _add_call(self, fragment: dict[str, Any]) -> None:
        index = fragment.get("index")
        call = self.calls.setdefault(
            index if isinstance(index, int) else len(self.calls),
            {"id": "", "type": "function", "name": "", "arguments": []},
        )
        for field in ("id", "type"):
            if isinstance(fragment.get(field), str) and fragment[field]:
                call[field] = fragment[field]
        part = fragment.get(call["type"])
        if isinstance(part, dict):
            _join(call, part)

    def object(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
        for field, pieces in self.texts.items():
            text = "".join(pieces)
            message[field] = text if text or field == "content" else None
        if self.calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = [_call(self.calls[index]) for index in sorted(self.calls)]
        if self.reasoning:
            message[openai_reasoning.FIELD] = self.reasoning
        if self.function is not None:
            message["content"] = message["content"] or None
            message["function_call"] = {**self.function, "arguments": "".join(self.function["arguments"])}
        logprobs = {"content": self.logprobs} if self.logprobs else None
        return {
            "index": self.index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": self.finish_reason,
        }


def _join(into: dict[str, Any], part: dict[str, Any]) -> None:
    """A fragment of a call: its name comes once, its arguments (a custom tool's input) in pieces."""
    if isinstance(part.get("name"), str) and part["name"]:
        into["name"] = part["name"]
    for field in ("arguments", "input"):
        if isinstance(part.get(field), str):
            into["arguments"].append(part[field])


def _call(call: dict[str, Any]) -> dict[str, Any]:
    text = "arguments" if call["type"] == "function" else "input"
    body = {"name": call["name"], text: "".join(call["arguments"])}
    return {"id": call["id"], "type": call["type"], call["type"]: body}


class CompletionAssembly:
    """Takes the chunks of one stream and gives the completion object they amount to."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self.usage: Any = None

    def add(self, chunk: dict[str, Any]) -> bool:
        """Take in a decoded chunk; True if it carried some of the answer. Never raises."""
        text = self._more_text(chunk)
        if text is not None:
            return bool(text)
        if not self._head:
            self._head = {field: chunk.get(field) for field in ("id", "created", "model")}
        for field in ("service_tier", "system_fingerprint"):
            if chunk.get(field) is not None:
                self._head[field] = chunk[field]
        spoke = False
        choices = chunk.get("choices")
        for given in choices if isinstance(choices, list) else ():
            if not isinstance(given, dict):
                continue
            index = given.get("index")
            index = index if isinstance(index, int) else 0
            choice = self._choices.get(index)
            if choice is None:
                choice = self._choices[index] = _Choice(index)
            delta = given.get("delta")
            if isinstance(delta, dict):
                spoke = choice.add(delta) or spoke
            logprobs = given.get("logprobs")
            if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
                choice.logprobs += logprobs["content"]
            if isinstance(given.get("finish_reason"), str):
                choice.finish_reason = given["finish_reason"]
        usage = chunk.get("usage")
        if usage is None and isinstance(chunk.get("x_groq"), dict):
            usage = chunk["x_groq"].get("usage")
        if isinstance(usage, dict):
            self.usage = usage
        return spoke

    def _more_text(self, chunk: dict[str, Any]) -> str | None:
        """Take in what nearly every chunk is, more text of the one choice; None if it is anything else."""
        choices = chunk.get("choices")
        if type(choices) is not list or len(choices) != 1 or chunk.get("usage") is not None or "x_groq" in chunk:
            return None
        given = choices[0]
        if type(given) is not dict or given.get("finish_reason") is not None or given.get("logprobs") is not None:
            return None
        delta, index = given.get("delta"), given.get("index")
        if type(delta) is not dict or len(delta) != 1 or type(index) is not int or index not in self._choices:
            return None
        text, pieces = delta.get("content"), self._choices[index].texts.get("content")
        if type(text) is not str or pieces is None:
            return None
        for field in ("service_tier", "system_fingerprint"):
            if chunk.get(field) != self._head.get(field):
                return None
        pieces.append(text)
        return text

    @property
    def finished(self) -> bool:
        """True once every choice has said why it ended."""
        return bool(self._choices) and all(choice.finish_reason for choice in self._choices.values())

    @property
    def started(self) -> bool:
        return bool(self._choices)

    def object(self) -> dict[str, Any]:
        """The completion as far as it has come."""
        completion: dict[str, Any] = {**self._head, "object": "chat.completion"}
        completion["choices"] = [self._choices[index].object() for index in sorted(self._choices)]
        completion.setdefault("service_tier", None)
        completion.setdefault("system_fingerprint", None)
        if self.usage is not None:
            completion["usage"] = self.usage
        fill_in(completion)
        return completion
