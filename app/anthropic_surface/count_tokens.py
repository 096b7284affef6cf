"""POST /v1/messages/count_tokens: how long a prompt is, by Claude's own count or by our estimate."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
from flask import Response

from app import body
from app.answers import answer
from app.anthropic_surface.routes import blueprint
from app.anthropic_surface.translation import params_of, told_in_callers_terms
from core import catalogue, connections, egress, tokens
from core import params as parameters
from core.attempts import provider_failed
from core.call import no_answer
from core.egress.errors import EgressError
from core.errors import AddressRefused, InvalidInput
from core.providers.anthropic import Anthropic
from core.providers.failures import failure, unreadable
from core.providers.types import Failure
from core.routing import Route
from core.states import ProviderType

TIMEOUT_SECONDS = 30.0
MAX_ANSWER_BYTES = 1 << 20

_ADAPTER = Anthropic()


@blueprint.post("/v1/messages/count_tokens")
def count_tokens() -> Response:
    """Count the tokens of a prompt."""
    params, route = params_of(body.json_object(), counting=True)
    with told_in_callers_terms(params):
        wrong = parameters.validate(params, open_fields=route.provider == ProviderType.OPENAI_COMPATIBLE)
        if wrong:
            raise InvalidInput(wrong)
        if route.provider != ProviderType.ANTHROPIC:
            return answer({"input_tokens": tokens.estimate(params, catalogue.find(route.model, route.provider))[0]})
        counted = _ask(params, route)
    if isinstance(counted, Failure):
        raise provider_failed(route, counted)
    return answer(counted)


def _ask(params: dict[str, Any], route: Route) -> dict[str, Any] | Failure:
    """Anthropic's answer. It costs nothing and has a rate limit of its own, so our limiter is not asked."""
    connection = connections.load(UUID(route.connection.id))
    request = _ADAPTER.build_count(params, route.model)
    secret = connection.secret.reveal()
    try:
        answered = egress.request(
            request.method,
            connection.base_url + request.path,
            headers={**request.headers, **_ADAPTER.credential_headers(secret, connection.organization)},
            body=request.body,
            timeout_seconds=TIMEOUT_SECONDS,
            max_bytes=MAX_ANSWER_BYTES,
        )
    except (EgressError, AddressRefused) as error:
        return no_answer(error)
    if answered.status != 200:
        return failure(answered.status, answered.headers, answered.body, secret=secret)
    try:
        found: dict[str, Any] = orjson.loads(answered.body)
        return found | {"input_tokens": int(found["input_tokens"])}
    except (ValueError, TypeError, KeyError):
        return unreadable(answered.status, "the provider's answer has no input_tokens")
