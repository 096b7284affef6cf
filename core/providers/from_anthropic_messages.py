"""A conversation of Anthropic's turns and blocks as OpenAI's messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import FieldError
from core.providers import openai_reasoning
from core.providers.anthropic_native import ANTHROPIC_BLOCK
from core.providers.from_anthropic_blocks import (
    Block,
    cites,
    file_of,
    image_url,
    plain_call,
    texts_only,
    tool_call,
    unsigned,
    wrong_with,
)

_REQUIRED = "Field required"
_THOUGHTS = frozenset({"thinking", "redacted_thinking"})
#: the order in which OpenAI's form of an assistant message keeps its blocks
_PHASES = {"thinking": 0, "redacted_thinking": 0, "text": 1, "tool_use": 2}
_SEE_BELOW = "(see the images below)"


def translate_conversation(
    body: Mapping[str, Any], origins: list[str], errors: list[FieldError], *, to_claude: bool
) -> list[dict[str, Any]]:
    """OpenAI's messages for `system` and `messages`; `origins` gets for each the pointer it came from."""
    conversation = _Conversation(origins, errors, to_claude, str(body.get("model"))[:64])
    system = body.get("system")
    if system:
        conversation.add_system(system)
    turns = body.get("messages")
    if not isinstance(turns, list):
        errors.append(FieldError("/messages", _REQUIRED if turns is None else "Input should be a valid list"))
    elif not turns:
        errors.append(FieldError("/messages", "at least one message is required"))
    else:
        for index, turn in enumerate(turns):
            conversation.add_turn(turn, f"/messages/{index}")
    return conversation.messages


