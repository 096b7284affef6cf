"""What a PromQL query asks for: the metrics it names, and the labels it expects of each."""

from __future__ import annotations

import re
from collections.abc import Iterator

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_RANGE = re.compile(r"\[[^\]]*\]")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_MATCHERS = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}")
_NAME = re.compile(r"(?<![\w.$:])[a-zA-Z_:][a-zA-Z0-9_:]*")
_WORDS = frozenset(
    [
        "sum",
        "max",
        "min",
        "avg",
        "count",
        "rate",
        "increase",
        "delta",
        "histogram_quantile",
        "vector",
        "time",
        "absent",
        "and",
        "or",
        "unless",
        "on",
        "bool",
        "offset",
        "by",
        "without",
        "ignoring",
        "group_left",
        "group_right",
    ]
)
#: Names that Prometheus itself makes.
_OF_PROMETHEUS = frozenset({"up"})


def metrics_of(query: str) -> set[str]:
    """The names of the metrics in a query, those of recording rules included."""
    bare = _GROUPING.sub(" ", _RANGE.sub(" ", _STRING.sub('""', query)))
    bare = re.sub(r"\{[^}]*\}", " ", bare)
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    return {name for name in _NAME.findall(bare) if name not in _WORDS | _OF_PROMETHEUS}


def labels_of(query: str) -> Iterator[tuple[str, str]]:
    """(metric, label) of each matcher in a query, and (empty, label) of each label that something is grouped by."""
    for name, inside in _MATCHERS.findall(_STRING.sub('""', query)):
        for matcher in inside.split(","):
            if matcher.strip():
                yield name, re.split(r"[=!~]", matcher, maxsplit=1)[0].strip()
    for inside in _GROUPING.findall(query):
        for label in inside.split(","):
            if label.strip():
                yield "", label.strip()


def with_variables(query: str) -> str:
    """A dashboard's query as Grafana would send it, with everything chosen."""
    return (
        query.replace("$__rate_interval", "1m")
        .replace("$__range", "1h")
        .replace("$provider", ".*")
        .replace("$tenant", ".*")
    )
