"""OpenAI's chat completions: our own form of a request, so building is adjusting and parsing is checking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from core import catalogue
from core.catalogue import ModelInfo, Support
from core.errors import FieldError
from core.providers import openai_answer, openai_reasoning, openai_responses
from core.providers.anthropic_native import CLAUDE_OPTIONS
from core.providers.headers import openai_limits
from core.providers.model_list import parse_model_list
from core.providers.openai_responses_stream import ResponsesStream
from core.providers.streams import OpenAIStream, StreamTranslator, wants_usage
from core.providers.types import Failure, LimitReading, ProviderRequest, Success

PATH = "/chat/completions"
DEFAULT_TEMPERATURE = 0.7
#: how a model that has no is_error hears that a tool failed
ERROR_PREFIX = "Error: "
#: what one request may have at OpenAI; Anthropic takes more
MAX_STOPS = 4
MAX_TOOLS = 128
MAX_NAME_CHARS = 64

#: fields that only Claude has; accepted at the surface because a mapping may lead there
CLAUDE_FIELDS = ("thinking", "top_k", "cache_control", *CLAUDE_OPTIONS)
#: what our answers for Claude add to a message; bound to the model that made it, so another model does not get it
_CLAUDE_EXTRAS = frozenset(
    {
        "thinking_blocks",
        "reasoning_content",
        openai_reasoning.FIELD,
        "cache_control",
        "is_error",
        "anthropic",
        "anthropic_block",
    }
)

# Values that say what happens anyway: refused fields that hold them are left out instead of refused.
_SAMPLING_NEUTRAL: dict[str, Any] = {"temperature": 1, "top_p": 1, "logprobs": False, "top_logprobs": None}
_STOP_NEUTRAL: dict[str, Any] = {"stop": [], "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}}


class OpenAI:
    """The adapter for api.openai.com and its regional bases, whose URL ends in /v1 (PROVIDERS.md 1.1, 2.1 to 2.3)."""

    provider = "openai"

    def check(self, params: Mapping[str, Any], model: ModelInfo) -> list[FieldError]:
        """What this model cannot do of what `params` (already valid) asks, each naming the field and the model."""
        errors = [_refused(field, model) for field in CLAUDE_FIELDS if params.get(field) is not None]
        errors += only_for_claude(params)
        bridged = openai_responses.needed(params, model)
        if bridged:
            errors += openai_responses.check(params, model)
        errors += _over_limits(params, model)
        if not model.known:
            return errors
        effort = params.get("reasoning_effort")
        if effort is not None and effort in model.refused_efforts:
            what = f"reasoning_effort '{effort}'" if model.reasoning else "reasoning_effort"
            errors.append(FieldError("/reasoning_effort", f"{model.id} does not take {what}"))
        if effort is None and _has_tools(params) and model.chat_tools is Support.EFFORT_NONE:
            effort = "none"
        if not model.takes(model.sampling, effort):
            errors += _not_neutral(params, _SAMPLING_NEUTRAL, model, _sampling_hint(model))
        if not model.accepts_stop:
            errors += _not_neutral(params, _STOP_NEUTRAL, model, "")
            if params.get("prediction") is not None:
                errors.append(_refused("prediction", model))
        if not bridged and _has_tools(params) and not model.takes(model.chat_tools, effort):
            hint = " unless reasoning_effort is 'none'" if model.chat_tools is Support.EFFORT_NONE else ""
            errors.append(FieldError("/tools", f"{model.id} does not take tools on chat completions{hint}"))
        errors += over_output_limit(params, model)
        # Some fields are refused by the model and by the way to it: once is enough.
        return list({error.pointer: error for error in errors}.values()) if bridged else errors

    def build(self, params: Mapping[str, Any], model_id: str, *, stream: bool = False) -> ProviderRequest:
        """The call for `params`, valid and checked, to `model_id`."""
        model = catalogue.find(model_id, self.provider)
        body = dict(params)
        body["model"] = model_id
        effort = body.get("reasoning_effort")
        bridged = openai_responses.needed(params, model)
        if effort is None and not bridged and model.chat_tools is Support.EFFORT_NONE and _has_tools(body):
            # These models take tools only without reasoning; a caller who named no effort gets what works.
            effort = body["reasoning_effort"] = "none"
        if model.sampling is not Support.ALWAYS and not (model.known and model.takes(model.sampling, effort)):
            if model.known:
                _drop_neutral(body, _SAMPLING_NEUTRAL)
        elif "temperature" not in body:
            body["temperature"] = DEFAULT_TEMPERATURE
        if not model.accepts_stop:
            _drop_neutral(body, _STOP_NEUTRAL)
        if not model.accepts_max_tokens and "max_tokens" in body:
            limit = body.pop("max_tokens")
            if limit is not None:
                body["max_completion_tokens"] = limit
        finish_body(body, stream, keep=openai_reasoning.FIELD if bridged else None)
        if bridged:
            return _json_call(openai_responses.PATH, openai_responses.translate(body, stream=stream))
        if stream:
            body["stream_options"].setdefault("include_obfuscation", False)
        return _json_call(PATH, body)

    def credential_headers(self, api_key: str, organization: str | None = None) -> dict[str, str]:
        """The headers that carry the key. Keep them out of logs."""
        headers = {"authorization": f"Bearer {api_key}"}
        if organization:
            headers["openai-organization"] = organization
        return headers

    def parse(
        self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None
    ) -> Success | Failure:
        """The outcome of a call that did not stream. Never raises; `secret` is removed from a failure's message."""
        return openai_answer.parse(status, headers, body, secret=secret)

    def stream(self, params: Mapping[str, Any], model_id: str = "", *, secret: str | None = None) -> StreamTranslator:
        """A translator for one streamed answer of `model_id` to `params`."""
        if openai_responses.needed(params, catalogue.find(model_id, self.provider)):
            return ResponsesStream(include_usage=wants_usage(params), secret=secret)
        return OpenAIStream(include_usage=wants_usage(params), secret=secret)

    def list_models(self) -> ProviderRequest:
        """The call that lists models and, costing nothing, tests a key."""
        return ProviderRequest(method="GET", path="/models", body=b"")

    def parse_models(
        self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None
    ) -> list[str] | Failure:
        """The model ids in the answer to `list_models`. Never raises."""
        return parse_model_list(status, headers, body, secret=secret)

    def limits(self, headers: Mapping[str, str], *, now: float | None = None) -> list[LimitReading]:
        """What the headers of any answer say of the connection's limits."""
        return openai_limits(headers)


