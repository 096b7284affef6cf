"""Who is calling: the four headers of a project's key, or the operator's token."""

from __future__ import annotations

import hmac

from flask import g, request

from app import rate_limits
from app.application import this_request
from core import identity
from core.errors import Unauthenticated
from core.settings import settings

#: The header of each part of a project's credentials, as in the OpenAPI document.
HEADERS = {
    "ApiKey": "x-api-key",
    "SecretKey": "x-secret-key",
    "TenantId": "x-tenant-id",
    "ProjectId": "x-project-id",
}


def require_project(face: rate_limits.Face = rate_limits.ietf) -> None:
    """Before a request of a tenant: its principal, or 401, or 429. OPTIONS says nothing that the document does not.

    A header that was sent twice arrives joined with a comma, which is in no key.

    Parameters
    ----------
    face : how the answer tells of limits.
    """
    asked = this_request()
    if asked.method == "OPTIONS":
        return
    headers = asked.headers
    given = [headers.get(name, "") for name in HEADERS.values()]
    if not all(given):
        raise Unauthenticated
    rate_limits.admit(identity.authenticate(*given), face)


def principal() -> identity.Principal:
    """The principal of the request being answered."""
    found: identity.Principal = g.principal
    return found


def require_operator() -> None:
    """Before a request of the operator: the token of the environment, or 401; with none set the admin API is off."""
    if request.method == "OPTIONS":
        return
    token = settings().admin_token.encode()
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Compared even when nothing is set, so that the answer and its time are the same.
    same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token)
    if not (token and same and scheme.lower() == "bearer"):
        raise Unauthenticated("The operator's token is missing or not valid, or the admin API is off.")
