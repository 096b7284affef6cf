"""/v1/webhooks: the secret that signs what webhook receivers get."""

from __future__ import annotations

from flask import Response

from app import auth
from app.answers import answer
from app.openapi import Blueprint
from core import webhooks

blueprint = Blueprint("webhooks", "The secret that signs the calls to a batch's `webhook_url` (Standard Webhooks)")

_EXAMPLE = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="}
_SECRET = {"type": "object", "properties": {"secret": {"type": "string"}}, "required": ["secret"]}


@blueprint.get("/v1/webhooks/secret")
@blueprint.response(200, _SECRET, example=_EXAMPLE)
def get_secret() -> Response:
    """The project's signing secret; a receiver checks `webhook-signature` with it."""
    return answer({"secret": webhooks.secret(auth.principal()).reveal()}, headers=_PRIVATE)


@blueprint.post("/v1/webhooks/secret/rotate")
@blueprint.response(200, _SECRET, example=_EXAMPLE)
def rotate_secret() -> Response:
    """A new signing secret; what is sent from now on is signed with it."""
    return answer({"secret": webhooks.rotate_secret(auth.principal()).reveal()}, headers=_PRIVATE)


_PRIVATE = {"Cache-Control": "no-store"}