def _json_call(path: str, body: dict[str, Any]) -> ProviderRequest:
    return ProviderRequest(path=path, body=orjson.dumps(body), headers={"content-type": "application/json"})


def _refused(field: str, model: ModelInfo) -> FieldError:
    return FieldError(f"/{field}", f"{model.id} does not take {field}")


def _has_tools(params: Mapping[str, Any]) -> bool:
    return bool(params.get("tools") or params.get("functions"))


def _sampling_hint(model: ModelInfo) -> str:
    return " unless reasoning_effort is 'none'" if model.sampling is Support.EFFORT_NONE else ""


def _not_neutral(
    params: Mapping[str, Any], neutral: Mapping[str, Any], model: ModelInfo, hint: str
) -> list[FieldError]:
    return [
        FieldError(f"/{field}", f"{model.id} does not take {field}{hint}; leave it out")
        for field, default in neutral.items()
        if (value := params.get(field)) is not None and value != default
    ]


def _drop_neutral(body: dict[str, Any], neutral: Mapping[str, Any]) -> None:
    for field, default in neutral.items():
        if field in body and (body[field] is None or body[field] == default):
            del body[field]


def _over_limits(params: Mapping[str, Any], model: ModelInfo) -> list[FieldError]:
    """Errors for what is longer than OpenAI takes and other vendors do."""
    errors = []
    stop, tools = params.get("stop"), params.get("tools")
    if isinstance(stop, list) and len(stop) > MAX_STOPS:
        errors.append(FieldError("/stop", f"{model.id} takes at most {MAX_STOPS} stop sequences"))
    for index, tool in enumerate(tools or ()):
        if len(tool[tool["type"]]["name"]) > MAX_NAME_CHARS:
            message = f"{model.id} takes names of at most {MAX_NAME_CHARS} characters"
            errors.append(FieldError(f"/tools/{index}/{tool['type']}/name", message))
    if tools and len(tools) > MAX_TOOLS:
        errors.append(FieldError("/tools", f"{model.id} takes at most {MAX_TOOLS} tools"))
    for field in ("max_tokens", "max_completion_tokens"):
        if params.get(field) == 0:
            errors.append(FieldError(f"/{field}", f"{model.id} takes {field} of at least 1"))
    return errors


