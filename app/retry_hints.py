"""The headers by which the vendors' packages decide whether and when to send a request again (PROVIDERS.md 4.5)."""

from __future__ import annotations

import math


def retry_hints(retry: bool | None, after_seconds: float | None) -> dict[str, str]:
    """x-should-retry, and when: in whole seconds, rounded up so that nobody comes too early, and in milliseconds.

    Parameters
    ----------
    retry : None leaves it to the status; False: repeating it is of no use, so there is no time either.
    """
    headers = {} if retry is None else {"x-should-retry": "true" if retry else "false"}
    if after_seconds is not None and retry is not False:
        headers["Retry-After"] = str(max(1, math.ceil(after_seconds)))
        headers["retry-after-ms"] = str(max(1, math.ceil(after_seconds * 1000)))
    return headers
