"""Chat requests for OpenAI's /v1/responses: models that answer only there, tools that Chat Completions refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.catalogue import ModelInfo
from core.errors import FieldError
from core.providers import openai_reasoning
from core.providers.anthropic_native import ANTHROPIC_BLOCK
from core.providers.unknown_fields import TOOL_FIELDS, refuse_unknown, refuse_unknown_of_part

PATH = "/responses"

#: Chat's fields for which Responses has no word, with the values that ask for nothing
_INEXPRESSIBLE: dict[str, Any] = {
    "n": 1,
    "stop": [],
    "seed": None,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
    "logprobs": False,
    "top_logprobs": None,
    "prediction": None,
    "modalities": ["text"],
    "audio": None,
    "web_search_options": None,
    "moderation": None,
    "functions": None,
    "function_call": None,
}
#: fields that both have under the same name
_SAME = (
    "temperature",
    "top_p",
    "parallel_tool_calls",
    "metadata",
    "service_tier",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
)


def needed(params: Mapping[str, Any], model: ModelInfo) -> bool:
    """True if `params` must go to /v1/responses: the model answers nowhere else, or Chat would refuse its tools.

    That is what the model's record says of its endpoints and of tools (PROVIDERS.md 2.7). A caller who named no effort
    has his tools on Chat with effort `none` where the model takes that.
    """
    if "responses" not in model.endpoints:
        return False
    if "chat/completions" not in model.endpoints:
        return True
    effort = params.get("reasoning_effort")
    if not (params.get("tools") or params.get("functions")) or model.takes(model.chat_tools, effort):
        return False
    return effort is not None or not model.takes(model.chat_tools, "none")


def check(params: Mapping[str, Any], model: ModelInfo) -> list[FieldError]:
    """What of `params`, already valid, cannot be said to /v1/responses."""
    errors = [
        FieldError(f"/{field}", f"{model.id} is asked through /v1/responses, which has no {field}; leave it out")
        for field, neutral in _INEXPRESSIBLE.items()
        if (value := params.get(field)) is not None and value != neutral
    ]
    for index, tool in enumerate(params.get("tools") or ()):
        if tool["type"] != "function":
            message = f"{model.id} is asked through /v1/responses: only function tools are translated"
            errors.append(FieldError(f"/tools/{index}/type", message))
        else:
            refuse_unknown(tool, TOOL_FIELDS, f"/tools/{index}", model, errors)
    choice = params.get("tool_choice")
    if isinstance(choice, dict):
        if choice["type"] == "custom":
            message = f"{model.id} is asked through /v1/responses: only function tools are translated"
            errors.append(FieldError("/tool_choice/type", message))
        refuse_unknown(choice, frozenset({"type", choice["type"]}), "/tool_choice", model, errors)
    for at, message in enumerate(params["messages"]):
        errors += _check_message(message, f"/messages/{at}", model)
    return errors


def _check_message(message: Mapping[str, Any], pointer: str, model: ModelInfo) -> list[FieldError]:
    errors = []
    through = f"{model.id} is asked through /v1/responses, which has no"
    for field in ("name", "audio", "function_call"):
        if message.get(field) is not None:
            errors.append(FieldError(f"{pointer}/{field}", f"{through} {field} of a message; leave it out"))
    if message["role"] == "function":
        errors.append(FieldError(f"{pointer}/role", f"{through} role function; use tools"))
    content = message.get("content")
    for number, part in enumerate(content if isinstance(content, list) else ()):
        if part["type"] == "input_audio":
            errors.append(FieldError(f"{pointer}/content/{number}/type", f"{through} input_audio"))
        elif ANTHROPIC_BLOCK not in part:
            refuse_unknown_of_part(part, f"{pointer}/content/{number}", model, errors)
    for number, call in enumerate(message.get("tool_calls") or ()):
        if call["type"] != "function":
            errors.append(FieldError(f"{pointer}/tool_calls/{number}/type", "only function calls are translated"))
    return errors


def translate(chat: Mapping[str, Any], *, stream: bool) -> dict[str, Any]:
    """The Responses request for the body of a Chat request, checked and finished (PROVIDERS.md 2.9)."""
    body: dict[str, Any] = {"model": chat["model"]}
    instructions, rest = _instructions(chat["messages"])
    if instructions is not None:
        body["instructions"] = instructions
    body["input"] = [item for message in rest for item in _items(message, chat["model"])]
    for field in _SAME:
        if chat.get(field) is not None:
            body[field] = chat[field]
    # Responses keeps what it is asked unless told not to; Chat does not.
    body["store"] = bool(chat.get("store"))
    limit = chat.get("max_completion_tokens") or chat.get("max_tokens")
    if limit is not None:
        body["max_output_tokens"] = limit
    if chat.get("reasoning_effort") is not None:
        body["reasoning"] = {"effort": chat["reasoning_effort"]}
    text = _text(chat)
    if text:
        body["text"] = text
    if chat.get("tools"):
        body["tools"] = [_tool(tool["function"]) for tool in chat["tools"]]
        # What it thinks on the way to a call goes back with the result.
        body["include"] = ["reasoning.encrypted_content"]
    if chat.get("tool_choice") is not None:
        body["tool_choice"] = _choice(chat["tool_choice"])
    if stream:
        body["stream"] = True
    return body


def _instructions(messages: list[dict[str, Any]]) -> tuple[str | None, list[dict[str, Any]]]:
    """The leading system text, and the messages after it. A cache breakpoint keeps its message in its place."""
    texts: list[str] = []
    for at, message in enumerate(messages):
        content = message.get("content")
        parts: list[dict[str, Any]] = content if isinstance(content, list) else [{"type": "text", "text": content}]
        plain = message["role"] in ("system", "developer") and all(part.keys() == {"type", "text"} for part in parts)
        if not plain:
            return ("\n\n".join(texts) if texts else None), messages[at:]
        texts += [part["text"] for part in parts]
    return "\n\n".join(texts), []


def _items(message: dict[str, Any], model: str) -> list[dict[str, Any]]:
    """The input items of one message."""
    role, content = message["role"], message.get("content")
    if role == "tool":
        output = content if isinstance(content, str) else [_part(part, role) for part in content or ()]
        return [{"type": "function_call_output", "call_id": message["tool_call_id"], "output": output}]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
    if message.get("refusal"):
        parts.append({"type": "refusal", "refusal": message["refusal"]})
    items: list[dict[str, Any]] = []
    if parts:
        items.append({"type": "message", "role": role, "content": [_part(part, role) for part in parts]})
    for call in message.get("tool_calls") or ():
        called = call["function"]
        items.append(
            {
                "type": "function_call",
                "call_id": call["id"],
                "name": called["name"],
                "arguments": called["arguments"],
            }
        )
    if role == "assistant":
        openai_reasoning.put_back(items, message.get(openai_reasoning.FIELD), model)
    return items


def _part(part: Mapping[str, Any], role: str) -> dict[str, Any]:
    kind = part["type"]
    marked = {"prompt_cache_breakpoint": part["prompt_cache_breakpoint"]} if "prompt_cache_breakpoint" in part else {}
    if kind == "text":
        return {"type": "output_text" if role == "assistant" else "input_text", "text": part["text"], **marked}
    if kind == "image_url":
        image = part["image_url"]
        detail = {"detail": image["detail"]} if image.get("detail") else {}
        return {"type": "input_image", "image_url": image["url"], **detail, **marked}
    if kind == "file":
        return {"type": "input_file", **part["file"], **marked}
    return {"type": "refusal", "refusal": part["refusal"]}


def _text(chat: Mapping[str, Any]) -> dict[str, Any]:
    text: dict[str, Any] = {}
    wanted = chat.get("response_format")
    if wanted:
        text["format"] = {"type": wanted["type"], **wanted.get("json_schema", {})}
    if chat.get("verbosity") is not None:
        text["verbosity"] = chat["verbosity"]
    return text


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    # Both have to be there. Left out, strict is true at Responses and false at Chat.
    return {
        "type": "function",
        **function,
        "parameters": function.get("parameters"),
        "strict": bool(function.get("strict")),
    }


def _choice(choice: str | Mapping[str, Any]) -> str | dict[str, Any]:
    if isinstance(choice, str):
        return choice
    if choice["type"] == "function":
        return {"type": "function", "name": choice["function"]["name"]}
    allowed = choice["allowed_tools"]
    tools = [{"type": each["type"], "name": each[each["type"]]["name"]} for each in allowed["tools"]]
    return {"type": "allowed_tools", "mode": allowed["mode"], "tools": tools}