def over_output_limit(params: Mapping[str, Any], model: ModelInfo) -> list[FieldError]:
    """An error if the caller asks for longer answers than the model gives."""
    most = model.max_output_tokens
    if most is None or not model.known:
        return []
    return [
        FieldError(f"/{field}", f"{model.id} gives at most {most} output tokens; {field} is {params[field]}")
        for field in ("max_completion_tokens", "max_tokens")
        if (params.get(field) or 0) > most
    ]


def finish_body(body: dict[str, Any], stream: bool, *, keep: str | None = None) -> None:
    """What both OpenAI and compatible servers need: no nulls where servers differ, the stream switch, own messages.

    `keep`: the field of messages in which earlier reasoning goes back to whom it came from; Claude's does not.
    """
    if body.get("temperature", 0) is None:
        # An explicit null asks for the provider's own default.
        del body["temperature"]
    if stream:
        body["stream"] = True
        # Usage is always asked for, since it is what a completion costs; the translator withholds it if unasked.
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    else:
        body.pop("stream", None)
        body.pop("stream_options", None)
    if any(_has_extras(message) for message in body["messages"]):
        body["messages"] = [_without_extras(message, keep) for message in body["messages"]]
    if body.get("thinking", 0) is None:
        del body["thinking"]
    if any("cache_control" in tool for tool in body.get("tools") or ()):
        body["tools"] = [_bare(tool) for tool in body["tools"]]


def _has_extras(message: Mapping[str, Any]) -> bool:
    if not _CLAUDE_EXTRAS.isdisjoint(message):
        return True
    content, calls = message.get("content"), message.get("tool_calls")
    return (isinstance(content, list) and any(not _CLAUDE_EXTRAS.isdisjoint(part) for part in content)) or (
        bool(calls) and any(not _CLAUDE_EXTRAS.isdisjoint(call) for call in calls or ())
    )


def _without_extras(message: Mapping[str, Any], keep: str | None) -> dict[str, Any]:
    """A message without what only Claude understands."""
    found = _bare(message)
    if keep is not None and keep in message and not message.get("thinking_blocks"):
        found[keep] = message[keep]
    for field in ("content", "tool_calls"):
        if isinstance(found.get(field), list):
            found[field] = [_bare(part) for part in found[field]]
    if message.get("is_error") and message.get("role") == "tool":
        found["content"] = _as_error(found.get("content") or "")
    return found


def _as_error(content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """The content of a tool's result that is marked as an error, which other vendors' models are told in words."""
    if isinstance(content, str):
        return ERROR_PREFIX + content
    first = content[0]
    if first.get("type") != "text":
        return [{"type": "text", "text": ERROR_PREFIX.rstrip()}, *content]
    return [{**first, "text": ERROR_PREFIX + first["text"]}, *content[1:]]


def _bare(each: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in each.items() if key not in _CLAUDE_EXTRAS}


def only_for_claude(params: Mapping[str, Any]) -> list[FieldError]:
    """An error for each content part that exists in Anthropic's form only."""
    return [
        FieldError(f"/messages/{at}/content/{number}", "this block exists for Claude models only")
        for at, message in enumerate(params["messages"])
        if isinstance(message.get("content"), list)
        for number, part in enumerate(message["content"])
        if "anthropic_block" in part
    ]
