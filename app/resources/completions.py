"""POST /v1/completions: one completion in real time."""

from __future__ import annotations

from flask import Response

from app import auth, body, idempotent, telemetry
from app.answers import raw_answer
from app.openapi import Blueprint
from app.schemas import CompletionBody, CompletionSchema
from core import completions
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


@blueprint.post("/v1/completions")
@idempotent.idempotent(lock_seconds=settings().call_timeout_seconds + 30)
@blueprint.takes(CompletionBody, example=_REQUEST)
@blueprint.response(200, CompletionSchema, example=_ANSWER)
@blueprint.alt_response(500, response="INTERNAL_SERVER_ERROR")
def create_completion() -> Response:
    """Generate a completion and wait for it.

    Everything that OpenAI's chat completions takes is accepted, and translated where the provider is Anthropic.
    """
    params = body.json_object()
    if params.get("stream"):
        raise InvalidInput([FieldError("/stream", "this endpoint answers in one piece; leave stream out")])
    made = completions.complete(
        auth.principal(),
        params,
        request_id=telemetry.request_id(),
        timeout_seconds=settings().call_timeout_seconds,
    )
    return raw_answer(made)
