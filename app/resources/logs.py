"""/v1/logs: every completion of a project, searched, one by one, or exported."""

from __future__ import annotations

from typing import Any

from flask import Response, request, stream_with_context

from app import auth, body
from app.answers import answer
from app.log_schemas import LogQuery, LogSchema, OneLogSchema
from app.openapi import Blueprint
from app.paging import filter_id
from app.schemas import page_of
from app.streamed import gathered
from core import ids
from core.errors import NotFound
from core.logbook import read
from core.logbook.filters import Filter

blueprint = Blueprint("logs", "Every completion, real-time or a batch's row")

_LOG = {
    "id": "log_000643f0a1b2c3d40000000001000000",
    "request_id": "req_0199aa54e7f27c3d9d2b6f1f0a4c8e11",
    "batch_id": None,
    "custom_id": None,
    "status": "succeeded",
    "processing": "realtime",
    "provider": "openai",
    "model_requested": "fast",
    "model": "gpt-4o-mini",
    "model_answered": "gpt-4o-mini-2024-07-18",
    "prompt": [{"role": "user", "content": "2 + 2?"}],
    "response": {"object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": "4"}}]},
    "bodies": "included",
    "usage": {"input_tokens": 12, "output_tokens": 1, "cached_tokens": 0, "reasoning_tokens": 0},
    "cost_usd": "0.0000024",
    "savings_usd": "0",
    "error": None,
    "attempts": 1,
    "time_to_first_token_ms": None,
    "duration_ms": 412.551,
    "created_at": "2026-11-23T12:00:00.000000Z",
    "started_at": "2026-11-23T12:00:00.000000Z",
    "ended_at": "2026-11-23T12:00:00.412551Z",
}
_FAILED = {
    "provider": "openai",
    "model": "gpt-4o-mini",
    "started_at": "2026-11-23T11:59:58.000000Z",
    "ended_at": "2026-11-23T11:59:58.204117Z",
    "error": {"type": "overloaded", "message": "Overloaded", "provider_status": 503, "retryable": True},
}
_CSV = "text/csv"


@blueprint.get("/v1/logs/<tenant_id>/<project_id>")
@blueprint.arguments(LogQuery, location="query")
@blueprint.response(
    200, page_of(LogSchema, "LogPage"), example={"data": [_LOG], "has_more": False, "next_cursor": None}
)
@blueprint.alt_response(200, schema={"type": "string"}, content_type="application/x-ndjson", success=True)
@blueprint.alt_response(200, schema={"type": "string"}, content_type=_CSV, success=True)
def list_logs(query: dict[str, Any], tenant_id: str, project_id: str) -> Response:
    """The project's logs, newest first.

    A page of a filter that few logs pass may hold fewer than `limit` and yet have `has_more`: follow `next_cursor`.
    With `Accept: application/x-ndjson` or `text/csv` all that pass are exported, streamed, whatever `limit` says.
    """
    own_project(tenant_id, project_id)
    limit, cursor = query.pop("limit"), query.pop("cursor")
    wanted = Filter(**{**query, "batch_id": filter_id("batch", "batch_id", query["batch_id"])})
    kinds = ["application/json", *sorted(body.NDJSON_TYPES), _CSV]
    accepted = request.accept_mimetypes.best_match(kinds, "application/json")
    if accepted in body.NDJSON_TYPES:
        lines = read.as_lines(auth.principal(), wanted, cursor)
        return Response(stream_with_context(gathered(lines)), mimetype="application/x-ndjson")
    if accepted == _CSV:
        lines = read.as_csv(auth.principal(), wanted, cursor)
        attachment = {"Content-Disposition": 'attachment; filename="logs.csv"'}
        return Response(stream_with_context(gathered(lines)), headers=attachment, mimetype=_CSV)
    return answer(read.page(auth.principal(), wanted, limit=limit, cursor=cursor))


@blueprint.get("/v1/logs/<tenant_id>/<project_id>/<log_id>")
@blueprint.response(
    200,
    OneLogSchema,
    example={
        **_LOG,
        "request": {"model": "fast", "messages": _LOG["prompt"], "max_tokens": 5},
        "failed_attempts": [_FAILED],
    },
)
def get_log(tenant_id: str, project_id: str, log_id: str) -> Response:
    """One log with all that was sent and answered, and the calls that failed before."""
    own_project(tenant_id, project_id)
    return answer(read.one(auth.principal(), log_id))


def own_project(tenant_id: str, project_id: str) -> None:
    """Raise NotFound unless the ids of the path are the key's own."""
    principal = auth.principal()
    if ids.parse("tenant", tenant_id) != principal.tenant_id or ids.parse("proj", project_id) != principal.project_id:
        raise NotFound
