"""The parameters of a completion request: checked by hand, every error at once, some microseconds a row."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from core.errors import FieldError
from core.params.messages import MAX_ERRORS, NAME_RULE, check_messages, escape, is_name
from core.params.tools import check_function_call, check_functions, check_tool_choice, check_tools

__all__ = ["FIELDS", "MAX_ERRORS", "check_model", "validate"]

#: the longest model name; it is stored and indexed
MAX_MODEL_CHARS = 256
#: more than anybody takes; OpenAI's own limit is in its adapter
MAX_STOPS = 1000

#: the field of an MCP server that holds its secret
MCP_TOKEN = "authorization_token"

Check = Callable[[Any, list[FieldError]], None]


def validate(params: object, *, open_fields: bool = False) -> list[FieldError]:
    """Everything wrong with `params`, a decoded JSON value, as JSON pointers with messages; empty if nothing is.

    Fields and ranges are those of OpenAI's chat completions (PROVIDERS.md 2.1, 2.2), null meaning absent. A field
    that nobody knows is an error, since a misspelt one would otherwise be ignored without a word. `open_fields` is
    for openai_compatible servers: they take fields of their own, so only what every server shares is checked.
    At most MAX_ERRORS errors are listed. Never raises on a decoded JSON value.
    """
    if not isinstance(params, dict):
        return [FieldError("", "must be a JSON object")]
    errors: list[FieldError] = []
    checks = _OPEN_CHECKS if open_fields else _CHECKS
    for field, value in params.items():
        check = checks.get(field)
        if check is not None:
            if value is not None:
                check(value, errors)
        elif not open_fields:
            errors.append(FieldError("/" + escape(field), _unknown(field)))
        if len(errors) >= MAX_ERRORS:
            return errors[:MAX_ERRORS]
    if params.get("model") is None:
        errors.append(FieldError("/model", "is required: the name of a model, such as gpt-4o"))
    messages = params.get("messages")
    if messages is None:
        errors.append(FieldError("/messages", "is required: a list of messages with role and content"))
    elif isinstance(messages, list):
        check_messages(messages, errors, open_fields=open_fields)
    else:
        errors.append(FieldError("/messages", "must be a list of messages"))
    if len(params) > 2:
        _check_together(params, errors)
    return errors[:MAX_ERRORS]


def _check_together(params: Mapping[str, Any], errors: list[FieldError]) -> None:
    """Fields that need or exclude each other."""
    if params.get("max_tokens") is not None and params.get("max_completion_tokens") is not None:
        errors.append(FieldError("/max_tokens", "give either max_tokens or max_completion_tokens"))
    if params.get("stream_options") is not None and params.get("stream") is not True:
        errors.append(FieldError("/stream_options", "is only allowed with stream: true"))
    if params.get("top_logprobs") is not None and params.get("logprobs") is not True:
        errors.append(FieldError("/top_logprobs", "needs logprobs: true"))
    if not params.get("tools"):
        for field in ("tool_choice", "parallel_tool_calls"):
            if params.get(field) is not None:
                errors.append(FieldError(f"/{field}", "is only allowed with tools"))


def _unknown(field: str) -> str:
    if len(field) <= 64:
        near = difflib.get_close_matches(field, FIELDS, n=1, cutoff=0.75)
        if near:
            return f"is not a known field; did you mean {near[0]}?"
    return "is not a known field"


# Checks of single fields; each is called with a value that is not null.


def check_model(value: Any, errors: list[FieldError]) -> None:
    """Add what is wrong with the name of a model, of a completion or of embeddings."""
    if type(value) is not str or not value:
        errors.append(FieldError("/model", "must be the name of a model"))
    elif len(value) > MAX_MODEL_CHARS:
        errors.append(FieldError("/model", f"must have at most {MAX_MODEL_CHARS} characters"))
    elif not value.isprintable() or value.isspace():
        errors.append(FieldError("/model", "must not contain control characters"))


def _checked_later(value: Any, errors: list[FieldError]) -> None:
    """Messages are checked apart, after the single fields."""


def _number(field: str, low: float, high: float) -> Check:
    def check(value: Any, errors: list[FieldError]) -> None:
        if (type(value) is not float and type(value) is not int) or not low <= value <= high:
            errors.append(FieldError(f"/{field}", f"must be a number from {low:g} to {high:g}"))

    return check


def _integer(field: str, low: int, high: int = 2**31 - 1) -> Check:
    limits = f"from {low} to {high}"

    def check(value: Any, errors: list[FieldError]) -> None:
        if type(value) is not int or not low <= value <= high:
            errors.append(FieldError(f"/{field}", f"must be an integer {limits}"))

    return check


def _boolean(field: str) -> Check:
    def check(value: Any, errors: list[FieldError]) -> None:
        if type(value) is not bool:
            errors.append(FieldError(f"/{field}", "must be true or false"))

    return check


def _text(field: str, longest: int | None = None) -> Check:
    def check(value: Any, errors: list[FieldError]) -> None:
        if type(value) is not str:
            errors.append(FieldError(f"/{field}", "must be a string"))
        elif longest is not None and len(value) > longest:
            errors.append(FieldError(f"/{field}", f"must have at most {longest} characters"))

    return check


def _one_of(field: str, *allowed: str) -> Check:
    names = ", ".join(allowed)

    def check(value: Any, errors: list[FieldError]) -> None:
        if type(value) is not str or value not in allowed:
            errors.append(FieldError(f"/{field}", f"must be one of {names}"))

    return check


def _object(field: str) -> Check:
    def check(value: Any, errors: list[FieldError]) -> None:
        if type(value) is not dict:
            errors.append(FieldError(f"/{field}", "must be an object"))

    return check


def _text_or_object(field: str) -> Check:
    def check(value: Any, errors: list[FieldError]) -> None:
        if type(value) is not str and type(value) is not dict:
            errors.append(FieldError(f"/{field}", "must be a string or an object"))

    return check


def _stop(value: Any, errors: list[FieldError]) -> None:
    if type(value) is str:
        return
    if type(value) is not list or len(value) > MAX_STOPS or not all(type(each) is str for each in value):
        errors.append(FieldError("/stop", f"must be a string or a list of at most {MAX_STOPS} strings"))


def _logit_bias(value: Any, errors: list[FieldError]) -> None:
    if type(value) is not dict:
        errors.append(FieldError("/logit_bias", "must be an object of token ids"))
        return
    for token, bias in value.items():
        if type(bias) not in (int, float) or not -100 <= bias <= 100:
            errors.append(FieldError(f"/logit_bias/{escape(token)}", "must be a number from -100 to 100"))
            if len(errors) >= MAX_ERRORS:
                return


def _metadata(value: Any, errors: list[FieldError]) -> None:
    if type(value) is not dict or len(value) > 16:
        errors.append(FieldError("/metadata", "must be an object of at most 16 pairs"))
        return
    for key, text in value.items():
        if len(key) > 64 or type(text) is not str or len(text) > 512:
            message = "must be a string of at most 512 characters under a key of at most 64"
            errors.append(FieldError(f"/metadata/{escape(key)}", message))


def _modalities(value: Any, errors: list[FieldError]) -> None:
    if type(value) is not list or not value or any(each not in ("text", "audio") for each in value):
        errors.append(FieldError("/modalities", "must be a list of text and audio"))


def _stream_options(value: Any, errors: list[FieldError]) -> None:
    if type(value) is not dict:
        errors.append(FieldError("/stream_options", "must be an object"))
        return
    for key, flag in value.items():
        if key not in ("include_usage", "include_obfuscation"):
            errors.append(FieldError(f"/stream_options/{escape(key)}", "is not a known field"))
        elif flag is not None and type(flag) is not bool:
            errors.append(FieldError(f"/stream_options/{key}", "must be true or false"))
        if len(errors) >= MAX_ERRORS:
            return


def _response_format(value: Any, errors: list[FieldError]) -> None:
    kind = value.get("type") if type(value) is dict else None
    if type(kind) is not str or kind not in ("text", "json_object", "json_schema"):
        errors.append(FieldError("/response_format", "must be an object with type text, json_object or json_schema"))
        return
    if kind != "json_schema":
        return
    form = value.get("json_schema")
    if type(form) is not dict:
        errors.append(FieldError("/response_format/json_schema", "is required: an object with name and schema"))
        return
    if not is_name(form.get("name")):
        errors.append(FieldError("/response_format/json_schema/name", NAME_RULE))
    if type(form.get("schema")) is not dict:
        errors.append(FieldError("/response_format/json_schema/schema", "must be a JSON schema"))


def _thinking(value: Any, errors: list[FieldError]) -> None:
    if type(value) is not dict or type(value.get("type")) is not str:
        errors.append(FieldError("/thinking", "must be an object with a type, such as adaptive or disabled"))


def _prompt_cache_options(value: Any, errors: list[FieldError]) -> None:
    if type(value) is not dict or value.get("mode") not in ("implicit", "explicit", None):
        errors.append(FieldError("/prompt_cache_options", "must be an object with mode implicit or explicit"))


def _mcp_servers(value: Any, errors: list[FieldError]) -> None:
    if type(value) is not list or not all(type(server) is dict for server in value):
        errors.append(FieldError("/mcp_servers", "must be a list of servers"))
        return
    for index, server in enumerate(value):
        if server.get(MCP_TOKEN) is not None:
            message = "is not taken here, for it would be in the log; POST /v1/messages takes it"
            errors.append(FieldError(f"/mcp_servers/{index}/{MCP_TOKEN}", message))
        if len(errors) >= MAX_ERRORS:
            return


_SHARED: dict[str, Check] = {
    "model": check_model,
    "messages": _checked_later,
    "temperature": _number("temperature", 0, 2),
    "top_p": _number("top_p", 0, 1),
    # Claude takes 0, which only warms its prompt cache
    "max_tokens": _integer("max_tokens", 0),
    "max_completion_tokens": _integer("max_completion_tokens", 1),
    "n": _integer("n", 1, 128),
    "stream": _boolean("stream"),
    "stream_options": _stream_options,
}
_CHECKS: dict[str, Check] = {
    **_SHARED,
    "stop": _stop,
    "seed": _integer("seed", -(2**63), 2**63 - 1),
    "frequency_penalty": _number("frequency_penalty", -2, 2),
    "presence_penalty": _number("presence_penalty", -2, 2),
    "logit_bias": _logit_bias,
    "logprobs": _boolean("logprobs"),
    "top_logprobs": _integer("top_logprobs", 0, 20),
    "reasoning_effort": _one_of("reasoning_effort", "none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "verbosity": _one_of("verbosity", "low", "medium", "high"),
    "response_format": _response_format,
    "tools": check_tools,
    "tool_choice": check_tool_choice,
    "parallel_tool_calls": _boolean("parallel_tool_calls"),
    "functions": check_functions,
    "function_call": check_function_call,
    "metadata": _metadata,
    "store": _boolean("store"),
    "service_tier": _one_of("service_tier", "auto", "default", "flex", "scale", "priority", "fast"),
    "user": _text("user"),
    "safety_identifier": _text("safety_identifier", 128),
    "prompt_cache_key": _text("prompt_cache_key"),
    "prompt_cache_options": _prompt_cache_options,
    "prompt_cache_retention": _one_of("prompt_cache_retention", "in_memory", "24h"),
    "modalities": _modalities,
    "audio": _object("audio"),
    "prediction": _object("prediction"),
    "web_search_options": _object("web_search_options"),
    "moderation": _object("moderation"),
    # Claude's own, for models that a mapping or a prefix routes there
    "thinking": _thinking,
    "top_k": _integer("top_k", 0),
    "cache_control": _object("cache_control"),
    "container": _text_or_object("container"),
    "context_management": _object("context_management"),
    "diagnostics": _object("diagnostics"),
    "speed": _one_of("speed", "standard", "fast"),
    "inference_geo": _one_of("inference_geo", "global", "us"),
    "mcp_servers": _mcp_servers,
}
_OPEN_CHECKS = {**_SHARED, "n": _integer("n", 1), "stream_options": _object("stream_options")}

#: every field a request to OpenAI or Anthropic may have
FIELDS = frozenset(_CHECKS)
