"""A Messages body of this request's caller as a completion request for whoever serves its model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flask import request

from app import auth
from core import project_routes
from core.errors import FieldError, InvalidInput
from core.providers.anthropic_native import CLAUDE_HEADERS, MessagesParams
from core.providers.from_anthropic import origin_of, translate_request
from core.routing import Route
from core.states import ProviderType


def params_of(body: Mapping[str, Any], *, counting: bool = False) -> tuple[MessagesParams, Route]:
    """The request in OpenAI's form, and where its model leads.

    Raises
    ------
    InvalidInput
        With everything wrong, as pointers into the body.
    """
    model = body.get("model")
    route, fallbacks = None, []
    if isinstance(model, str) and model:
        found = project_routes.of(auth.principal())
        route, fallbacks = found.route(model), found.fallbacks(model)
    to_claude = route is None or route.provider == ProviderType.ANTHROPIC
    params, wrong = translate_request(body, to_claude=to_claude, counting=counting)
    if wrong or route is None:
        raise InvalidInput(wrong or [FieldError("/model", "Field required")])
    if to_claude and any(each.provider != ProviderType.ANTHROPIC for each in fallbacks):
        others, wrong = translate_request(body, to_claude=False, counting=counting)
        params.others = None if wrong else others
    params.headers = {name: request.headers[name] for name in CLAUDE_HEADERS if name in request.headers}
    params.version = request.headers.get("anthropic-version")
    return params, route


@contextmanager
def told_in_callers_terms(params: MessagesParams) -> Iterator[None]:
    """What core finds wrong with `params`, as pointers into the body that the caller sent."""
    try:
        yield
    except InvalidInput as error:
        if not error.errors or [each.pointer for each in error.errors] == ["/model"]:
            raise
        found = [FieldError(origin_of(params, each.pointer), each.message) for each in error.errors]
        raise InvalidInput(found, error.detail) from error
