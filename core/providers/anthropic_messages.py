"""A conversation from OpenAI's messages into Anthropic's turns of content blocks."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from core.catalogue import ModelInfo
from core.errors import FieldError
from core.providers.anthropic_native import ANTHROPIC_BLOCK, native_block
from core.providers.unknown_fields import refuse_unknown_of_part

Block = dict[str, Any]

_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_FOREIGN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_FIELDS = frozenset({"role", "content", "tool_calls", "tool_call_id", "thinking_blocks"})
#: what an assistant message echoes from an earlier answer without a meaning for the next one
_ECHOES = frozenset({"annotations", "reasoning_content", "reasoning_items", "refusal"})
#: what Claude's form has beyond OpenAI's on the result of a tool
_OF_RESULTS = frozenset({"is_error", "cache_control", ANTHROPIC_BLOCK})


def translate_messages(
    given: Sequence[Mapping[str, Any]], model: ModelInfo, errors: list[FieldError]
) -> tuple[list[Block], list[dict[str, Any]]]:
    """The system blocks and the turns of a conversation (PROVIDERS.md 2.2, 2.4 and 2.6).

    Neighbours of one role become one turn, with tool results ahead of text. What Claude cannot be told is added to
    `errors`.
    """
    system: list[Block] = []
    turns: list[dict[str, Any]] = []
    for index, message in enumerate(given):
        if not message.keys() <= _FIELDS:
            _refuse_fields(message, f"/messages/{index}", model, errors)
        role, content = message["role"], message.get("content")
        if role == "user":
            _add(turns, "user", content if isinstance(content, str) else _parts(content, index, model, errors))
        elif role == "assistant":
            _add(turns, "assistant", _assistant(message, index, model, errors))
        elif role == "tool":
            _add_result(turns, message, index, model, errors)
        elif role == "function":
            errors.append(FieldError(f"/messages/{index}/role", f"{model.id} takes tool results as role 'tool'"))
        elif not turns:
            system += _texts(content, index, model, errors)
        elif model.mid_conversation_system:
            _add(turns, "system", _texts(content, index, model, errors))
        else:
            _add(turns, "user", _texts(content, index, model, errors))
    if not turns:
        errors.append(FieldError("/messages", f"{model.id} needs a message with role 'user'"))
    elif turns[-1]["role"] == "assistant" and not model.assistant_prefill:
        pointer = f"/messages/{len(given) - 1}"
        errors.append(
            FieldError(pointer, f"{model.id} does not continue an assistant message; end with a user message")
        )
    return system, turns


def _refuse_fields(message: Mapping[str, Any], pointer: str, model: ModelInfo, errors: list[FieldError]) -> None:
    for field, value in message.items():
        if field in _FIELDS or value is None or (field in _ECHOES and message["role"] == "assistant"):
            continue
        if field in _OF_RESULTS and message["role"] == "tool":
            continue
        shown = field[:64].replace("~", "~0").replace("/", "~1")
        errors.append(FieldError(f"{pointer}/{shown}", f"{model.id} does not take {field[:64]} on a message"))


def _add(turns: list[dict[str, Any]], role: str, content: str | list[Block]) -> None:
    """Append to the conversation, joining neighbours of one role; an empty assistant message says nothing."""
    if not content and role != "user":
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] = _blocks(turns[-1]["content"]) + _blocks(content)
    else:
        turns.append({"role": role, "content": content})


def _blocks(content: str | list[Block]) -> list[Block]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content


def _add_result(
    turns: list[dict[str, Any]], message: Mapping[str, Any], index: int, model: ModelInfo, errors: list[FieldError]
) -> None:
    """A tool's result: into the user turn that answers the calls, behind earlier results and before any text."""
    result = native_block(message)
    if result is None:
        content = message.get("content")
        if not isinstance(content, str):
            content = _texts(content, index, model, errors)
        result = {"type": "tool_result", "tool_use_id": _tool_id(message["tool_call_id"]), "content": content}
        for field in ("is_error", "cache_control"):
            if message.get(field) is not None:
                result[field] = message[field]
    if not turns or turns[-1]["role"] != "user":
        turns.append({"role": "user", "content": [result]})
        return
    blocks = _blocks(turns[-1]["content"])
    place = sum(1 for block in blocks if block.get("type") == "tool_result")
    turns[-1]["content"] = [*blocks[:place], result, *blocks[place:]]


def _tool_id(given: str) -> str:
    """Ids of other vendors' calls, in Anthropic's alphabet; call and result are changed alike."""
    return _FOREIGN_ID.sub("_", given)


def _assistant(message: Mapping[str, Any], index: int, model: ModelInfo, errors: list[FieldError]) -> str | list[Block]:
    content, calls = message.get("content"), message.get("tool_calls")
    if not content:
        content = message.get("refusal") or ""
    thoughts = [_signed(block) for block in message.get("thinking_blocks") or () if not _foreign(block)]
    if isinstance(content, str) and not calls and not thoughts:
        return content
    blocks: list[Block] = thoughts
    blocks += _blocks(content) if isinstance(content, str) else _texts(content, index, model, errors)
    for number, call in enumerate(calls or ()):
        pointer = f"/messages/{index}/tool_calls/{number}"
        if call["type"] != "function":
            errors.append(FieldError(f"{pointer}/type", f"{model.id} does not take calls of custom tools"))
            continue
        arguments = _arguments(call["function"].get("arguments"))
        if arguments is None:
            message_text = f"{model.id} takes arguments only as a JSON object; this is not one"
            errors.append(FieldError(f"{pointer}/function/arguments", message_text))
            continue
        use = {
            "type": "tool_use",
            "id": _tool_id(call["id"]),
            "name": call["function"]["name"],
            "input": arguments,
        }
        blocks.append(_cached(use, call))
    return blocks


