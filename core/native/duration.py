"""How long rows take in real time under a connection's limits: pure arithmetic, for estimates and for the fall-back."""

from __future__ import annotations

from core.limits.tuning import PACE

#: What a call takes if nothing tells: between a short answer of a small model and a long one of a model that reasons.
TYPICAL_CALL_SECONDS = 5.0


def realtime_seconds(
    rows: int,
    input_tokens: int,
    output_tokens: int,
    *,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    input_tokens_per_minute: int | None = None,
    output_tokens_per_minute: int | None = None,
    max_concurrency: int | None = None,
    capacity: int,
    seconds_per_call: float = TYPICAL_CALL_SECONDS,
) -> float:
    """Seconds from the first row's start to the last one's answer, if nothing else uses the limits and the workers.

    The tightest bound tells: each limit per minute at the pace that the limiter keeps (core/limits/tuning.py), and the
    calls that can be in flight at once. The last call is waited for in full.

    Parameters
    ----------
    input_tokens, output_tokens : of all rows together, as the provider's limits count them: OpenAI counts the output
        that is asked for, Anthropic what is produced (`core.native.outlook.Limits` sees to that).
    *_per_minute, max_concurrency : the limits; None: none is known.
    capacity : calls that the workers hold at once.
    seconds_per_call : mean duration of one call.

    Raises
    ------
    ValueError
        A bound is not above zero: rows would never end.
    """
    if rows <= 0:
        return 0.0
    at_once = capacity if max_concurrency is None else min(capacity, max_concurrency)
    bounds = (
        (rows, requests_per_minute),
        (input_tokens + output_tokens, tokens_per_minute),
        (input_tokens, input_tokens_per_minute),
        (output_tokens, output_tokens_per_minute),
    )
    if at_once <= 0 or any(limit is not None and limit <= 0 for _, limit in bounds):
        raise ValueError("a limit of zero calls or tokens")
    starts = max(0, rows - at_once) * seconds_per_call / at_once
    for amount, limit in bounds:
        if limit is not None:
            starts = max(starts, amount / (limit * PACE) * 60)
    return starts + seconds_per_call
