"""What the service answers with: JSON written once by orjson."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from flask import Response


def answer(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return raw_answer(orjson.dumps(data, option=orjson.OPT_UTC_Z), status, headers)


def raw_answer(body: bytes | str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer whose body is JSON already."""
    return Response(body, status, headers, mimetype="application/json")


def nothing() -> Response:
    """204: it is gone, and there is no body to have a type."""
    response = Response(status=204)
    del response.headers["content-type"]
    return response
