"""Who answers a request: the project's mapping, then an explicit prefix, then the catalogue of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core import catalogue
from core.errors import FieldError, InvalidInput
from core.states import ProviderType


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRef:
    """One configured provider of a project, as far as routing needs to know it.

    `state` is "active" for one that works; any other connection is used only if none of its kind is active, so that
    a caller hears why it stopped instead of that there is none.
    """

    id: str
    provider_type: str
    name: str = ""
    state: str = "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a model mapping leads: a model, with the provider if its name does not say it.

    `provider` is a provider type or the name of an openai_compatible connection.
    """

    model: str
    provider: str | None = None
    fallbacks: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One choice: which connection is called, by which protocol, with which model name."""

    connection: ConnectionRef
    provider: str
    model: str


def route(model: str, *, mapping: Mapping[str, Target] | None = None, connections: Sequence[ConnectionRef]) -> Route:
    """The route for `model`. Raises InvalidInput: nobody serves it, or its provider is not configured (API.md 3).

    `mapping` is the project's, by alias. What a mapping leads to is not mapped again, so an alias may carry a real
    model's name.
    """
    target = mapping.get(model) if mapping else None
    if target is not None:
        return _route(target.model, target.provider, connections)
    return _route(model, None, connections)


def fallbacks(
    model: str, *, mapping: Mapping[str, Target] | None = None, connections: Sequence[ConnectionRef]
) -> list[Route]:
    """The routes to try, in order, when the one of `route` is down. Targets that are not configured are left out."""
    target = mapping.get(model) if mapping else None
    found = []
    for each in target.fallbacks if target else ():
        try:
            found.append(_route(each.model, each.provider, connections))
        except InvalidInput:
            continue
    return found


def _route(model: str, provider: str | None, connections: Sequence[ConnectionRef]) -> Route:
    if provider is None:
        prefix, slash, rest = model.partition("/")
        if slash and rest and (prefix in _TYPES or _named(prefix, connections)):
            provider, model = prefix, rest
    elif model.startswith(f"{provider}/"):
        model = model[len(provider) + 1 :]
    if provider is not None:
        connection = _named(provider, connections) or _first(provider, connections)
        if connection is None:
            raise _not_configured(model, provider, connections)
        return Route(connection=connection, provider=connection.provider_type, model=model)
    vendor = catalogue.provider_of(model)
    if vendor is not None:
        connection = _first(vendor, connections)
        if connection is None:
            raise _not_configured(model, vendor, connections)
        return Route(connection=connection, provider=vendor, model=model)
    compatible = [each for each in connections if each.provider_type == ProviderType.OPENAI_COMPATIBLE]
    if len(compatible) == 1:
        return Route(connection=compatible[0], provider=compatible[0].provider_type, model=model)
    raise _nobody_serves(model, connections)


_TYPES = frozenset(each.value for each in ProviderType)


def _first(provider_type: str, connections: Sequence[ConnectionRef]) -> ConnectionRef | None:
    """The active connection of a type, or else one that is not."""
    found = None
    for each in connections:
        if each.provider_type == provider_type:
            if each.state == "active":
                return each
            found = found or each
    return found


def _named(name: str, connections: Sequence[ConnectionRef]) -> ConnectionRef | None:
    """The openai_compatible connection of that name; the vendors' own names always mean the vendors."""
    if name in _TYPES:
        return None
    for each in connections:
        if each.name == name and each.provider_type == ProviderType.OPENAI_COMPATIBLE:
            return each
    return None


def _shown(model: str) -> str:
    return model if len(model) <= 80 else model[:79] + "…"


def _configured(connections: Sequence[ConnectionRef]) -> str:
    names = dict.fromkeys(
        each.name if each.name and each.provider_type == ProviderType.OPENAI_COMPATIBLE else each.provider_type
        for each in connections
    )
    return ", ".join(names) or "none"


def _nobody_serves(model: str, connections: Sequence[ConnectionRef]) -> InvalidInput:
    message = (
        f"No provider serves the model '{_shown(model)}'. Configured providers: {_configured(connections)}. "
        "Use one of their models, name the provider as in openai/MODEL, or create a model mapping."
    )
    return InvalidInput([FieldError("/model", message)], message)


def _not_configured(model: str, provider: str, connections: Sequence[ConnectionRef]) -> InvalidInput:
    if provider == ProviderType.OPENAI_COMPATIBLE or provider not in _TYPES:
        how = '{"providerType": "openai_compatible", "name": "...", "baseUrl": "https://...", "apiKey": "..."}'
    else:
        how = f'{{"providerType": "{provider}", "apiKey": "..."}}'
    message = (
        f"The model '{_shown(model)}' is served by {_shown(provider)}, which is not configured for this project. "
        f"Configure it with POST /v1/providers {how}. Configured providers: {_configured(connections)}."
    )
    return InvalidInput([FieldError("/model", message)], message)
