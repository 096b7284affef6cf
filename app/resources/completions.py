"""POST /v1/completions: one completion in real time, whole or as it is produced."""

from __future__ import annotations

from typing import Any

from flask import Response

from app import auth, body, event_stream, idempotent, rate_limits, telemetry
from app.answers import raw_answer
from app.openapi import Blueprint
from app.schemas import CompletionBody, CompletionSchema
from core import completions, streaming
from core.errors import FieldError, InvalidInput
from core.settings import settings

blueprint = Blueprint("completions", "Completions in real time")

_REQUEST = {
    "model": "gpt-4",
    "messages": [
        {"role": "system", "content": "You answer in one sentence."},
        {"role": "user", "content": "Why is the sky blue?"},
    ],
    "max_tokens": 500,
    "temperature": 0.7,
}
_ANSWER = {
    "id": "chatcmpl-8f3a",
    "object": "chat.completion",
    "created": 1795430400,
    "model": "gpt-4",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "Air scatters blue light more than red.", "refusal": None},
        }
    ],
    "usage": {"prompt_tokens": 24, "completion_tokens": 9, "total_tokens": 33},
    "provider": "openai",
    "cost_usd": "0.00126",
    "request_id": "req_0199aa54e7f27c3d9d2b6f1f0a4c8e11",
}
_STREAM = (
    'data: {"id":"chatcmpl-8f3a","object":"chat.completion.chunk","created":1795430400,"model":"gpt-4",'
    '"choices":[{"index":0,"delta":{"content":"Air"},"finish_reason":null}]}\n\n'
    'data: {"id":"chatcmpl-8f3a","object":"chat.completion.chunk","created":1795430400,"model":"gpt-4",'
    '"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"provider":"openai","cost_usd":"0.00126",'
    '"request_id":"req_0199aa54e7f27c3d9d2b6f1f0a4c8e11"}\n\ndata: [DONE]\n\n'
)


@blueprint.post("/v1/completions")
@idempotent.idempotent(lock_seconds=settings().call_timeout_seconds + 30)
@blueprint.takes(CompletionBody, example=_REQUEST)
@blueprint.response(200, CompletionSchema, example=_ANSWER)
@blueprint.alt_response(200, schema={"type": "string"}, content_type="text/event-stream", example=_STREAM, success=True)
@blueprint.alt_response(500, response="INTERNAL_SERVER_ERROR")
def create_completion() -> Response:
    """Generate a completion and wait for it, or with `stream: true` get it as it is produced.

    Everything that OpenAI's chat completions takes is accepted, and translated where the provider is Anthropic. A
    stream is server-sent events in OpenAI's form, ended by `data: [DONE]`; its last chunk has `provider`, `cost_usd`
    and `request_id`. What fails once it has begun is an event with `error`.
    """
    params = body.json_object()
    if params.get("stream") is True:
        return _streamed(params)
    made = completions.complete(
        auth.principal(),
        params,
        request_id=telemetry.request_id(),
        timeout_seconds=settings().call_timeout_seconds,
        meter=rate_limits.meter(),
        on_commit=idempotent.keeping(),
    )
    return raw_answer(made)


def _streamed(params: dict[str, Any]) -> Response:
    if idempotent.current() is not None:
        message = "a stream cannot be given again; leave out stream or the Idempotency-Key"
        raise InvalidInput([FieldError("/stream", message)])
    return event_stream.stream(
        streaming.stream(
            auth.principal(),
            params,
            request_id=telemetry.request_id(),
            timeout_seconds=settings().call_timeout_seconds,
            meter=rate_limits.meter(),
        )
    )
