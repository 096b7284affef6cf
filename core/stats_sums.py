"""Sums of completions that ended, as statistics show them: counts, money, percentiles."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from core import histogram
from core.time_and_money import money_text

#: Columns of table `rollup` that are added up, by what they hold.
NUMBERS = (
    "requests",
    "attempts",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "unpriced",
)
MONEY = ("cost_usd", "savings_usd")
HISTOGRAMS = ("latency", "first_token")
#: How completions end: their requests are counted for each.
STATUSES = ("succeeded", "failed", "cancelled", "expired")
#: What a Sums counts, in the order of an answer.
COUNTS = (NUMBERS[0], *STATUSES, *NUMBERS[1:])

PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
_SHARES = tuple(PERCENTILES.values())


@dataclass(frozen=True, slots=True)
class Sums:
    """What was added up of some completions."""

    #: of COUNTS
    counts: Sequence[int]
    #: of MONEY
    money: Sequence[Decimal]
    #: of HISTOGRAMS
    histograms: Sequence[histogram.Counts]

    @classmethod
    def of(cls, values: Sequence[Any]) -> Sums:
        """From COUNTS, MONEY and HISTOGRAMS in a row; a histogram as PostgreSQL sends it, or None."""
        money, histograms = len(COUNTS), len(COUNTS) + len(MONEY)
        return cls(
            values[:money],
            values[money:histograms],
            [histogram.counts_of(sent) if sent else histogram.NOTHING for sent in values[histograms:]],
        )

    def figures(self) -> dict[str, Any]:
        """Counts, money and percentiles."""
        found = counts_of(self.counts, self.money)
        found["latency_ms"], found["time_to_first_token_ms"] = map(_percentiles, self.histograms)
        return found


def added(them: Collection[Sums]) -> Sums:
    """The sums of all together."""
    if not them:
        return NOTHING
    return Sums(
        [*map(sum, zip(*(one.counts for one in them), strict=True))],
        [sum(column, Decimal(0)) for column in zip(*(one.money for one in them), strict=True)],
        [histogram.added(column) for column in zip(*(one.histograms for one in them), strict=True)],
    )


def counts_of(counts: Sequence[int], money: Sequence[Decimal]) -> dict[str, Any]:
    """Counts and money of an answer, from values of COUNTS and MONEY."""
    found: dict[str, Any] = dict(zip(COUNTS, counts, strict=True))
    judged = found["succeeded"] + found["failed"]
    found["success_rate"] = round(found["succeeded"] / judged, 6) if judged else None
    found["cost_usd"], found["savings_usd"] = map(money_text, money)
    return found


def _percentiles(counts: histogram.Counts) -> dict[str, float | None]:
    found = histogram.percentiles(counts, _SHARES)
    return dict(zip(PERCENTILES, [value and round(value, 1) for value in found], strict=True))


NOTHING = Sums([0] * len(COUNTS), [Decimal(0)] * len(MONEY), [histogram.NOTHING] * len(HISTOGRAMS))
