"""Anthropic's Messages requests put into OpenAI's form, which every adapter reads; the way back is in anthropic.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import FieldError
from core.params import MCP_TOKEN
from core.providers.anthropic_native import CLAUDE_OPTIONS, MessagesParams
from core.providers.from_anthropic_messages import translate_conversation
from core.providers.from_anthropic_tools import put_tools

_FIELDS = frozenset(
    {
        "model", "messages", "max_tokens", "system", "stop_sequences", "stream", "temperature", "top_p", "top_k",
        "tools", "tool_choice", "thinking", "output_config", "metadata", "service_tier", "cache_control",
        *CLAUDE_OPTIONS,
    }
)  # fmt: skip
#: fields that have no place in OpenAI's form, with the value that asks for nothing
_NEUTRAL: dict[str, Any] = {"speed": "standard", "inference_geo": "global", "betas": []}
#: fields that no other vendor's server is asked to judge: they cost more, or hold secrets
_ONLY_CLAUDES = frozenset({"speed", "inference_geo", "mcp_servers"})
#: why a field of Anthropic's is not taken
_NOT_HERE = {
    "thread": "conversations are not kept between requests here; send all of their messages to {model}",
}
_SERVICE_TIERS = {"auto": "auto", "standard_only": "default"}
_REQUIRED = "Field required"
EXTRA = "Extra inputs are not permitted"

#: budgets of thinking and the effort that an OpenAI model gets for one, least first
_EFFORT_OF_BUDGET = ((2048, "low"), (8192, "medium"))

_LEAST_BUDGET = 1024
_THINKING_TYPES = ("adaptive", "enabled", "disabled", "between_tools")

#: fields of OpenAI's form and where their value came from
_ORIGINS = {
    "max_completion_tokens": "max_tokens",
    "stop": "stop_sequences",
    "reasoning_effort": "output_config/effort",
    "response_format": "output_config/format",
    "user": "metadata/user_id",
    "parallel_tool_calls": "tool_choice/disable_parallel_tool_use",
}


def translate_request(
    body: Mapping[str, Any], *, to_claude: bool, counting: bool = False
) -> tuple[MessagesParams, list[FieldError]]:
    """The completion request for a Messages body, and what is wrong with it, as pointers into that body.

    Parameters
    ----------
    to_claude : the answer is to come from Claude: everything rides along, for anthropic.py to put back exactly.
        Otherwise only what OpenAI's form has words for; hints (cache breakpoints, earlier thinking) are left out and
        the rest is refused.
    counting : the body is one of count_tokens, which has no max_tokens.
    """
    errors: list[FieldError] = []
    params = MessagesParams()
    params.for_claude = to_claude
    model = body.get("model")
    shown_model = model[:100] if isinstance(model, str) else "this model"
    for field, value in body.items():
        if field not in _FIELDS and value is not None and value != _NEUTRAL.get(field, errors):
            shown = "/" + field[:64].replace("~", "~0").replace("/", "~1")
            errors.append(FieldError(shown, _NOT_HERE.get(field, EXTRA).format(model=shown_model)))
    if not isinstance(model, str):
        errors.append(FieldError("/model", _REQUIRED if model is None else "Input should be a valid string"))
    params["model"] = model
    params["messages"] = translate_conversation(body, params.origins, errors, to_claude=to_claude)
    limit = body.get("max_tokens")
    if limit is not None:
        params["max_tokens"] = limit
    elif not counting:
        errors.append(FieldError("/max_tokens", _REQUIRED))
    _put_sampling(params, body, errors)
    stops = body.get("stop_sequences")
    if stops:
        params["stop"] = stops
    if body.get("tools") or body.get("tool_choice") is not None:
        put_tools(params, body, errors, to_claude=to_claude)
    _put_thinking(params, body, errors, to_claude=to_claude)
    _put_format(params, body, errors)
    metadata = _object(body, "metadata", errors)
    errors += [FieldError(f"/metadata/{field[:64]}", EXTRA) for field in metadata if field != "user_id"]
    if metadata.get("user_id") is not None:
        params["user"] = metadata["user_id"]
    tier = body.get("service_tier")
    if tier is not None:
        if isinstance(tier, str) and tier in _SERVICE_TIERS:
            params["service_tier"] = _SERVICE_TIERS[tier]
        else:
            errors.append(FieldError("/service_tier", "Input should be 'auto' or 'standard_only'"))
    if to_claude and body.get("cache_control") is not None:
        # OpenAI's models cache prompts without being asked.
        params["cache_control"] = body["cache_control"]
    for field in CLAUDE_OPTIONS:
        if not body.get(field) or (not to_claude and body[field] == _NEUTRAL.get(field)):
            continue
        if field in _ONLY_CLAUDES and not to_claude:
            errors.append(FieldError(f"/{field}", f"{shown_model} does not take {field}"))
        else:
            # Whoever is asked judges them: Claude takes them with the beta that they belong to, others refuse them.
            params[field] = body[field]
    _hide_tokens(params)
    return params, errors


def _hide_tokens(params: MessagesParams) -> None:
    """Keep the secrets of MCP servers out of what is logged; Claude gets them all the same."""
    servers = params.get("mcp_servers")
    if not isinstance(servers, list) or not any(isinstance(each, dict) and MCP_TOKEN in each for each in servers):
        return
    params.unlogged["mcp_servers"] = servers
    params["mcp_servers"] = [
        {field: value for field, value in server.items() if field != MCP_TOKEN} if isinstance(server, dict) else server
        for server in servers
    ]


def origin_of(params: MessagesParams, pointer: str) -> str:
    """Where in the caller's body the thing is that a pointer into `params` names, as precisely as is known."""
    field, _, rest = pointer.removeprefix("/").partition("/")
    if field == "messages":
        index, _, _ = rest.partition("/")
        if index.isdecimal() and int(index) < len(params.origins):
            return params.origins[int(index)]
        return "/messages"
    if field in _ORIGINS:
        return "/" + _ORIGINS[field]
    if field == "tools":
        # A tool of Anthropic's has its fields on itself.
        return pointer.replace("/function/parameters", "/input_schema").replace("/function/", "/")
    return pointer


