"""Anthropic's Messages API: OpenAI's request fields put into Anthropic's, with nothing dropped in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from core import catalogue
from core.catalogue import ModelInfo, Support
from core.errors import FieldError, InvalidInput
from core.providers import anthropic_answer
from core.providers.anthropic_messages import translate_messages
from core.providers.anthropic_native import CLAUDE_OPTIONS, MessagesParams
from core.providers.anthropic_stream import AnthropicStream, NativeStream
from core.providers.anthropic_thinking import put_thinking
from core.providers.anthropic_tools import put_tools
from core.providers.headers import anthropic_limits
from core.providers.model_list import parse_model_list
from core.providers.openai import DEFAULT_TEMPERATURE, over_output_limit
from core.providers.streams import StreamTranslator, wants_usage
from core.providers.types import Failure, LimitReading, ProviderRequest, Success
from core.providers.unknown_fields import refuse_unknown

PATH = "/v1/messages"
COUNT_PATH = "/v1/messages/count_tokens"

#: the version that takes sampling parameters, and the current one, which refuses them (PROVIDERS.md 1.3)
VERSION_WITH_SAMPLING = "2023-06-01"
VERSION = "2026-10-21"

#: max_tokens is required there and optional here; Anthropic's limits count what is produced, so room costs nothing
DEFAULT_MAX_TOKENS = 16_384

_JSON_ONLY = "Answer with a single JSON object and nothing else."

_TRANSLATED = frozenset(
    {
        "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "n", "stop",
        "reasoning_effort", "thinking", "response_format", "tools", "tool_choice", "parallel_tool_calls", "user",
        "safety_identifier", "service_tier", "prompt_cache_options", "cache_control", "stream", *CLAUDE_OPTIONS,
    }
)  # fmt: skip
#: they change nothing about the answer, and our own log keeps them: accepted and not sent
NOT_SENT = frozenset({"metadata", "prompt_cache_key", "prompt_cache_retention", "stream_options"})
#: fields that Claude has nothing for, with the value that asks for nothing
_WITHOUT_COUNTERPART: dict[str, Any] = {
    "seed": None, "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}, "logprobs": False,
    "top_logprobs": None, "prediction": None, "audio": None, "web_search_options": None, "moderation": None,
    "functions": [], "function_call": None, "store": False, "verbosity": "medium", "modalities": ["text"],
}  # fmt: skip
_HINTS = {"functions": "; use tools", "function_call": "; use tool_choice"}
_FORM_FIELDS = frozenset({"name", "description", "schema", "strict"})
_SERVICE_TIERS = {"auto": "auto", "default": "standard_only"}
#: what of a body decides how many tokens it has
_COUNTED = (
    "messages", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control", "context_management",
    "mcp_servers", "speed",
)  # fmt: skip


class Anthropic:
    """The adapter for api.anthropic.com, whose base URL has no /v1 (PROVIDERS.md 1.3, 2.4 to 2.8)."""

    provider = "anthropic"

    def check(self, params: Mapping[str, Any], model: ModelInfo) -> list[FieldError]:
        """What cannot be said to this model of what `params` (already valid) asks, each naming field and model."""
        return translate(params, model)[1]

    def build(self, params: Mapping[str, Any], model_id: str, *, stream: bool = False) -> ProviderRequest:
        """The call for `params` to `model_id`. Raises InvalidInput with the errors of `check` if there are any."""
        body, errors = translate(params, catalogue.find(model_id, self.provider))
        if errors:
            raise InvalidInput(errors)
        body["model"] = model_id
        if isinstance(params, MessagesParams):
            body |= params.unlogged
        if stream:
            body["stream"] = True
        return ProviderRequest(path=PATH, body=orjson.dumps(body), headers=_headers(body, params))

    def build_count(self, params: Mapping[str, Any], model_id: str) -> ProviderRequest:
        """The call that counts the tokens of `params` for `model_id`; its answer is {"input_tokens": n}.

        Raises InvalidInput as `build` does.
        """
        body, errors = translate(params, catalogue.find(model_id, self.provider))
        if errors:
            raise InvalidInput(errors)
        if isinstance(params, MessagesParams):
            body |= params.unlogged
        counted = {field: body[field] for field in _COUNTED if field in body}
        counted["model"] = model_id
        return ProviderRequest(path=COUNT_PATH, body=orjson.dumps(counted), headers=_headers(counted, params))

    def credential_headers(self, api_key: str, organization: str | None = None) -> dict[str, str]:
        """The header that carries the key: exactly one of the two accepted. A workspace goes with the key."""
        return {"x-api-key": api_key}

    def parse(
        self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None
    ) -> Success | Failure:
        """The outcome of a call that did not stream. Never raises; `secret` is removed from a failure's message."""
        return anthropic_answer.parse(status, headers, body, secret=secret)

    def stream(self, params: Mapping[str, Any], model_id: str = "", *, secret: str | None = None) -> StreamTranslator:
        """A translator for one streamed answer to `params`, in the events of whoever sent them."""
        if isinstance(params, MessagesParams):
            return NativeStream(include_usage=False, secret=secret)
        return AnthropicStream(include_usage=wants_usage(params), secret=secret)

    def list_models(self) -> ProviderRequest:
        """The call that lists models and, costing nothing, tests a key."""
        return ProviderRequest(
            method="GET", path="/v1/models?limit=1000", body=b"", headers={"anthropic-version": VERSION}
        )

    def parse_models(
        self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None
    ) -> list[str] | Failure:
        """The model ids in the answer to `list_models`. Never raises."""
        return parse_model_list(status, headers, body, secret=secret)

    def limits(self, headers: Mapping[str, str], *, now: float | None = None) -> list[LimitReading]:
        """What the headers of any answer say of the connection's limits."""
        return anthropic_limits(headers, now=now)


