"""Asks servers on this machine; a proxy from the environment has no business between us."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def status_of(url: str, headers: Mapping[str, str] | None = None, *, timeout_seconds: float = 5.0) -> int | None:
    """The status that a GET is answered with; None if nobody answers."""
    request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310  (our own address)
    try:
        with _opener.open(request, timeout=timeout_seconds) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None
