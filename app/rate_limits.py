"""Headers that tell callers how they stand with their limits, in the form that each face of the API's users expect."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from flask import Flask, Response, g

from core import limits, project_limit
from core.errors import OverLimit
from core.identity import Principal
from core.limits import Meter, Quota
from core.project_limit import WINDOW_SECONDS

#: Writes quotas on an answer.
Face = Callable[[Response, "list[Quota]"], None]

#: The kind of the quota that a project has of this API; the others are those of a provider's connection.
PROJECT = "project"


def register(app: Flask) -> None:
    """Put the headers on every answer to a request that `admit` let in or refused."""
    app.after_request(_add_headers)


def admit(principal: Principal, face: Face) -> None:
    """Begin a request of a project whose credentials are right, unless it has made too many.

    Raises
    ------
    OverLimit
        The project's limit is used up (core.project_limit).
    """
    g.principal = principal
    g.face = face
    g.window = window = project_limit.hit(principal)
    if window is not None and window.refused_seconds is not None:
        raise OverLimit(
            f"The project's limit of {window.limit} requests a minute to this API is used up;"
            f" try again in {math.ceil(window.refused_seconds)} s.",
            window.refused_seconds,
        )


def meter() -> Meter:
    """What the limiter says of the provider's limits during this request goes in here, and from here into headers."""
    found: Meter = g.setdefault("meter", Meter())
    return found


def _add_headers(response: Response) -> Response:
    face: Face | None = g.get("face")
    if face is None:
        return response
    window: project_limit.Window | None = g.get("window")
    quotas = [] if window is None else [Quota(PROJECT, window.limit, window.remaining, window.reset_seconds)]
    told: Meter | None = g.get("meter")
    if told is not None:
        quotas += told.quotas()
    if quotas:
        face(response, quotas)
    return response


def ietf(response: Response, quotas: list[Quota]) -> None:
    """RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-10): every quota by its name."""
    policies, states = [], []
    for quota in quotas:
        name = quota.kind if quota.kind == PROJECT else f"provider-{quota.kind.replace('_', '-')}"
        unit = ';qu="tokens"' if quota.kind.endswith("tokens") else ""
        policies.append(f'"{name}";q={quota.limit};w={WINDOW_SECONDS}{unit}')
        states.append(f'"{name}";r={quota.remaining};t={math.ceil(quota.reset_seconds)}')
    response.headers["RateLimit-Policy"] = ", ".join(policies)
    response.headers["RateLimit"] = ", ".join(states)


def openai(response: Response, quotas: list[Quota]) -> None:
    """x-ratelimit-{limit,remaining,reset}-{requests,tokens}, resets as Go writes durations (PROVIDERS.md 4.4)."""
    for name, found in (
        ("requests", _tightest(quotas, (PROJECT, limits.REQUESTS_KIND))),
        ("tokens", _tightest(quotas, limits.TOKEN_KINDS)),
    ):
        if found is not None:
            response.headers[f"x-ratelimit-limit-{name}"] = str(found.limit)
            response.headers[f"x-ratelimit-remaining-{name}"] = str(found.remaining)
            response.headers[f"x-ratelimit-reset-{name}"] = go_duration(found.reset_seconds)


def anthropic(response: Response, quotas: list[Quota]) -> None:
    """anthropic-ratelimit-{requests,tokens,...}-{limit,remaining,reset}, resets in RFC 3339 (PROVIDERS.md 4.4)."""
    found = {
        "requests": _tightest(quotas, (PROJECT, limits.REQUESTS_KIND)),
        "tokens": _tightest(quotas, limits.TOKEN_KINDS),
        "input-tokens": _tightest(quotas, ("input_tokens",)),
        "output-tokens": _tightest(quotas, ("output_tokens",)),
    }
    now = datetime.now(UTC)
    for name, quota in found.items():
        if quota is not None:
            ends = now + timedelta(seconds=math.ceil(quota.reset_seconds))
            response.headers[f"anthropic-ratelimit-{name}-limit"] = str(quota.limit)
            response.headers[f"anthropic-ratelimit-{name}-remaining"] = str(quota.remaining)
            response.headers[f"anthropic-ratelimit-{name}-reset"] = ends.strftime("%Y-%m-%dT%H:%M:%SZ")


def _tightest(quotas: Iterable[Quota], kinds: Iterable[str]) -> Quota | None:
    """The quota of these kinds of which the least is left: the one that a caller has to mind."""
    return min((quota for quota in quotas if quota.kind in kinds), key=lambda quota: quota.remaining, default=None)


def go_duration(seconds: float) -> str:
    """Seconds as Go writes a duration: 0s, 20ms, 1.5s, 2m59.56s, 1h2m3s."""
    milliseconds = math.ceil(max(0.0, seconds) * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
