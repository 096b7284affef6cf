"""/v1/stats: what a project's completions used and cost, how fast they were, over time."""

from __future__ import annotations

from typing import Any

from flask import Response

from app import auth
from app.answers import answer
from app.log_schemas import StatsQuery, StatsSchema
from app.openapi import Blueprint
from app.resources.logs import own_project
from core import stats

blueprint = Blueprint("statistics", "What completions used and cost, and how fast they were")

_FIGURES = {
    "requests": 1000,
    "succeeded": 995,
    "failed": 5,
    "cancelled": 0,
    "expired": 0,
    "attempts": 1012,
    "input_tokens": 12000,
    "output_tokens": 2000,
    "cached_tokens": 0,
    "reasoning_tokens": 0,
    "unpriced": 0,
    "success_rate": 0.995,
    "cost_usd": "0.003",
    "savings_usd": "0",
    "latency_ms": {"p50": 411.7, "p95": 1203.2, "p99": 2023.6},
    "time_to_first_token_ms": {"p50": None, "p95": None, "p99": None},
}
_EXAMPLE = {
    "from": "2026-11-23T00:00:00.000000Z",
    "to": "2026-11-24T00:00:00.000000Z",
    "interval": "day",
    "group_by": "status",
    "totals": _FIGURES,
    "by_model": {"gpt-4o-mini": _FIGURES},
    "groups": {"succeeded": {**_FIGURES, "requests": 995, "failed": 0, "success_rate": 1.0}},
    "series": [{"start": "2026-11-23T00:00:00.000000Z", **_FIGURES, "groups": {}}],
    "live": {
        "in_flight": 40,
        "queue_depth": 300,
        "rows_per_second": 80.5,
        "source": "processes",
        "note": None,
        "project": {"in_flight": 20, "queue_depth": 100},
    },
}


@blueprint.get("/v1/stats/<tenant_id>/<project_id>")
@blueprint.arguments(StatsQuery, location="query")
@blueprint.response(200, StatsSchema, example=_EXAMPLE)
def get_stats(query: dict[str, Any], tenant_id: str, project_id: str) -> Response:
    """Totals, by model, and a time series of what ended in a range of hours, and the load of this moment."""
    own_project(tenant_id, project_id)
    return answer(stats.read(auth.principal(), **query))