def _headers(body: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, str]:
    # A caller who names the older version gets what it allows.
    sampled = "temperature" in body or "top_p" in body or "top_k" in body
    older = isinstance(params, MessagesParams) and params.version == VERSION_WITH_SAMPLING
    headers = {
        "content-type": "application/json",
        "anthropic-version": VERSION_WITH_SAMPLING if sampled or older else VERSION,
    }
    if isinstance(params, MessagesParams):
        headers |= params.headers
    return headers


def translate(params: Mapping[str, Any], model: ModelInfo) -> tuple[dict[str, Any], list[FieldError]]:
    """The Messages body for `params`, and what of them it cannot say. One walk serves check and build alike."""
    errors: list[FieldError] = []
    body: dict[str, Any] = {"model": model.id}
    system, body["messages"] = translate_messages(params["messages"], model, errors)
    extra = params.keys() - _TRANSLATED
    if extra:
        _refuse_extra(params, extra, model, errors)
    if params.get("n") not in (None, 1):
        errors.append(FieldError("/n", f"{model.id} gives one choice; n must be 1"))
    errors += over_output_limit(params, model)

    most = model.max_output_tokens
    wanted = params.get("max_completion_tokens")
    if wanted is None:
        wanted = params.get("max_tokens")
    # 0 only warms the prompt cache.
    body["max_tokens"] = min(DEFAULT_MAX_TOKENS, most or DEFAULT_MAX_TOKENS) if wanted is None else wanted
    stop = params.get("stop")
    if stop:
        body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if params.get("tools"):
        put_tools(body, params, model, errors)
    thinks = put_thinking(body, params, model, errors, limited=wanted is not None)
    _put_sampling(body, params, model, errors, thinks=thinks)

    wanted_form = params.get("response_format")
    if wanted_form:
        if wanted_form["type"] == "json_schema":
            refuse_unknown(wanted_form["json_schema"], _FORM_FIELDS, "/response_format/json_schema", model, errors)
            schema = wanted_form["json_schema"].get("schema") or {}
            about = wanted_form["json_schema"].get("description")
            if about and "description" not in schema:
                schema = {**schema, "description": about}
            body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}
        elif wanted_form["type"] == "json_object":
            system.append({"type": "text", "text": _JSON_ONLY})
    if system:
        # A prompt that came in blocks stays in blocks; others are joined unless a breakpoint divides them.
        plain = isinstance(params["messages"][0].get("content"), str) and all(len(block) == 2 for block in system)
        body["system"] = "\n\n".join(block["text"] for block in system) if plain else system

    user = params.get("safety_identifier") or params.get("user")
    if user:
        body["metadata"] = {"user_id": user}
    tier = params.get("service_tier")
    if tier is not None:
        if tier in _SERVICE_TIERS:
            body["service_tier"] = _SERVICE_TIERS[tier]
        else:
            errors.append(FieldError("/service_tier", f"{model.id} does not take service_tier '{tier}'"))
    _put_caching(body, params)
    for field in CLAUDE_OPTIONS:
        if params.get(field):
            body[field] = params[field]
    if model.known:
        if body.get("speed") == "fast" and not model.fast_mode:
            errors.append(FieldError("/speed", f"{model.id} does not take speed 'fast'"))
        if body.get("inference_geo") == "us" and not model.us_inference:
            errors.append(FieldError("/inference_geo", f"{model.id} does not take inference_geo 'us'"))
    return body, errors


def _refuse_extra(params: Mapping[str, Any], extra: set[str], model: ModelInfo, errors: list[FieldError]) -> None:
    for field in sorted(extra - NOT_SENT):
        value = params[field]
        if value is None or (field in _WITHOUT_COUNTERPART and value == _WITHOUT_COUNTERPART[field]):
            continue
        shown = field[:64].replace("~", "~0").replace("/", "~1")
        errors.append(FieldError(f"/{shown}", f"{model.id} does not take {field[:64]}{_HINTS.get(field, '')}"))


def _put_sampling(
    body: dict[str, Any], params: Mapping[str, Any], model: ModelInfo, errors: list[FieldError], *, thinks: bool
) -> None:
    """temperature, top_p and top_k; a temperature above 1 becomes 1, Anthropic's highest."""
    if model.sampling is Support.NEVER:
        for field, neutral in (("temperature", 1), ("top_p", 1), ("top_k", None)):
            if params.get(field) not in (None, neutral):
                errors.append(FieldError(f"/{field}", f"{model.id} does not take {field}; leave it out"))
        return
    temperature, top_p, top_k = params.get("temperature"), params.get("top_p"), params.get("top_k")
    if top_k is not None:
        body["top_k"] = top_k
    if top_p is not None and top_p != 1:
        body["top_p"] = top_p
        if temperature is not None and model.sampling_exclusive:
            errors.append(FieldError("/top_p", f"{model.id} takes either temperature or top_p, not both"))
    if temperature is not None:
        body["temperature"] = min(temperature, 1)
    elif "temperature" not in params and model.sampling is Support.ALWAYS and "top_p" not in body and not thinks:
        body["temperature"] = DEFAULT_TEMPERATURE


def _put_caching(body: dict[str, Any], params: Mapping[str, Any]) -> None:
    """The cache switch for the whole request; breakpoints travel with their parts."""
    control = params.get("cache_control")
    if control is None:
        options = params.get("prompt_cache_options")
        if options and options.get("mode") == "implicit":
            # The caller's 30 minutes lie between Anthropic's 5 minutes and 1 hour: the longer keeps the promise.
            control = {"type": "ephemeral", "ttl": "1h"} if options.get("ttl") else {"type": "ephemeral"}
    if control:
        body["cache_control"] = control