def _foreign(block: Block) -> bool:
    """Whether another vendor's model thought this: Claude signs whatever it thinks, and refuses the rest."""
    return block.get("type") == "thinking" and not block.get("signature")


def _signed(block: Block) -> Block:
    """A block without its place in a stream, which OpenAI's package keeps."""
    return {field: value for field, value in block.items() if field != "index"} if "index" in block else block


def _arguments(text: object) -> dict[str, Any] | None:
    """The object in a call's `arguments` string; empty text is an empty object. None if it holds none."""
    if not isinstance(text, str) or not text.strip():
        return {}
    try:
        found = orjson.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _texts(content: Any, index: int, model: ModelInfo, errors: list[FieldError]) -> list[Block]:
    """Text blocks of a system, assistant or tool message; empty text is left out, which Anthropic refuses."""
    if isinstance(content, str):
        return _blocks(content)
    found = []
    for number, part in enumerate(content or ()):
        kind = part["type"]
        native = native_block(part)
        if native is not None:
            found.append(native)
            continue
        text = part.get(kind) if kind in ("text", "refusal") else None
        if text is None:
            _refuse_part(index, number, kind, model, errors)
            continue
        refuse_unknown_of_part(part, f"/messages/{index}/content/{number}", model, errors)
        if text:
            found.append(_cached({"type": "text", "text": text}, part))
    return found


def _parts(content: Any, index: int, model: ModelInfo, errors: list[FieldError]) -> list[Block]:
    """Content blocks of a user message's parts."""
    found = []
    for number, part in enumerate(content or ()):
        kind = part["type"]
        native = native_block(part)
        if native is not None:
            found.append(native)
            continue
        if kind in ("text", "image_url", "file"):
            refuse_unknown_of_part(part, f"/messages/{index}/content/{number}", model, errors)
        if kind == "text":
            if part["text"]:
                found.append(_cached({"type": "text", "text": part["text"]}, part))
        elif kind == "image_url":
            source = _image_source(part["image_url"]["url"])
            if isinstance(source, str):
                pointer = f"/messages/{index}/content/{number}/image_url/url"
                errors.append(FieldError(pointer, f"{model.id} {source}"))
            else:
                found.append(_cached({"type": "image", "source": source}, part))
        elif kind == "file":
            block = _document(part["file"])
            if isinstance(block, str):
                errors.append(FieldError(f"/messages/{index}/content/{number}/file", f"{model.id} {block}"))
            else:
                found.append(_cached(block, part))
        else:
            _refuse_part(index, number, kind, model, errors)
    return found


def _refuse_part(index: int, number: int, kind: str, model: ModelInfo, errors: list[FieldError]) -> None:
    pointer = f"/messages/{index}/content/{number}/type"
    errors.append(FieldError(pointer, f"{model.id} does not take content parts of type '{kind[:64]}' here"))


def _cached(block: Block, part: Mapping[str, Any]) -> Block:
    """`block` with the part's cache breakpoint, in Anthropic's spelling or OpenAI's."""
    control = part.get("cache_control")
    if control is None and part.get("prompt_cache_breakpoint") is not None:
        longer = part["prompt_cache_breakpoint"].get("ttl")
        control = {"type": "ephemeral", "ttl": "1h"} if longer else {"type": "ephemeral"}
    if control is not None:
        block["cache_control"] = control
    return block


def _image_source(url: str) -> dict[str, str] | str:
    """The source of an image block, or what is wrong with the URL."""
    if url.startswith(("https://", "http://")):
        return {"type": "url", "url": url}
    media_type, data = _data_url(url)
    if media_type == "image/jpg":
        media_type = "image/jpeg"
    if media_type not in _IMAGE_TYPES:
        return "takes images as https or base64 data URLs of type jpeg, png, gif or webp"
    return {"type": "base64", "media_type": media_type, "data": data}


def _data_url(url: str) -> tuple[str, str]:
    """Media type and base64 text of a data URL; empty strings if it is not one."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return "", ""
    return head[5:].split(";")[0].lower(), data


def _document(file: Mapping[str, Any]) -> Block | str:
    """A document block for a file part, or what is wrong with it."""
    title = {"title": file["filename"]} if file.get("filename") else {}
    file_id = file.get("file_id")
    if file_id is not None:
        if not file_id.startswith("file_"):
            return "does not know files that were uploaded to OpenAI; send file_data"
        return {"type": "document", "source": {"type": "file", "file_id": file_id}, **title}
    media_type, data = _data_url(file.get("file_data") or "")
    if media_type == "application/pdf":
        return {"type": "document", "source": {"type": "base64", "media_type": media_type, "data": data}, **title}
    if media_type == "text/plain":
        try:
            text = base64.b64decode(data, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return "takes text files as base64 of UTF-8"
        return {"type": "document", "source": {"type": "text", "media_type": media_type, "data": text}, **title}
    return "takes files as base64 data URLs of type application/pdf or text/plain"
