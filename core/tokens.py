"""How many tokens a request will take, estimated without a tokenizer: for reservations, never for bills."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from core.catalogue import ModelInfo, Support

#: what an answer takes when the caller sets no limit: a guess, since the providers count no more than was asked for
TYPICAL_OUTPUT = 1000
TYPICAL_REASONING_OUTPUT = 3000
#: the most that an estimate says, and that a column of it holds: servers of one's own take any `max_tokens` and `n`
MOST_TOKENS = 1 << 30

# Tokens per message and per request that the roles and their separators take.
_PER_MESSAGE = 4
_PER_REQUEST = 3

# Per thousand characters, and per thousand bytes beyond one a character (which is what tells Chinese from English).
# Measured against o200k_base and an older Claude vocabulary; docs/models.md has the errors.
_OPENAI_RATES = (263, 250)
_CLAUDE_RATES = (290, 450)
#: Claude Opus 4.7, Sonnet 5 and later cut the same text about 30 % finer (PROVIDERS.md 2.8)
_NEW_CLAUDE_RATES = (377, 585)

_IMAGE = {"openai": 800, "anthropic": 1600}
_LOW_DETAIL_IMAGE = 85
_AUDIO = 500
#: base64 characters of a document per token, and what its first page takes at least
_FILE_CHARS_PER_TOKEN = 50
_FILE = 2000


def estimate(params: Mapping[str, Any], model: ModelInfo) -> tuple[int, int]:
    """(prompt tokens, tokens of a typical answer) of a valid request, for rate-limit reservations.

    The answer counts as its limit where the caller gave one, since OpenAI's limits do so (PROVIDERS.md 4.4), times
    `n`. Prose in European languages, Chinese and Japanese is met within -5 to +40 %; JSON is underestimated by a third,
    digits and base64 by half, and for OpenAI other scripts are overestimated up to twofold.
    """
    per_char, per_extra = _rates(model)
    tokens = _PER_REQUEST
    scaled = 0
    for message in params["messages"]:
        tokens += _PER_MESSAGE
        content = message.get("content")
        if isinstance(content, str):
            scaled += _scaled(content, per_char, per_extra)
        elif content:
            for part in content:
                text = part.get("text")
                if isinstance(text, str):
                    scaled += _scaled(text, per_char, per_extra)
                else:
                    tokens += _medium(part, model)
        if message.get("tool_calls"):
            scaled += len(orjson.dumps(message["tool_calls"])) * per_char
    for field in ("tools", "functions", "response_format"):
        if params.get(field):
            scaled += len(orjson.dumps(params[field])) * per_char
    wanted = params.get("max_completion_tokens") or params.get("max_tokens")
    if not wanted:
        reasons = model.reasoning and not model.effort_is_none(params.get("reasoning_effort"))
        wanted = TYPICAL_REASONING_OUTPUT if reasons else TYPICAL_OUTPUT
    if model.max_output_tokens is not None:
        wanted = min(wanted, model.max_output_tokens)
    return tokens + scaled // 1000, min(wanted * (params.get("n") or 1), MOST_TOKENS)


def estimate_text(text: str, model: ModelInfo) -> int:
    """Tokens of a text, as an answer for which the provider reported no usage."""
    return (_scaled(text, *_rates(model)) + 999) // 1000


def _rates(model: ModelInfo) -> tuple[int, int]:
    if model.provider != "anthropic":
        return _OPENAI_RATES
    return _CLAUDE_RATES if model.sampling is Support.ALWAYS else _NEW_CLAUDE_RATES


def _scaled(text: str, per_char: int, per_extra: int) -> int:
    """Thousandths of tokens."""
    chars = len(text)
    if text.isascii():
        return chars * per_char
    return chars * per_char + (len(text.encode("utf-8", "replace")) - chars) * per_extra


def _medium(part: Mapping[str, Any], model: ModelInfo) -> int:
    kind = part.get("type")
    if kind == "file":
        file = part.get("file")
        data = file.get("file_data") if isinstance(file, dict) else None
        return max(_FILE, len(data) // _FILE_CHARS_PER_TOKEN) if isinstance(data, str) else _FILE
    if kind == "input_audio":
        return _AUDIO
    image = part.get("image_url")
    if isinstance(image, dict) and image.get("detail") == "low" and model.provider != "anthropic":
        return _LOW_DETAIL_IMAGE
    return _IMAGE.get(model.provider, _IMAGE["openai"])
