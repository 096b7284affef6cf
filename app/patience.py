"""How long the vendors' packages wait for an answer, which they say themselves."""

from __future__ import annotations

from flask import request

from core.settings import settings


def timeout_seconds() -> float:
    """How long a call may take: as long as the caller says that he will wait, if that is less than usual."""
    most = settings().call_timeout_seconds
    try:
        told = float(request.headers.get("x-stainless-read-timeout", ""))
    except ValueError:
        return most
    return min(most, told) if told > 0 else most
