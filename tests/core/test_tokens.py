"""Token estimates: near enough to reserve with, measured against counts by o200k_base and a Claude vocabulary."""

import pytest

from core import catalogue
from core.tokens import estimate, estimate_text

GPT, CLAUDE, NEW_CLAUDE = (catalogue.find(name) for name in ("gpt-4o", "claude-sonnet-4-5", "claude-haiku-5-5"))

ENGLISH = (
    "The history of the town begins in the twelfth century, when a group of merchants decided to build a bridge across "
    "the river. Over time the bridge became a place of trade, and the houses that surrounded it grew into a market. "
)
CHINESE = (
    "这座城市的历史始于十二世纪，当时一群商人决定在河上建造一座桥。"
    "随着时间的推移，这座桥成为贸易场所，周围的房屋逐渐形成了市场。"
)


def user(content, **params):
    return {"model": "m", "messages": [{"role": "user", "content": content}], **params}


# The counts were taken with o200k_base and with a published vocabulary of older Claude models.
@pytest.mark.parametrize(
    ("text", "model", "counted"), [(ENGLISH, GPT, 45), (ENGLISH, CLAUDE, 45), (CHINESE, GPT, 46), (CHINESE, CLAUDE, 67)]
)
def test_prose_is_met_within_half(text, model, counted):
    assert counted * 0.8 <= estimate_text(text, model) <= counted * 1.5


def test_newer_claude_models_cut_finer():
    assert estimate_text(ENGLISH, NEW_CLAUDE) == pytest.approx(estimate_text(ENGLISH, CLAUDE) * 1.3, rel=0.05)


def test_parts_tools_and_calls_count():
    plain, _ = estimate(user("hi"), GPT)
    assert estimate(user([{"type": "text", "text": "hi"}]), GPT)[0] == plain
    assert estimate(user([{"type": "image_url", "image_url": {"url": "https://x"}}]), GPT)[0] > 700
    assert estimate(user([{"type": "image_url", "image_url": {"url": "https://x", "detail": "low"}}]), GPT)[0] < 100
    tools = [{"type": "function", "function": {"name": "f", "description": "d" * 400}}]
    assert estimate(user("hi", tools=tools), GPT)[0] > plain + 100


@pytest.mark.parametrize(
    ("model", "params", "tokens"),
    [
        ("gpt-4o", {"max_tokens": 500}, 500),
        ("gpt-4o", {"max_tokens": 500, "n": 3}, 1500),
        ("gpt-4o", {}, 1000),
        ("gpt-4o", {"max_tokens": 99_999}, 16_384),
        ("gpt-5", {}, 3000),
        ("gpt-5.2", {}, 1000),
        ("gpt-4", {}, 1000),
        ("claude-haiku-5-5", {}, 1000),
        ("claude-opus-5-5", {}, 3000),
        ("claude-sonnet-4-5", {"reasoning_effort": "high"}, 1000),
        ("unheard-of", {}, 1000),
        ("unheard-of", {"max_tokens": 2**31 - 1, "n": 1000}, 2**30),
    ],
)
def test_output(model, params, tokens):
    info = catalogue.find(model)
    assert estimate(user("hi", **params), info)[1] == tokens
