"""What a call costs: exact decimal arithmetic over the catalogue's prices, with genai-prices behind it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any

from core import catalogue
from core.providers.types import Usage

#: ten decimals: a token of the cheapest model costs 2.5e-9 USD
_QUANTUM = Decimal("0.0000000001")
_MILLION = Decimal(1_000_000)
_HALF = Decimal("0.5")
_ZERO = Decimal(0)
_ONE = Decimal(1)

UNKNOWN_VERSION = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a call costs and what it would have cost in real time at the standard tier; None if no price is known.

    `version` names the price list, so that a cost can be explained later.
    """

    cost_usd: Decimal | None
    list_cost_usd: Decimal | None
    version: str


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per token of each kind."""

    input: Decimal
    cached: Decimal
    write: Decimal
    write_1h: Decimal
    output: Decimal

    def scaled(self, factor: Decimal, output_factor: Decimal | None = None) -> Rates:
        return Rates(
            self.input * factor,
            self.cached * factor,
            self.write * factor,
            self.write_1h * factor,
            self.output * (factor if output_factor is None else output_factor),
        )

    def cost(self, usage: Usage) -> Decimal:
        """The sum over a call's tokens. What a provider counted twice by mistake is never negative."""
        special = usage.cached_tokens + usage.cache_write_tokens + usage.cache_write_1h_tokens
        total = max(usage.input_tokens - special, 0) * self.input + usage.output_tokens * self.output
        if special:
            total += usage.cached_tokens * self.cached
            total += usage.cache_write_tokens * self.write + usage.cache_write_1h_tokens * self.write_1h
        return total.quantize(_QUANTUM, ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCard:
    """A model's rates: standard and batch, below and above the long-context threshold, and the tiers' factors."""

    version: str
    standard: Rates
    batch: Rates
    long_above: int | None = None
    long_standard: Rates | None = None
    long_batch: Rates | None = None
    #: tier -> factors on the input's and the output's rates
    tiers: Mapping[str, tuple[Decimal, Decimal]]
    #: Claude's factors on all rates: of speed "fast" (None: no price is known), and of inference in the US
    fast: Decimal | None = None
    us: Decimal = _ONE

    def rates(self, input_tokens: int, *, batch: bool) -> Rates:
        """The rates for a prompt of this size; above the threshold they hold for the whole request."""
        if self.long_above is not None and input_tokens > self.long_above:
            found = self.long_batch if batch else self.long_standard
            if found is not None:
                return found
        return self.batch if batch else self.standard


def price(
    provider: str,
    model: str,
    usage: Usage,
    *,
    batch: bool = False,
    service_tier: str | None = None,
    speed: str | None = None,
    inference_geo: str | None = None,
    overrides: Mapping[str, RateCard] | None = None,
) -> Price:
    """The price of `usage`, to ten decimals of a USD. Never raises for an unknown model: its cost is None.

    `batch`: run by the provider's batch API. `service_tier`: the tier the provider reports to have used (flex,
    priority, fast; others cost the standard price). `speed`, `inference_geo`: what Claude reports to have used ("fast",
    "us": dearer; others cost nothing more). `overrides`: a tenant's own cards by model name, see `rate_card`.
    Prices are those of PROVIDERS.md 7.
    """
    card = overrides.get(model) if overrides else None
    if card is None:
        card = card_for(provider, model)
        if card is None:
            return Price(cost_usd=None, list_cost_usd=None, version=UNKNOWN_VERSION)
    region = card.us if inference_geo == "us" else _ONE
    standard = card.rates(usage.input_tokens, batch=False)
    if region != _ONE:
        standard = standard.scaled(region)
    list_cost: Decimal = standard.cost(usage)
    cost: Decimal | None
    if service_tier == "batch":
        batch = True
    if batch:
        cost = card.rates(usage.input_tokens, batch=True).scaled(region).cost(usage)
    elif speed == "fast":
        cost = None if card.fast is None else standard.scaled(card.fast).cost(usage)
    elif service_tier is not None and service_tier in card.tiers:
        cost = standard.scaled(*card.tiers[service_tier]).cost(usage)
    else:
        cost = list_cost
    return Price(cost_usd=cost, list_cost_usd=list_cost, version=card.version)


def ceiling(
    provider: str,
    model: str,
    input_tokens: int,
    max_output_tokens: int,
    *,
    batch: bool = False,
    service_tier: str | None = None,
    speed: str | None = None,
    inference_geo: str | None = None,
    overrides: Mapping[str, RateCard] | None = None,
) -> Decimal:
    """The most a call of these sizes can cost, in USD: for reservations. Zero if no price is known.

    Every input token is taken at its dearest: as a cache write where the model charges more for it, in a batch as one
    for an hour, which is how rows are marked there (core/native/caching.py). `service_tier`, `speed` and
    `inference_geo` are those asked for; one that is cheaper may be answered at the standard price.
    """
    card = (overrides.get(model) if overrides else None) or card_for(provider, model)
    if card is None:
        return _ZERO
    rates = card.rates(input_tokens, batch=batch)
    if service_tier is not None and service_tier in card.tiers:
        rates = rates.scaled(*(max(factor, _ONE) for factor in card.tiers[service_tier]))
    if speed == "fast" and card.fast is not None:
        rates = rates.scaled(card.fast)
    if inference_geo == "us":
        rates = rates.scaled(card.us)
    dearest = max(rates.input, rates.write, rates.write_1h if batch else _ZERO)
    return (input_tokens * dearest + max_output_tokens * rates.output).quantize(_QUANTUM)


@lru_cache(maxsize=4096)
def card_for(provider: str, model: str) -> RateCard | None:
    """The rate card of a vendor's model: the catalogue's, else that of genai-prices; None if neither lists it.

    A compatible server's prices are its operator's affair: None, unless the tenant gives a card.
    """
    if provider not in ("openai", "anthropic"):
        return None
    if model.startswith("ft:"):
        # A fine-tuned model costs more than its base, and no list says how much.
        return None
    entry = catalogue.entry(model)
    if entry is None or entry["provider"] != provider or catalogue.is_dated_variant(model):
        # A dated snapshot may have had a price of its own (gpt-4o-2024-05-13): the finer list goes first.
        return _from_genai_prices(provider, model) or (rate_card(entry) if entry is not None else None)
    return rate_card(entry)


def rate_card(entry: Mapping[str, Any], version: str = catalogue.VERSION) -> RateCard:
    """A card from an entry in the form of models.json: USD per million tokens. Also for a tenant's own prices.

    Required are input_per_mtok_usd and output_per_mtok_usd. What is absent follows from them: cached input and cache
    writes cost what input does, batches half. Raises KeyError or decimal.InvalidOperation for an unusable entry.
    """
    standard = _rates(entry, "")
    long = entry.get("long_context")
    long_standard = long_batch = None
    if long:
        scaled = dict(long)
        if entry.get("cache_write_1h_per_mtok_usd") and entry.get("cache_write_per_mtok_usd"):
            factor = standard.write_1h / standard.write
            dear = long.get("cache_write_per_mtok_usd") or long["input_per_mtok_usd"]
            scaled.setdefault("cache_write_1h_per_mtok_usd", _decimal(dear) * factor)
        long_standard = _rates(scaled, "")
        long_batch = _batch_rates(scaled, long_standard)
    tiers = {}
    for tier, prefix in (("flex", "flex"), ("priority", "priority"), ("fast", "priority")):
        dear_input = entry.get(f"{prefix}_input_per_mtok_usd")
        dear_output = entry.get(f"{prefix}_output_per_mtok_usd")
        if dear_input and dear_output and standard.input and standard.output:
            tiers[tier] = (
                _decimal(dear_input) / _MILLION / standard.input,
                _decimal(dear_output) / _MILLION / standard.output,
            )
    return RateCard(
        version=version,
        standard=standard,
        batch=_batch_rates(entry, standard),
        long_above=long["above_input_tokens"] if long else None,
        long_standard=long_standard,
        long_batch=long_batch,
        tiers=tiers,
        fast=_decimal(entry["fast_mode_multiplier"]) if "fast_mode_multiplier" in entry else None,
        us=_decimal(entry.get("inference_geo_us_multiplier", 1)),
    )


def _decimal(value: Any) -> Decimal:
    """A price as written: through its shortest decimal text, so that 0.1 is a tenth."""
    return value if isinstance(value, Decimal) else Decimal(str(value))


def _rates(entry: Mapping[str, Any], prefix: str) -> Rates:
    base = _decimal(entry[f"{prefix}input_per_mtok_usd"])
    write = entry.get(f"{prefix}cache_write_per_mtok_usd")
    cached = entry.get(f"{prefix}cached_input_per_mtok_usd")
    write_rate = base if write is None else _decimal(write)
    write_1h = entry.get(f"{prefix}cache_write_1h_per_mtok_usd")
    return Rates(
        base / _MILLION,
        (base if cached is None else _decimal(cached)) / _MILLION,
        write_rate / _MILLION,
        (write_rate if write_1h is None else _decimal(write_1h)) / _MILLION,
        _decimal(entry[f"{prefix}output_per_mtok_usd"]) / _MILLION,
    )


def _batch_rates(entry: Mapping[str, Any], standard: Rates) -> Rates:
    """Half of the rate that applies, cache included, unless the entry names the batch price."""
    half = standard.scaled(_HALF)

    def rate(field: str, otherwise: Decimal) -> Decimal:
        found = entry.get(field)
        return otherwise if found is None else _decimal(found) / _MILLION

    return Rates(
        rate("batch_input_per_mtok_usd", half.input),
        rate("batch_cached_input_per_mtok_usd", half.cached),
        rate("batch_cache_write_per_mtok_usd", half.write),
        half.write_1h,
        rate("batch_output_per_mtok_usd", half.output),
    )


def _from_genai_prices(provider: str, model: str) -> RateCard | None:
    """A card from the data that genai-prices carries; None if it lists no such model."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, found = get_snapshot().find_provider_model(model, None, provider, None)
        prices = found.get_prices(datetime.now(tz=UTC))
    except LookupError:
        return None
    flat: dict[str, Any] = {}
    above: dict[str, Any] = {}
    threshold = None
    for ours, theirs in (
        ("input_per_mtok_usd", "input_mtok"),
        ("cached_input_per_mtok_usd", "cache_read_mtok"),
        ("cache_write_per_mtok_usd", "cache_write_mtok"),
        ("output_per_mtok_usd", "output_mtok"),
    ):
        value = getattr(prices, theirs, None)
        if value is None:
            continue
        tiers = getattr(value, "tiers", None)
        flat[ours] = above[ours] = value.base if tiers is not None else value
        if tiers:
            threshold, above[ours] = tiers[0].start, tiers[0].price
    if model.startswith("text-embedding-"):
        # They have no output.
        flat.setdefault("output_per_mtok_usd", Decimal(0))
    if "input_per_mtok_usd" not in flat or "output_per_mtok_usd" not in flat:
        return None
    entry: dict[str, Any] = dict(flat)
    if threshold is not None:
        entry["long_context"] = {**above, "above_input_tokens": threshold}
    return rate_card(entry, "genai-prices-" + importlib.metadata.version("genai-prices"))
