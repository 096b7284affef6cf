"""What sums of rows cost: long prompts, tiers, parts of the output."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from decimal import Decimal

import orjson
import pytest

from core import identity, pricing
from core.batches import reading
from core.batches.options import BatchOptions
from core.estimates import estimate
from core.estimates.forecast import Sums
from core.providers.types import Usage
from core.routing import ConnectionRef, Route

CONNECTION = ConnectionRef(id="00000000-0000-7000-8000-000000000001", provider_type="openai")


def _sums(model: str, provider: str = "openai", *, names_tier: bool = False) -> Sums:
    return Sums(Route(connection=CONNECTION, provider=provider, model=model), names_tier=names_tier)


def _body(**fields: object) -> bytes:
    return orjson.dumps({"model": "m", "messages": [], **fields})


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o"),
        ("openai", "gpt-5.4"),
        ("anthropic", "claude-sonnet-4-5"),
        ("anthropic", "claude-haiku-4-5"),
    ],
)
@pytest.mark.parametrize("batch", [False, True])
def test_a_sum_costs_what_its_rows_cost(provider: str, model: str, batch: bool) -> None:
    # given rows below and above any long-context threshold
    sizes = [(10, 20), (199_999, 7), (200_001, 9), (300_000, 1000), (12, 0)]
    sums = _sums(model, provider)
    for size in sizes:
        sums.add(_body(max_tokens=9), *size)
    # then together they cost what each costs by itself
    each = [
        pricing.price(provider, model, Usage(input_tokens=i, output_tokens=o), batch=batch).cost_usd for i, o in sizes
    ]
    assert sums.cost(batch=batch) == sum((cost for cost in each if cost is not None), Decimal(0))
    assert sums.cost(batch=batch)


def test_a_long_context_model_is_among_those() -> None:
    card = pricing.card_for("openai", "gpt-5.4")
    assert card is not None
    assert card.long_above is not None


def test_a_tier_has_its_price_in_real_time() -> None:
    sums = _sums("gpt-5.4", names_tier=True)
    sums.add(_body(service_tier="flex", max_tokens=10), 1000, 10)
    sums.add(_body(service_tier="priority", max_tokens=10), 1000, 10)
    usage = Usage(input_tokens=1000, output_tokens=10)
    costs = [pricing.price("openai", "gpt-5.4", usage, service_tier=tier).cost_usd for tier in ("flex", "priority")]
    assert costs[0] is not None
    assert costs[1] is not None
    assert costs[0] < costs[1]
    assert sums.cost(batch=False) == costs[0] + costs[1]


def test_rows_without_a_limit_are_counted_and_text_is_no_limit() -> None:
    sums = _sums("gpt-4o")
    sums.add(_body(max_tokens=5), 1, 5)
    sums.add(_body(max_completion_tokens=5), 1, 5)
    sums.add(_body(user='"max_tokens": 5'), 1, 1000)
    sums.add(_body(tools=[{"max_tokens": 5}]), 1, 1000)
    assert sums.without_limit == 2


def test_part_of_the_output_costs_part() -> None:
    sums = _sums("gpt-4o-mini")
    sums.add(_body(), 0, 1_000_000)
    assert sums.cost(batch=False) == Decimal("0.6")
    assert sums.cost(batch=False, output_share=0.5) == Decimal("0.3")
    assert _sums("llama", "openai_compatible").cost(batch=True) is None


def test_a_large_body_of_lines_does_not_stay_in_memory(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = identity.create_tenant("t")
    project = identity.create_project(tenant.id, "p")
    principal = identity.Principal(tenant.id, project.id, project.id)
    found = Route(connection=CONNECTION, provider="openai", model="gpt-4o-mini")
    monkeypatch.setattr(
        reading.Router, "find", lambda self, model: (found, reading.catalogue.find("gpt-4o-mini", "openai"))
    )
    lines = 4000
    text = "a" * 10_000

    def body() -> Iterator[bytes]:
        for _ in range(lines):
            yield _body(model="gpt-4o-mini", messages=[{"role": "user", "content": text}])

    # given 40 MB of rows
    estimate.estimate(principal, [_body(model="x", messages=[{"role": "user", "content": "x"}])], BatchOptions())
    tracemalloc.start()
    try:
        answered = estimate.estimate(principal, body(), BatchOptions(), ndjson=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # then no more than a chunk of them was held at a time
    assert answered["rows"] == lines
    assert peak < 16 << 20