class _Conversation:
    """The messages as far as they have come."""

    def __init__(self, origins: list[str], errors: list[FieldError], to_claude: bool, model: str) -> None:
        self.messages: list[dict[str, Any]] = []
        self._origins = origins
        self._errors = errors
        self._to_claude = to_claude
        #: as refusals name it
        self._model = model
        #: the turn that is being read
        self._pointer = ""

    def add_system(self, system: Any) -> None:
        self._pointer = "/system"
        if isinstance(system, str):
            self._add({"role": "system", "content": system})
        elif blocks := self._blocks(system, "/system"):
            self._add({"role": "system", "content": self._spoken(blocks, "/system")})

    def add_turn(self, turn: Any, pointer: str) -> None:
        self._pointer = pointer
        role = turn.get("role") if isinstance(turn, dict) else None
        if role not in ("user", "assistant", "system"):
            self._errors.append(FieldError(f"{pointer}/role", "Input should be 'user', 'assistant' or 'system'"))
            return
        for field in turn.keys() - {"role", "content"}:
            self._errors.append(FieldError(f"{pointer}/{field[:64]}", "Extra inputs are not permitted"))
        content = turn.get("content")
        at = f"{pointer}/content"
        if isinstance(content, str):
            self._add({"role": role, "content": content})
            return
        blocks = self._blocks(content, at)
        if blocks is None:
            return
        if not blocks:
            self._add({"role": role, "content": ""})
        elif role == "user":
            self._user(blocks, at)
        elif role == "assistant":
            self._assistant(blocks, at)
        else:
            self._add({"role": role, "content": self._spoken(blocks, at)})

    def _add(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        self._origins.append(self._pointer)

    def _blocks(self, content: Any, pointer: str) -> list[Block] | None:
        """The content's blocks, each an object with a type; None if they are not."""
        if not isinstance(content, list):
            message = _REQUIRED if content is None else "Input should be a valid string or a list of content blocks"
            self._errors.append(FieldError(pointer, message))
            return None
        sound = True
        for number, block in enumerate(content):
            wrong = wrong_with(block)
            if wrong is not None:
                sound = False
                self._errors.append(FieldError(f"{pointer}/{number}{wrong}", _REQUIRED))
        return content if sound else None

    # Turns of the user.

    def _user(self, blocks: list[Block], pointer: str) -> None:
        """Results of tools, which come first, as messages of their own; then the rest."""
        results = [block for block in blocks if block["type"] == "tool_result"]
        if self._to_claude and blocks[: len(results)] != results:
            # Claude judges the order itself.
            self._add({"role": "user", "content": [self._part(block, pointer) for block in blocks]})
            return
        seen: list[Block] = []
        for block in results:
            self._result(block, pointer, seen)
        parts = [
            part
            for number, block in enumerate(blocks)
            if block["type"] != "tool_result"
            for part in self._parts(block, f"{pointer}/{number}")
        ]
        parts = seen + parts
        if parts:
            self._add({"role": "user", "content": self._simplest(parts)})

    def _result(self, block: Block, pointer: str, seen: list[Block]) -> None:
        """A tool's result; images of one for OpenAI's models go to `seen`, the user's message that follows."""
        content = block.get("content")
        message: dict[str, Any] = {"role": "tool", "tool_call_id": block["tool_use_id"], "content": ""}
        if isinstance(content, str):
            message["content"] = content
        elif content:
            inner = self._blocks(content, pointer)
            if inner is None:
                return
            if self._to_claude:
                message["content"] = [texts_only(self._part(each, pointer), each) for each in inner]
            else:
                message["content"] = self._result_text(block, inner, pointer, seen)
        if self._to_claude:
            for field in ("is_error", "cache_control"):
                if block.get(field) is not None:
                    message[field] = block[field]
            extra = block.keys() - {"type", "tool_use_id", "content", "is_error", "cache_control"}
            if extra or content is None or content == []:
                message[ANTHROPIC_BLOCK] = block
        elif block.get("is_error"):
            message["content"] = f"Error: {message['content']}"
        self._add(message)

    def _result_text(self, block: Block, inner: list[Block], pointer: str, seen: list[Block]) -> str:
        texts: list[str] = []
        images: list[Block] = []
        for each in inner:
            for part in self._parts(each, pointer):
                if part["type"] == "text":
                    texts.append(part["text"])
                else:
                    images.append(part)
        if images:
            seen += [{"type": "text", "text": f"From the result of {block['tool_use_id']}:"}, *images]
        return "\n".join(texts) or (_SEE_BELOW if images else "")

    def _parts(self, block: Block, pointer: str) -> list[Block]:
        if self._to_claude:
            return [self._part(block, pointer)]
        return self._plain_parts(block, pointer)

    def _part(self, block: Block, pointer: str) -> Block:
        """The part for Claude, which carries the block itself where OpenAI's form does not say all of it."""
        kind, part = block["type"], None
        known = {"type", "cache_control"}
        if kind == "text":
            part, known = {"type": "text", "text": block["text"]}, known | {"text"}
            if not block["text"]:
                known = set()
        elif kind == "image" and (url := image_url(block["source"])):
            part, known = {"type": "image_url", "image_url": {"url": url}}, known | {"source"}
        elif kind == "document" and (file := file_of(block)):
            part, known = {"type": "file", "file": file}, known | {"source", "title"}
        if part is None:
            if kind == "document":
                return {"type": "file", "file": {"file_data": ""}, ANTHROPIC_BLOCK: block}
            return {"type": "text", "text": "", ANTHROPIC_BLOCK: block}
        if any(value is not None for field, value in block.items() if field not in known):
            return {**part, ANTHROPIC_BLOCK: block}
        if block.get("cache_control") is not None:
            part["cache_control"] = block["cache_control"]
        return part

    def _plain_parts(self, block: Block, pointer: str) -> list[Block]:
        """The parts for OpenAI's models, without hints; what they cannot be given is refused."""
        kind = block["type"]
        if kind == "text":
            return [{"type": "text", "text": block["text"]}] if block["text"] else []
        if kind == "image" and (url := image_url(block["source"])):
            return [{"type": "image_url", "image_url": {"url": url}}]
        if kind == "document" and not cites(block):
            texts = [block[field] for field in ("title", "context") if isinstance(block.get(field), str)]
            source = block["source"]
            if source.get("type") == "text" and isinstance(source.get("data"), str):
                return [{"type": "text", "text": "\n".join([*texts, source["data"]])}]
            if file := file_of(block):
                file.setdefault("filename", "document.pdf")
                context = block.get("context")
                about = [{"type": "text", "text": context}] if isinstance(context, str) and context else []
                return [*about, {"type": "file", "file": file}]
        self._errors.append(FieldError(f"{pointer}/type", f"{self._model} does not take this {kind[:64]} block"))
        return []

    def _simplest(self, parts: list[Block]) -> str | list[Block]:
        if not self._to_claude and all(part["type"] == "text" for part in parts) and len(parts) == 1:
            text: str = parts[0]["text"]
            return text
        return parts

    # What the assistant said, and system prompts.

    def _spoken(self, blocks: list[Block], pointer: str) -> str | list[Block]:
        if self._to_claude:
            return [texts_only(self._part(block, pointer), block) for block in blocks]
        texts = []
        for number, block in enumerate(blocks):
            if block["type"] == "text":
                texts.append(block["text"])
            elif block["type"] not in _THOUGHTS and block["type"] != "tool_use":
                message = f"{self._model} does not take this {block['type'][:64]} block"
                self._errors.append(FieldError(f"{pointer}/{number}/type", message))
        return ("\n\n" if pointer == "/system" else "").join(texts)

    def _assistant(self, blocks: list[Block], pointer: str) -> None:
        if self._to_claude:
            # What another vendor's model thought, Claude would refuse.
            blocks = [block for block in blocks if not openai_reasoning.is_block(block) and not unsigned(block)]
        phases = [_PHASES.get(block["type"], -1) for block in blocks]
        if self._to_claude and (-1 in phases or phases != sorted(phases) or not all(map(plain_call, blocks))):
            self._add({"role": "assistant", "content": self._spoken(blocks, pointer)})
            return
        texts = [block for block in blocks if block["type"] not in _THOUGHTS and block["type"] != "tool_use"]
        message: dict[str, Any] = {"role": "assistant", "content": self._spoken(texts, pointer) or None}
        thoughts = [block for block in blocks if block["type"] in _THOUGHTS]
        if thoughts and self._to_claude:
            message["thinking_blocks"] = thoughts
        elif reasoning := "".join(block["thinking"] for block in thoughts if unsigned(block)):
            # A compatible server's, which some of them want back.
            message["reasoning_content"] = reasoning
        if entries := [entry for block in thoughts if (entry := openai_reasoning.entry_of(block))]:
            message[openai_reasoning.FIELD] = entries
        calls = [tool_call(block, self._to_claude) for block in blocks if block["type"] == "tool_use"]
        if calls:
            message["tool_calls"] = calls
        elif message["content"] is None and not message.get("thinking_blocks"):
            # Thinking alone, which another model is not told.
            message["content"] = ""
        self._add(message)
