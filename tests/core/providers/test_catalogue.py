"""The catalogue: records of listed models, dated snapshots, and guesses that refuse nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import catalogue
from core.catalogue import Support


@pytest.mark.parametrize(
    ("model", "name", "provider"),
    [
        ("gpt-4o", "gpt-4o", "openai"),
        ("gpt-4o-2024-08-06", "gpt-4o", "openai"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini", "openai"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5", "anthropic"),
        ("claude-haiku-4-5", "claude-haiku-4-5", "anthropic"),
        ("ft:gpt-4o-mini-2024-07-18:org::id", "gpt-4o-mini", "openai"),
    ],
)
def test_listed_models_and_their_snapshots(model, name, provider):
    found = catalogue.find(model)
    assert (found.id, found.name, found.provider, found.known) == (model, name, provider, True)


@pytest.mark.parametrize(
    ("model", "provider", "sampling", "max_output"),
    [
        ("gpt-4", "openai", Support.ALWAYS, 8192),
        ("gpt-4-turbo", "openai", Support.ALWAYS, 4096),
        ("gpt-3.5-turbo-0125", "openai", Support.ALWAYS, 4096),
        ("o1", "openai", Support.UNKNOWN, None),
        ("gpt-9", "openai", Support.UNKNOWN, None),
        ("claude-3-5-sonnet-20241022", "anthropic", Support.ALWAYS, 8192),
        ("claude-opus-4-1-20250805", "anthropic", Support.ALWAYS, 32_000),
        ("claude-nova-7", "anthropic", Support.UNKNOWN, None),
        ("mistral-large", "openai_compatible", Support.ALWAYS, None),
    ],
)
def test_families_of_unlisted_models(model, provider, sampling, max_output):
    found = catalogue.find(model)
    assert (found.provider, found.known, found.sampling) == (provider, False, sampling)
    assert found.max_output_tokens == max_output


def test_a_familiar_name_on_a_compatible_server_promises_nothing():
    found = catalogue.find("gpt-4o", "openai_compatible")
    assert (found.known, found.provider, found.max_output_tokens) == (False, "openai_compatible", None)


@pytest.mark.parametrize(
    ("model", "sampling", "tools", "default_effort"),
    [
        ("gpt-4.1", Support.ALWAYS, Support.ALWAYS, None),
        ("gpt-5", Support.NEVER, Support.ALWAYS, None),
        ("gpt-5.2", Support.EFFORT_NONE, Support.ALWAYS, "none"),
        ("gpt-5.4", Support.EFFORT_NONE, Support.EFFORT_NONE, "none"),
        ("gpt-5.5", Support.EFFORT_NONE, Support.EFFORT_NONE, None),
        ("gpt-6.1-terra", Support.EFFORT_NONE, Support.EFFORT_NONE, None),
        ("gpt-6.2-sol", Support.NEVER, Support.NEVER, None),
        ("o3", Support.NEVER, Support.ALWAYS, None),
    ],
)
def test_the_family_table_of_openai(model, sampling, tools, default_effort):
    found = catalogue.find(model)
    assert (found.sampling, found.chat_tools, found.default_effort) == (sampling, tools, default_effort)


def test_every_listed_model_has_limits_and_a_vendor():
    for found in catalogue.models():
        assert found.known
        assert found.provider == catalogue.provider_of(found.id)
        assert found.max_output_tokens
        assert found.context_tokens
    assert {found.provider for found in catalogue.models("anthropic")} == {"anthropic"}


def test_only_other_snapshots_may_have_other_prices():
    assert catalogue.is_dated_variant("gpt-4o-2024-05-13")
    assert not catalogue.is_dated_variant("gpt-4o-2024-08-06")
    assert not catalogue.is_dated_variant("gpt-4o")


@given(st.text(), st.sampled_from([None, "openai", "anthropic", "openai_compatible"]))
def test_no_name_makes_a_look_up_fail(model, provider):
    assert catalogue.find(model, provider).id == model
    catalogue.entry(model)
