"""What is read out of a query: a name that is overlooked is a panel that nobody checks."""

from __future__ import annotations

import pytest

from tests.monitoring.promql import labels_of, metrics_of


@pytest.mark.parametrize(
    ("query", "metrics", "labels"),
    [
        ("sum(a_total)", {"a_total"}, set()),
        ('max(a{state="live"}) == 0 and on () sum(b) > 0', {"a", "b"}, {("a", "state")}),
        (
            'histogram_quantile(0.95, sum by (route, le) (rate(a_bucket{route!~"by|x"}[5m])))',
            {"a_bucket"},
            {("a_bucket", "route"), ("", "route"), ("", "le")},
        ),
        ("a / on (p) group_left (q) b offset 1d", {"a", "b"}, {("", "p"), ("", "q")}),
        ("level:metric:rate5m > 1e3", {"level:metric:rate5m"}, set()),
        ("sum(max by (status) (a)) or vector(0)", {"a"}, {("", "status")}),
        ("time() - max(a_seconds) > 60", {"a_seconds"}, set()),
    ],
)
def test_names_and_labels(query: str, metrics: set[str], labels: set[tuple[str, str]]) -> None:
    assert metrics_of(query) == metrics
    assert set(labels_of(query)) == labels
