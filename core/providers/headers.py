"""What a provider's response headers say: when to try again and how much of each limit is left."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from core.providers.types import LimitReading

#: a longer hint is cut to this: nothing waits longer than a batch's longest window
MAX_RETRY_AFTER_SECONDS = 7 * 86400.0

# Go durations such as 1s, 20ms, 6m0s, 1h2m3s (PROVIDERS.md 4.4); Azure sends bare seconds.
_DURATION = re.compile(
    r"^(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?$", re.ASCII
)


def header(headers: Mapping[str, str], name: str) -> str | None:
    """One header; `headers` is case-insensitive, or has its names in lower case or Title-Case."""
    found = headers.get(name)
    return headers.get(name.title()) if found is None and type(headers) is dict else found


def retry_after_seconds(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """The provider's hint in seconds: retry-after-ms, then retry-after as seconds or an HTTP date; None without one.

    The order is that of both vendors' SDKs (PROVIDERS.md 4.5). A hint that is not a positive number counts as none.
    """
    milliseconds = _number(header(headers, "retry-after-ms"))
    if milliseconds is not None and milliseconds > 0:
        return min(milliseconds / 1000, MAX_RETRY_AFTER_SECONDS)
    text = header(headers, "retry-after")
    if text is None:
        return None
    seconds = _number(text)
    if seconds is None:
        seconds = _until(text, now)
    return min(seconds, MAX_RETRY_AFTER_SECONDS) if seconds is not None and seconds > 0 else None


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _until(text: str, now: float | None) -> float | None:
    try:
        when = parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return when - (time.time() if now is None else now)


def duration_seconds(text: str | None) -> float | None:
    """Seconds of a Go duration or of bare seconds; None if it is neither."""
    if not text:
        return None
    found = _DURATION.match(text)
    if found is None:
        bare = _number(text)
        return bare if bare is not None and bare >= 0 else None
    hours, minutes, seconds, milliseconds = (float(part) if part else 0.0 for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def _count(text: str | None) -> int | None:
    """A header's count; None for what is not a plain non-negative integer of a sane size."""
    if text is None or len(text) > 15 or not text.isascii() or not text.isdigit():
        return None
    return int(text)


_OPENAI_NAMES = tuple(
    (kind, f"x-ratelimit-limit-{suffix}", f"x-ratelimit-remaining-{suffix}", f"x-ratelimit-reset-{suffix}")
    for kind, suffix in (("requests", "requests"), ("tokens", "tokens"), ("tokens", "project-tokens"))
)
_ANTHROPIC_NAMES = tuple(
    (kind, f"{prefix}-limit", f"{prefix}-remaining", f"{prefix}-reset")
    for kind, prefix in (
        ("requests", "anthropic-ratelimit-requests"),
        ("tokens", "anthropic-ratelimit-tokens"),
        ("input_tokens", "anthropic-ratelimit-input-tokens"),
        ("output_tokens", "anthropic-ratelimit-output-tokens"),
    )
)


def openai_limits(headers: Mapping[str, str]) -> list[LimitReading]:
    """The x-ratelimit-* family. A project's token limit stands in for the organisation's where it is the tighter."""
    readings: dict[str, LimitReading] = {}
    for kind, limit_name, remaining_name, reset_name in _OPENAI_NAMES:
        limit = _count(header(headers, limit_name))
        if limit is None:
            continue
        known = readings.get(kind)
        if known is not None and known.limit is not None and known.limit <= limit:
            continue
        remaining = _count(header(headers, remaining_name))
        reset = duration_seconds(header(headers, reset_name))
        readings[kind] = LimitReading(kind=kind, limit=limit, remaining=remaining, reset_seconds=reset)
    return list(readings.values())


def anthropic_limits(headers: Mapping[str, str], *, now: float | None = None) -> list[LimitReading]:
    """The anthropic-ratelimit-* families; their reset times are RFC 3339. `now`: Unix time."""
    readings = []
    for kind, limit_name, remaining_name, reset_name in _ANTHROPIC_NAMES:
        limit = _count(header(headers, limit_name))
        if limit is None:
            continue
        remaining = _count(header(headers, remaining_name))
        reset = _until_rfc3339(header(headers, reset_name), now)
        readings.append(LimitReading(kind=kind, limit=limit, remaining=remaining, reset_seconds=reset))
    return readings


def _until_rfc3339(text: str | None, now: float | None) -> float | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, when - (time.time() if now is None else now))