def _put_sampling(params: MessagesParams, body: Mapping[str, Any], errors: list[FieldError]) -> None:
    temperature = body.get("temperature")
    if isinstance(temperature, int | float) and temperature > 1:
        errors.append(FieldError("/temperature", "Input should be less than or equal to 1"))
    # Null keeps our own default out: this caller's default is the provider's.
    params["temperature"] = temperature
    for field in ("top_p", "top_k"):
        if body.get(field) is not None:
            params[field] = body[field]


def _put_thinking(
    params: MessagesParams, body: Mapping[str, Any], errors: list[FieldError], *, to_claude: bool
) -> None:
    """Thinking and effort; for OpenAI's models both are reasoning_effort.

    Thinking that is disabled asks for no thinking blocks, and those models give none.
    """
    thinking = _object(body, "thinking", errors)
    effort = _object(body, "output_config", errors).get("effort")
    if to_claude:
        if thinking:
            params["thinking"] = thinking
        elif effort is not None:
            # Null: the effort alone, without the thinking that reasoning_effort means elsewhere.
            params["thinking"] = None
    elif effort is None and thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens")
        if type(budget) is not int or budget < _LEAST_BUDGET:
            message = f"Input should be an integer of at least {_LEAST_BUDGET}"
            errors.append(FieldError("/thinking/budget_tokens", message))
        else:
            effort = next((effort for most, effort in _EFFORT_OF_BUDGET if budget <= most), "high")
    elif thinking and thinking.get("type") not in _THINKING_TYPES:
        message = f"Input should be {', '.join(map(repr, _THINKING_TYPES))}"
        errors.append(FieldError("/thinking/type", message))
    if effort is not None:
        params["reasoning_effort"] = effort


def _put_format(params: MessagesParams, body: Mapping[str, Any], errors: list[FieldError]) -> None:
    config = _object(body, "output_config", errors)
    for field, value in config.items():
        if field not in ("effort", "format") and value is not None:
            errors.append(FieldError(f"/output_config/{field[:64]}", EXTRA))
    form = config.get("format")
    if form is None:
        return
    if not isinstance(form, dict) or form.get("type") != "json_schema" or not isinstance(form.get("schema"), dict):
        message = "Input should be an object with type 'json_schema' and a schema"
        errors.append(FieldError("/output_config/format", message))
        return
    wanted = {"name": "answer", "schema": form["schema"]}
    if _is_strict(form["schema"]):
        wanted["strict"] = True
    params["response_format"] = {"type": "json_schema", "json_schema": wanted}


def _is_strict(schema: Mapping[str, Any]) -> bool:
    """Whether OpenAI takes a schema as one that binds: every object closed, every property required."""
    if schema.get("type") == "object":
        properties = schema.get("properties")
        names = properties.keys() if isinstance(properties, dict) else set()
        required = schema.get("required") or []
        if schema.get("additionalProperties") is not False or not isinstance(required, list):
            return False
        if len(names) != len(required) or not all(isinstance(name, str) and name in names for name in required):
            return False
    for value in schema.values():
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if isinstance(value, dict) and "type" in value and not _is_strict(value):
            return False
        if not all(_is_strict(each) for each in inner if isinstance(each, dict)):
            return False
    return True


def _object(body: Mapping[str, Any], field: str, errors: list[FieldError]) -> dict[str, Any]:
    """An object of the body, empty if there is none; anything else is added to `errors` once."""
    found = body.get(field)
    if found is None:
        return {}
    if isinstance(found, dict):
        return found
    wrong = FieldError(f"/{field}", "Input should be a valid dictionary")
    if wrong not in errors:
        errors.append(wrong)
    return {}
