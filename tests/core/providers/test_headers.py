"""Hints and limits in response headers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3 import HTTPHeaderDict

from core.providers import adapter_for
from core.providers.headers import MAX_RETRY_AFTER_SECONDS, duration_seconds, retry_after_seconds
from core.providers.types import LimitReading

NOW = 1_795_430_400.0  # 2026-11-23T10:40:00Z


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "900", "retry-after": "7"}, 0.9),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Mon, 23 Nov 2026 10:40:30 GMT"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 10:39:00 GMT"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "1e300"}, MAX_RETRY_AFTER_SECONDS),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after_seconds(headers, now=NOW) == seconds


@given(st.text(), st.text())
def test_no_hint_makes_reading_fail(milliseconds, seconds):
    found = retry_after_seconds({"retry-after-ms": milliseconds, "retry-after": seconds}, now=NOW)
    assert found is None or 0 < found <= MAX_RETRY_AFTER_SECONDS


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("20ms", 0.02),
        ("6m0s", 360),
        ("2m59.56s", 179.56),
        ("1h2m3s", 3723),
        ("59", 59),
        ("", None),
        ("x", None),
        ("1d", None),
    ],
)
def test_durations(text, seconds):
    assert duration_seconds(text) == pytest.approx(seconds)


def test_openai_limits():
    headers = HTTPHeaderDict(
        {
            "x-ratelimit-limit-requests": "5000",
            "x-ratelimit-remaining-requests": "4999",
            "x-ratelimit-reset-requests": "12ms",
            "x-ratelimit-limit-tokens": "1000000",
            "x-ratelimit-remaining-tokens": "149984",
            "x-ratelimit-reset-tokens": "51s",
        }
    )
    assert adapter_for("openai").limits(headers) == [
        LimitReading(kind="requests", limit=5000, remaining=4999, reset_seconds=0.012),
        LimitReading(kind="tokens", limit=1_000_000, remaining=149_984, reset_seconds=51.0),
    ]


def test_a_projects_tighter_token_limit_goes_first():
    headers = {"x-ratelimit-limit-tokens": "1000000", "x-ratelimit-limit-project-tokens": "60000"}
    (reading,) = adapter_for("openai").limits(headers)
    assert reading.limit == 60_000


def test_anthropic_limits():
    headers = {
        "anthropic-ratelimit-requests-limit": "1000",
        "anthropic-ratelimit-requests-remaining": "999",
        "anthropic-ratelimit-requests-reset": "2026-11-23T10:40:05Z",
        "anthropic-ratelimit-output-tokens-limit": "400000",
    }
    assert adapter_for("anthropic").limits(headers, now=NOW) == [
        LimitReading(kind="requests", limit=1000, remaining=999, reset_seconds=5.0),
        LimitReading(kind="output_tokens", limit=400_000, remaining=None, reset_seconds=None),
    ]


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "by_minute"),
    [
        # comes back continuously: the reset is the window's share that is used
        (5000, 4999, "12ms", (5000, 4999)),
        (600, 0, "60s", (600, 0)),
        (600, 540, "6", (600, 540)),
        (14_400, 14_399, "6s", None),
        (14_400, 14_340, "6m0s", None),
        (1000, 999, "3.6s", None),
        (10, 9, "100ms", (600, None)),
        # counted by a window: the reset is what is left of it
        (600, 599, "35s", (600, 599)),
        (600, 0, "20s", (600, 0)),
        (14_400, 14_399, "24h", None),
        (10, 9, "1s", None),
        # what is left is short in a minute's last second too
        (600, 0, "1s", None),
        (600, 599, "0s", None),
        # rounded up to whole seconds
        (1000, 999, "1", None),
        (1000, 900, "6", (1000, 900)),
        # says less
        (600, None, "30s", (600, None)),
        (600, None, None, None),
        (600, 700, "30s", (600, 700)),
        (0, 0, "30s", None),
    ],
)
def test_the_window_of_a_compatible_servers_request_limit(limit, remaining, reset, by_minute):
    headers = {"x-ratelimit-limit-requests": str(limit)}
    if remaining is not None:
        headers["x-ratelimit-remaining-requests"] = str(remaining)
    if reset is not None:
        headers["x-ratelimit-reset-requests"] = reset
    found = [(reading.limit, reading.remaining) for reading in adapter_for("openai_compatible").limits(headers)]
    assert found == ([] if by_minute is None else [by_minute])


@given(
    limit=st.integers(1, 100_000),
    used=st.integers(1, 100_000),
    window=st.sampled_from([3600, 86_400]),
)
def test_a_limit_by_hour_or_day_that_comes_back_continuously_is_never_one_by_minute(limit, used, window):
    used = min(used, limit)
    headers = {
        "x-ratelimit-limit-requests": str(limit),
        "x-ratelimit-remaining-requests": str(limit - used),
        "x-ratelimit-reset-requests": f"{window * used / limit:.3f}s",
    }
    readings = adapter_for("openai_compatible").limits(headers)
    assert not readings


def test_a_request_limit_per_day_is_not_read_as_one_per_minute():
    headers = {
        "x-ratelimit-limit-requests": "14400",
        "x-ratelimit-reset-requests": "2h",
        "x-ratelimit-limit-tokens": "6000",
    }
    assert [reading.kind for reading in adapter_for("openai_compatible").limits(headers)] == ["tokens"]


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "x-ratelimit-limit-tokens",
                "x-ratelimit-reset-tokens",
                "anthropic-ratelimit-tokens-limit",
                "anthropic-ratelimit-tokens-reset",
            ]
        ),
        st.text(),
    )
)
def test_no_header_makes_reading_limits_fail(headers):
    for provider in ("openai", "anthropic", "openai_compatible"):
        for reading in adapter_for(provider).limits(headers):
            assert reading.limit is None or reading.limit >= 0
