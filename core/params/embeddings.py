"""Requests for embeddings: told from completions by what they hold, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core import tokens
from core.catalogue import ModelInfo
from core.errors import FieldError
from core.params import check_model
from core.states import ProviderType

#: OpenAI's limit of inputs in one request
MAX_INPUTS = 2048
_FIELDS = frozenset({"model", "input", "encoding_format", "dimensions", "user"})


def asked_for(params: Mapping[str, Any]) -> bool:
    """True if a row of a batch asks for embeddings: it has `input`, which completions do not, and no messages."""
    return "input" in params and "messages" not in params


def validate(params: Mapping[str, Any]) -> list[FieldError]:
    """Everything wrong with a request for embeddings; empty if nothing is."""
    wrong = [FieldError(f"/{name[:64]}", "is not a known field") for name in params.keys() - _FIELDS]
    if params.get("model") is None:
        wrong.append(FieldError("/model", "is required: the name of a model, such as text-embedding-3-small"))
    else:
        check_model(params["model"], wrong)
    dimensions = params.get("dimensions")
    if dimensions is not None and (type(dimensions) is not int or dimensions < 1):
        wrong.append(FieldError("/dimensions", "must be an integer of at least 1"))
    if params.get("encoding_format") not in (None, "float", "base64"):
        wrong.append(FieldError("/encoding_format", "must be float or base64"))
    return wrong + _check_input(params.get("input"))


def check(provider: str, model: str) -> list[FieldError]:
    """An error if the provider of a model has no embeddings."""
    if provider != ProviderType.ANTHROPIC:
        return []
    return [FieldError("/model", f"{model[:100]} gives no embeddings: {provider} has no embeddings")]


def estimate(params: Mapping[str, Any], model: ModelInfo) -> int:
    """Tokens of the inputs, estimated as prompts are (core/tokens.py)."""
    given = params["input"]
    if isinstance(given, str):
        return tokens.estimate_text(given, model)
    return sum(
        1 if isinstance(each, int) else tokens.estimate_text(each, model) if isinstance(each, str) else len(each)
        for each in given
    )


def _check_input(given: object) -> list[FieldError]:
    if isinstance(given, str) and given:
        return []
    if isinstance(given, list) and 1 <= len(given) <= MAX_INPUTS:
        if all(isinstance(each, str) and each for each in given):
            return []
        if all(type(each) is int for each in given):
            return []
        if all(isinstance(each, list) and each and all(type(token) is int for token in each) for each in given):
            return []
    return [FieldError("/input", f"must be a text, or a list of 1 to {MAX_INPUTS} texts or lists of tokens")]
