"""POST /v1/embeddings: passed through to OpenAI or a compatible server."""

from __future__ import annotations

from flask import Response

from app import auth, body, idempotent, rate_limits, telemetry
from app.answers import raw_answer
from app.openai_surface.routes import blueprint
from app.patience import timeout_seconds
from core import embeddings
from core.settings import settings


@blueprint.post("/v1/embeddings")
@idempotent.idempotent(lock_seconds=settings().call_timeout_seconds + 30)
def create_embeddings() -> Response:
    """Vectors of the inputs, as the provider gives them."""
    return raw_answer(
        embeddings.embed(
            auth.principal(),
            body.json_object(),
            request_id=telemetry.request_id(),
            timeout_seconds=timeout_seconds(),
            meter=rate_limits.meter(),
            on_commit=idempotent.keeping(),
        )
    )
