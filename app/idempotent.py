"""Idempotency-Key for POSTs that create or spend: the same request again gets the first answer again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Response, g, request

from app import auth, body
from app.answers import raw_answer
from app.openapi import add_parameter
from app.telemetry import request_id
from core import idempotency
from core.completions import OnCommit
from core.db import RawConnection
from core.idempotency import Claim, FirstAnswer, KeyInUse

log = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
#: Seconds between two signs of life while a long body is read.
_EXTEND_SECONDS = 20.0

#: how the document shows it
PARAMETER = {
    "in": "header",
    "name": HEADER,
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same key with the same body gets the first answer again, for 24 hours.",
}


class Fingerprint:
    """SHA-256 over method, path, query and the body as it is read."""

    def __init__(self) -> None:
        self._hash = idempotency.digest(request.method, request.full_path)
        self._extended = time.monotonic()

    def update(self, chunk: bytes) -> None:
        """Add a part of the body; a long one keeps the key alive meanwhile."""
        self._hash.update(chunk)
        claim = current()
        if claim is not None and time.monotonic() - self._extended > _EXTEND_SECONDS:
            self._extended = time.monotonic()
            claim.extend()

    def value(self) -> bytes:
        return self._hash.digest()


def current() -> Claim | None:
    """The key that the request being answered holds, if it brought one."""
    found: Claim | None = g.get("claim")
    return found


def fingerprint() -> Fingerprint:
    """The fingerprint of the request being answered."""
    if "fingerprint" not in g:
        g.fingerprint = Fingerprint()
    found: Fingerprint = g.fingerprint
    return found


def idempotent(
    *,
    lock_seconds: float = idempotency.LOCK_SECONDS,
    operator: bool = False,
    secret: bool = False,
    streamed: Callable[[Fingerprint], object] | None = None,
) -> Callable[[Any], Any]:
    """Make a view honour Idempotency-Key. It goes right below the route, above everything that reads the body.

    Only answers below 400 are kept: a request that was refused or failed did nothing, and may be sent again.

    Parameters
    ----------
    operator : a route of the operator, whose keys are nobody else's.
    secret : the answer holds a secret: it is kept encrypted.
    streamed : reads the body through and adds it to the fingerprint, as the view does itself when it is the first.
        Without it that is done for lines as they come, and for any other body at once.
    """

    def decorate(view: Callable[..., Response]) -> Callable[..., Response]:
        @wraps(view)
        def once(*args: Any, **kwargs: Any) -> Response:
            key = request.headers.get(HEADER)
            if key is None:
                return view(*args, **kwargs)
            owner = None if operator else auth.principal()
            found = idempotency.claim(owner, key, lock_seconds=lock_seconds)
            if isinstance(found, FirstAnswer):
                return _again(found, streamed)
            g.claim = found
            try:
                if streamed is None and not body.is_ndjson():
                    fingerprint().update(body.raw())
                response = view(*args, **kwargs)
            except BaseException:
                _release(found)
                raise
            if response.status_code >= 400:
                _release(found)
            elif not found.finished:
                _keep(found, response, secret=secret)
            return response

        add_parameter(once, PARAMETER)
        return once

    return decorate


def keeping() -> OnCommit | None:
    """What keeps a completion's answer under the request's key, in the transaction that logs the completion.

    None if the request brought no key.
    """
    held = current()
    if held is None:
        return None
    mark = fingerprint().value()

    def keep(answer: bytes, connection: RawConnection) -> None:
        try:
            held.finish(200, answer.decode(), mark, connection)
        except KeyInUse:
            # Kept already by a try whose reply was lost, or taken over: the answer is the caller's in any case.
            log.info("an answer was not kept under its key a second time")

    return keep


def _again(found: FirstAnswer, streamed: Callable[[Fingerprint], object] | None) -> Response:
    """The first answer, once the body has turned out to be the first one's."""
    mark = fingerprint()
    if streamed is not None:
        streamed(mark)
    elif body.is_ndjson():
        for chunk in body.ndjson_chunks():
            mark.update(chunk)
    else:
        mark.update(body.raw())
    found.check(mark.value())
    headers = {"idempotent-replayed": "true"} | ({"Cache-Control": "no-store"} if found.secret else {})
    return raw_answer(found.body, found.status_code, headers)


def _keep(claim: Claim, response: Response, *, secret: bool) -> None:
    try:
        claim.finish(response.status_code, response.get_data(as_text=True), fingerprint().value(), secret=secret)
    except Exception:
        # The work is done and paid for: its answer goes out, and the key stays locked for a while.
        log.exception("an answer could not be kept under its key", extra={"request_id": request_id()})


def _release(claim: Claim) -> None:
    # Also after `finish`: its transaction may not have committed. If it did, there is nothing left to release.
    try:
        claim.release()
    except Exception:
        log.warning("an idempotency key stays locked until its time runs out", extra={"request_id": request_id()})
