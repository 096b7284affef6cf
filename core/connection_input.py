"""The JSON of POST and PATCH /v1/providers, checked: what is given, what is not, and all that is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core import egress
from core.errors import AddressRefused, InvalidInput
from core.secret import Secret
from core.states import ProviderType
from core.text_input import Problems

_TYPES = [each.value for each in ProviderType]
#: Fields of the API and what they are called here.
_PLAIN = {"name": "name", "baseUrl": "base_url", "organization": "organization"}
_LIMITS = {
    "requestsPerMinute": ("requests_per_minute", 100_000_000),
    "tokensPerMinute": ("tokens_per_minute", 1_000_000_000_000),
    "maxConcurrency": ("max_concurrency", 1_000_000),
}

# A name is a prefix of model names (name/model) and so has no slash.
_COMPATIBLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
# These become header values: visible ASCII, and no space at either end.
_HEADER_TEXT = re.compile(r"[\x21-\x7e]+\Z")


@dataclass(slots=True, kw_only=True)
class ConnectionInput:
    """Values that were given; `has` tells a null from what was not given."""

    given: frozenset[str]
    provider_type: str
    api_key: Secret | None = None
    name: str = ""
    base_url: str | None = None
    organization: str | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrency: int | None = None

    def has(self, name: str) -> bool:
        return name in self.given


def as_new(given: Mapping[str, Any]) -> ConnectionInput:
    """The input of POST /v1/providers. Raises InvalidInput with everything that is wrong."""
    problems = Problems()
    provider_type = given.get("providerType")
    if provider_type not in _TYPES:
        problems.add("/providerType", f"Must be one of {', '.join(_TYPES)}.")
        provider_type = ""
    if "apiKey" not in given:
        problems.add("/apiKey", "Required: the provider's key.")
    if provider_type == ProviderType.OPENAI_COMPATIBLE:
        for field in ("name", "baseUrl"):
            if given.get(field) is None:
                problems.add(f"/{field}", "Required for openai_compatible.")
    problems.unknown(given, {"providerType", "apiKey", "limits", *_PLAIN})
    return _checked(given, str(provider_type), problems)


def as_change(given: Mapping[str, Any], provider_type: str) -> ConnectionInput:
    """The input of PATCH for a connection of this type. Raises InvalidInput with everything that is wrong."""
    problems = Problems()
    if given.get("providerType", provider_type) != provider_type:
        problems.add("/providerType", "Cannot be changed; create another provider.")
    if provider_type == ProviderType.OPENAI_COMPATIBLE:
        for field in ("name", "baseUrl"):
            if field in given and given[field] is None:
                problems.add(f"/{field}", "Required for openai_compatible.")
    problems.unknown(given, {"providerType", "apiKey", "limits", *_PLAIN})
    return _checked(given, provider_type, problems)


def _checked(given: Mapping[str, Any], provider_type: str, problems: Problems) -> ConnectionInput:
    found: dict[str, Any] = {here: None for name, here in _PLAIN.items() if name in given}
    if "apiKey" in given:
        key = problems.text(given["apiKey"], "/apiKey", longest=4096)
        if key is not None and not _HEADER_TEXT.match(key):
            problems.add("/apiKey", "Must be visible ASCII characters without spaces.")
        elif key is not None:
            found["api_key"] = Secret(key)
    if given.get("name") is not None:
        name = found["name"] = problems.text(given["name"], "/name", longest=100)
        if provider_type == ProviderType.OPENAI_COMPATIBLE and name is not None:
            if not _COMPATIBLE_NAME.match(name):
                problems.add("/name", "Must be 1 to 64 letters, digits, '.', '_' or '-'.")
            elif name in _TYPES:
                problems.add("/name", "Is the name of a provider type; choose another.")
    elif "name" in given:
        found["name"] = ""
    if given.get("organization") is not None:
        text = found["organization"] = problems.text(given["organization"], "/organization", longest=200)
        if text is not None and not _HEADER_TEXT.match(text):
            problems.add("/organization", "Must be visible ASCII characters without spaces.")
    if given.get("baseUrl") is not None:
        found["base_url"] = _base_url(given["baseUrl"], problems)
    _limits(given, found, problems)
    if problems:
        raise InvalidInput(list(problems))
    return ConnectionInput(given=frozenset(found), provider_type=provider_type, **found)


def _base_url(value: Any, problems: Problems) -> str | None:
    text = problems.text(value, "/baseUrl", longest=1000)
    if text is None:
        return None
    if "?" in text:
        problems.add("/baseUrl", "Must not have a query (?...).")
        return None
    try:
        egress.check(text)
    except AddressRefused as error:
        problems.add("/baseUrl", error.detail)
        return None
    return text.rstrip("/")


def _limits(given: Mapping[str, Any], found: dict[str, Any], problems: Problems) -> None:
    """Each limit that is given, null to take it away; `limits: null` takes all away."""
    if "limits" not in given:
        return
    limits = given["limits"]
    if limits is None:
        limits = dict.fromkeys(_LIMITS)
    if not isinstance(limits, Mapping):
        problems.add("/limits", "Must be an object.")
        return
    problems.unknown(limits, set(_LIMITS), "/limits")
    for name, (here, most) in _LIMITS.items():
        if name in limits:
            value = limits[name]
            found[here] = None if value is None else problems.whole_number(value, f"/limits/{name}", most=most)
