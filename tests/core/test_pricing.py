"""Prices: exact sums against the reference's arithmetic, tiers, batches, fallbacks."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import catalogue
from core.pricing import UNKNOWN_VERSION, card_for, ceiling, price, rate_card
from core.providers.types import Usage

LISTED = [(info.provider, info.id) for info in catalogue.models()]
D = Decimal


@pytest.mark.parametrize(
    ("provider", "model", "usage", "cost", "batch_cost"),
    [
        ("openai", "gpt-4o", Usage(input_tokens=1_000_000, output_tokens=1_000_000), "12.5", "6.25"),
        ("openai", "gpt-4o", Usage(input_tokens=1000, cached_tokens=400), "0.002", "0.001"),
        ("openai", "gpt-4o-2024-08-06", Usage(input_tokens=1000), "0.0025", "0.00125"),
        ("openai", "gpt-4o-2024-05-13", Usage(input_tokens=1000), "0.005", "0.0025"),
        ("openai", "gpt-6-luna", Usage(input_tokens=1000, cache_write_tokens=1000), "0.000125", "0.0000625"),
        ("openai", "gpt-6-luna", Usage(input_tokens=272_000, output_tokens=1000), "0.0277", "0.01385"),
        ("openai", "gpt-6-luna", Usage(input_tokens=272_001, output_tokens=1000), "0.0551502", "0.0275751"),
        ("openai", "gpt-5.5-pro", Usage(input_tokens=10, cached_tokens=10), "0.0003", "0.00015"),
        ("anthropic", "claude-sonnet-4-5", Usage(input_tokens=1000, output_tokens=100), "0.0045", "0.00225"),
        (
            "anthropic",
            "claude-sonnet-4-5-20250929",
            Usage(input_tokens=1000, cached_tokens=500, cache_write_tokens=200, cache_write_1h_tokens=100),
            "0.0021",
            "0.00105",
        ),
        (
            "anthropic",
            "claude-haiku-5-5",
            Usage(input_tokens=100_001, cache_write_1h_tokens=100_001),
            "0.100001",
            "0.0500005",
        ),
        ("openai", "gpt-4", Usage(input_tokens=1000, output_tokens=1000), "0.09", "0.045"),
        ("openai", "gpt-4-turbo", Usage(input_tokens=1000, output_tokens=1000), "0.04", "0.02"),
        ("openai", "gpt-3.5-turbo", Usage(input_tokens=1000, output_tokens=1000), "0.002", "0.001"),
    ],
)
def test_costs(provider, model, usage, cost, batch_cost):
    found = price(provider, model, usage)
    assert (found.cost_usd, found.list_cost_usd) == (D(cost), D(cost))
    batch = price(provider, model, usage, batch=True)
    assert (batch.cost_usd, batch.list_cost_usd) == (D(batch_cost), D(cost))


@pytest.mark.parametrize(
    ("tier", "cost"),
    [
        (None, "0.002"),
        ("default", "0.002"),
        ("standard", "0.002"),
        ("flex", "0.001"),
        ("priority", "0.004"),
        ("fast", "0.004"),
        ("batch", "0.001"),
    ],
)
def test_service_tiers(tier, cost):
    found = price("openai", "gpt-6-sol", Usage(input_tokens=1000), service_tier=tier)
    assert (found.cost_usd, found.list_cost_usd) == (D(cost), D("0.002"))


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "zzz"), ("openai_compatible", "gpt-4o"), ("openai", "ft:gpt-4o:o::i"), ("openai", ""), ("x", "\x00")],
)
def test_an_unknown_price_is_none_and_never_an_error(provider, model):
    found = price(provider, model, Usage(input_tokens=1))
    assert (found.cost_usd, found.list_cost_usd, found.version) == (None, None, UNKNOWN_VERSION)
    assert ceiling(provider, model, 1, 1) == 0


def test_versions_name_their_list():
    assert price("openai", "gpt-4o", Usage()).version == catalogue.VERSION
    assert price("openai", "gpt-4", Usage()).version == "genai-prices-0.2.3"


def test_a_tenants_own_prices_go_first():
    card = rate_card({"input_per_mtok_usd": "1", "output_per_mtok_usd": "2"}, version="mine-1")
    usage = Usage(input_tokens=1000, output_tokens=1000, cached_tokens=1000)
    found = price("openai_compatible", "llama", usage, overrides={"llama": card})
    assert (found.cost_usd, found.version) == (D("0.003"), "mine-1")
    assert price("openai", "gpt-4o", usage, overrides={"gpt-4o": card}, batch=True).cost_usd == D("0.0015")
    assert ceiling("openai", "gpt-4o", 1000, 1000, overrides={"gpt-4o": card}) == D("0.003")


def test_every_listed_model_has_the_price_that_the_list_says():
    for provider, model in LISTED:
        entry = catalogue.entry(model)
        one = Usage(input_tokens=1000, output_tokens=10)
        expected = (D(str(entry["input_per_mtok_usd"])) * 1000 + D(str(entry["output_per_mtok_usd"])) * 10) / 1_000_000
        assert price(provider, model, one).cost_usd == expected, model


COUNT = st.integers(0, 2_000_000)
USAGES = st.builds(
    Usage,
    input_tokens=COUNT,
    output_tokens=COUNT,
    cached_tokens=COUNT,
    cache_write_tokens=COUNT,
    cache_write_1h_tokens=COUNT,
)


@given(st.sampled_from([*LISTED, ("openai", "gpt-4"), ("anthropic", "claude-3-5-sonnet-20241022")]), USAGES)
def test_costs_are_exact_to_ten_decimals_and_batches_never_dearer(listed, usage):
    provider, model = listed
    real_time, batch = price(provider, model, usage), price(provider, model, usage, batch=True)
    assert real_time.cost_usd >= batch.cost_usd >= 0
    assert real_time.cost_usd == real_time.list_cost_usd == batch.list_cost_usd
    assert real_time.cost_usd.as_tuple().exponent == -10


@given(st.sampled_from(LISTED), COUNT, COUNT, st.booleans(), st.data())
def test_a_ceiling_is_never_below_the_cost(listed, input_tokens, output_tokens, batch, data):
    provider, model = listed
    cached = data.draw(st.integers(0, input_tokens))
    written = data.draw(st.integers(0, input_tokens - cached))
    usage = Usage(
        input_tokens=input_tokens,
        output_tokens=data.draw(st.integers(0, output_tokens)),
        cached_tokens=cached,
        cache_write_tokens=written,
    )
    assert (
        ceiling(provider, model, input_tokens, output_tokens, batch=batch)
        >= price(provider, model, usage, batch=batch).cost_usd
    )


def test_the_ceiling_of_a_batch_row_covers_a_cache_write_for_an_hour():
    card = card_for("anthropic", "claude-haiku-4-5")
    dearest = Usage(input_tokens=1000, cache_write_1h_tokens=1000, output_tokens=10)
    assert ceiling("anthropic", "claude-haiku-4-5", 1000, 10, batch=True) == card.batch.cost(dearest)


THOUSAND = Usage(input_tokens=1000, output_tokens=1000)


@pytest.mark.parametrize(
    ("model", "told", "cost", "list_cost"),
    [
        # 4 and 20 USD a million
        ("claude-opus-5-5", {}, "0.024", "0.024"),
        ("claude-opus-5-5", {"speed": "standard", "inference_geo": "global"}, "0.024", "0.024"),
        ("claude-opus-5-5", {"speed": "fast"}, "0.048", "0.024"),
        ("claude-opus-5-5", {"inference_geo": "us"}, "0.0264", "0.0264"),
        ("claude-opus-5-5", {"speed": "fast", "inference_geo": "us"}, "0.0528", "0.0264"),
        ("claude-opus-5-5", {"batch": True, "inference_geo": "us"}, "0.0132", "0.0264"),
        # Nobody says what fast costs there; where it runs makes no difference
        ("claude-haiku-4-5", {"speed": "fast"}, None, "0.006"),
        ("claude-haiku-4-5", {"inference_geo": "us"}, "0.006", "0.006"),
    ],
)
def test_speed_and_place_of_claudes_answers(model, told, cost, list_cost):
    found = price("anthropic", model, THOUSAND, **told)
    assert found.cost_usd == (None if cost is None else D(cost))
    assert found.list_cost_usd == D(list_cost)


@pytest.mark.parametrize(
    ("provider", "model", "asked", "factor"),
    [
        ("anthropic", "claude-opus-5-5", {"speed": "fast", "inference_geo": "us"}, "2.2"),
        ("anthropic", "claude-opus-5-5", {"speed": "standard", "inference_geo": "global"}, "1"),
        ("openai", "gpt-6-sol", {"service_tier": "priority"}, "2"),
        # A cheaper tier may be full
        ("openai", "gpt-6-sol", {"service_tier": "flex"}, "1"),
        ("openai", "gpt-6-sol", {"service_tier": "auto"}, "1"),
    ],
)
def test_a_ceiling_knows_what_was_asked_for(provider, model, asked, factor):
    plain = ceiling(provider, model, 1000, 1000)
    assert ceiling(provider, model, 1000, 1000, **asked) == plain * D(factor)
