"""POST /v1/chat/completions, by either vendor's models."""

from __future__ import annotations

from typing import Any

from flask import Response

from app import auth, body, event_stream, idempotent, rate_limits, telemetry
from app.answers import raw_answer
from app.openai_surface import errors
from app.openai_surface.routes import blueprint
from app.patience import timeout_seconds
from core import completions, streaming
from core.errors import FieldError, InvalidInput
from core.settings import settings


@blueprint.post("/v1/chat/completions")
@idempotent.idempotent(lock_seconds=settings().call_timeout_seconds + 30)
def create_completion() -> Response:
    """One completion, whole or as a stream."""
    # Left out, the temperature is the provider's own default here, not this service's.
    params: dict[str, Any] = {"temperature": None, **body.json_object()}
    if params.get("stream") is not True:
        made = completions.complete(
            auth.principal(),
            params,
            request_id=telemetry.request_id(),
            timeout_seconds=timeout_seconds(),
            meter=rate_limits.meter(),
            on_commit=idempotent.keeping(),
        )
        return raw_answer(made)
    if idempotent.current() is not None:
        message = "a stream cannot be given again; leave out stream or the Idempotency-Key"
        raise InvalidInput([FieldError("/stream", message)])
    events = streaming.stream(
        auth.principal(),
        params,
        request_id=telemetry.request_id(),
        # A caller's read time-out is between two events, not for the whole stream.
        timeout_seconds=settings().call_timeout_seconds,
        meter=rate_limits.meter(),
    )
    return event_stream.stream(events, error_line=errors.line)
