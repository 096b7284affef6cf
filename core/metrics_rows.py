"""Counters of completions that have ended, moved by the very sums that statistics are written from.

They count when the transaction has committed. Only a commit whose reply is lost is missed here and not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prometheus_client import Counter

from core import metrics_labels as labels
from core.metrics_labels import tenants
from core.states import RowStatus

if TYPE_CHECKING:
    from core.rollup import Key, Sum

_KIND = ["provider", "model", "processing"]

ENDED = Counter("llm_service_completions_total", "Completions that have ended.", [*_KIND, "status"])
FAILED = Counter(
    "llm_service_completion_failures_total",
    "Completions that ended without an answer, by the reason that their results give.",
    ["provider", "processing", "reason"],
)
TOKENS = Counter(
    "llm_service_tokens_total",
    "Tokens of completions that have ended. `cached` and `cache_write` are parts of `input`, `reasoning` of `output`.",
    [*_KIND, "type"],
)
COST = Counter("llm_service_cost_usd_total", "What completions cost, in US dollars.", _KIND)
SAVINGS = Counter(
    "llm_service_savings_usd_total", "What native batches saved against the list price, in US dollars.", _KIND
)
UNPRICED = Counter("llm_service_unpriced_completions_total", "Answers of models whose price is unknown.", ["provider"])
CALLS = Counter("llm_service_completion_calls_total", "Provider calls that completions took.", ["provider"])
TENANT_ENDED = Counter(
    "llm_service_tenant_completions_total", "Completions that have ended, by tenant (opt-in).", ["tenant", "status"]
)
TENANT_TOKENS = Counter(
    "llm_service_tenant_tokens_total", "Tokens of completions, by tenant (opt-in).", ["tenant", "type"]
)
TENANT_COST = Counter("llm_service_tenant_cost_usd_total", "What completions cost, by tenant (opt-in).", ["tenant"])

_TOKENS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cached": "cached_tokens",
    "cache_write": "cache_write_tokens",
    "reasoning": "reasoning_tokens",
}


def count(sums: Mapping[Key, Sum]) -> None:
    """Count what one committed transaction ended."""
    for key, found in sums.items():
        provider = labels.provider(key.provider)
        kind = (provider, labels.model(key.model, key.provider), key.processing)
        ENDED.labels(*kind, key.status).inc(found.requests)
        if key.error_type and key.status != RowStatus.SUCCEEDED:
            FAILED.labels(provider, key.processing, key.error_type).inc(found.requests)
        for name, field in _TOKENS.items():
            TOKENS.labels(*kind, name).inc(getattr(found, field))
        # Zeros too: a series that begins with its first event hides that event from rate() and increase().
        COST.labels(*kind).inc(float(found.cost_usd))
        SAVINGS.labels(*kind).inc(max(0.0, float(found.savings_usd)))
        UNPRICED.labels(provider).inc(found.unpriced)
        CALLS.labels(provider).inc(found.attempts)
        _count_tenant(key, found)


def _count_tenant(key: Key, found: Sum) -> None:
    tenant = tenants.label(found.tenant_id)
    if tenant is None:
        return
    TENANT_ENDED.labels(tenant, key.status).inc(found.requests)
    for name in ("input", "output"):
        TENANT_TOKENS.labels(tenant, name).inc(getattr(found, _TOKENS[name]))
    TENANT_COST.labels(tenant).inc(float(found.cost_usd))
