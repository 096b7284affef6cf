"""The shapes of logs and statistics."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import marshmallow as ma
from marshmallow import validate
from webargs import fields

from app.schemas import CUSTOM_ID_MAX, Name, PageQuery, RowErrorSchema, Text, UsageSchema, Whole
from core import stats
from core.states import ProviderType, RowStatus

_STATUSES = [status.value for status in RowStatus]
_PROVIDERS = [provider.value for provider in ProviderType]


_TIME = "must be a time with its zone, such as 2026-11-23T12:00:00Z"
#: A zone whose + was taken for a space, as it is in a query.
_LOST_PLUS = re.compile(r"\d \d\d:?\d\d\Z")


class _Time(fields.AwareDateTime):
    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> datetime:
        try:
            found: datetime = super()._deserialize(value, *args, **kwargs)
        except ma.ValidationError:
            if isinstance(value, str) and _LOST_PLUS.search(value):
                raise ma.ValidationError(f"{_TIME}; in a query the + of a zone is written %2B") from None
            raise
        return found


def time_field(description: str) -> Any:
    """A moment with its zone, RFC 3339."""
    return _Time(
        format="iso",
        load_default=None,
        metadata={"description": description},
        error_messages=dict.fromkeys(("invalid", "invalid_awareness", "format"), _TIME),
    )


class LogQuery(PageQuery):
    model = Text(load_default=None, metadata={"description": "As asked for, as called, or as it answered"})
    provider = Text(load_default=None, validate=validate.OneOf(_PROVIDERS))
    status = Text(load_default=None, validate=validate.OneOf(_STATUSES))
    batch_id = Text(load_default=None)
    custom_id = Text(load_default=None, validate=validate.Length(1, CUSTOM_ID_MAX))
    since = time_field("Created then or later")
    since.data_key = "from"
    until = time_field("Created before")
    until.data_key = "to"
    text = Text(
        data_key="q",
        load_default=None,
        validate=validate.Length(2, 200),
        metadata={"description": "In prompt or answer, case aside. A page looks a bounded way back; follow the cursor"},
    )
    min_duration_ms = fields.Float(load_default=None, validate=validate.Range(0, 1e9))


class LogSchema(ma.Schema):
    """One completion, real-time or a batch's row."""

    id = fields.String()
    request_id = fields.String(allow_none=True)
    batch_id = fields.String(allow_none=True)
    custom_id = fields.String(allow_none=True)
    status = fields.String(validate=validate.OneOf(_STATUSES))
    processing = fields.String()
    provider = fields.String()
    model_requested = fields.String(metadata={"description": "As the caller named it"})
    model = fields.String(metadata={"description": "As the provider was asked for it"})
    model_answered = fields.String(allow_none=True, metadata={"description": "As the provider says who answered"})
    prompt = fields.List(fields.Dict(), allow_none=True, metadata={"description": "The messages"})
    response = fields.Dict(allow_none=True, metadata={"description": "The completion object"})
    bodies = fields.String(
        validate=validate.OneOf(["included", "too_long", "not_kept"]),
        metadata={"description": "Whether prompt and response are here; `too_long` for a list: see the log itself"},
    )
    usage = fields.Nested(UsageSchema, allow_none=True)
    cost_usd = fields.String(allow_none=True)
    savings_usd = fields.String(allow_none=True)
    error = fields.Nested(RowErrorSchema, allow_none=True)
    attempts = fields.Integer()
    time_to_first_token_ms = fields.Integer(allow_none=True)
    duration_ms = fields.Float(allow_none=True)
    created_at = fields.DateTime()
    started_at = fields.DateTime(allow_none=True)
    ended_at = fields.DateTime(allow_none=True)


class FailedAttemptSchema(ma.Schema):
    """A call that failed, or whose outcome a crash left unknown, before the one that decided."""

    provider = fields.String()
    model = fields.String(metadata={"description": "As the provider was asked for it"})
    started_at = fields.DateTime()
    ended_at = fields.DateTime()
    error = fields.Nested(RowErrorSchema)


class OneLogSchema(LogSchema):
    """One completion with all that was sent, and with its attempts."""

    request = fields.Dict(allow_none=True)
    request_sha256 = fields.String(allow_none=True)
    price_version = fields.String(allow_none=True)
    failed_attempts = fields.List(
        fields.Nested(FailedAttemptSchema),
        metadata={"description": "Oldest first, the last 20; the attempt that decided is the log itself"},
    )


class ProjectChange(ma.Schema):
    """What of a project can be changed; what is left out stays."""

    name = Name(metadata={"minLength": 1, "maxLength": 200})
    log_bodies = Text(
        validate=validate.OneOf(["full", "metadata_only"]),
        metadata={"description": "`metadata_only`: prompts and answers are not kept"},
    )
    retention_days = Whole(
        allow_none=True,
        validate=validate.Range(1, 3650),
        metadata={"description": "Completions and their batches are removed after so many days; null: never"},
    )
    on_unknown_outcome = Text(
        validate=validate.OneOf(["retry", "fail"]),
        metadata={"description": "What becomes of a call whose outcome a crash left unknown"},
    )
    requests_per_minute = Whole(
        allow_none=True,
        validate=validate.Range(1, 1_000_000),
        metadata={"description": "Requests to this API in a minute; null: as many as the service allows"},
    )


class ProjectSchema(ProjectChange):
    id = fields.String()
    tenant_id = fields.String()
    created_at = fields.DateTime()


class StatsQuery(ma.Schema):
    since = time_field("Ended then or later, cut to the hour; 30 days before `to` by default")
    since.data_key = "from"
    until = time_field("Ended before, up to the hour's end; now by default")
    until.data_key = "to"
    interval = Text(load_default="day", validate=validate.OneOf(list(stats.INTERVALS)))
    group_by = Text(load_default=None, validate=validate.OneOf(stats.GROUPS))


class PercentilesSchema(ma.Schema):
    """Milliseconds, exact to 4.5 %; null where there is nothing to measure."""

    p50 = fields.Float(allow_none=True)
    p95 = fields.Float(allow_none=True)
    p99 = fields.Float(allow_none=True)


class CountsOfGroupSchema(ma.Schema):
    requests = fields.Integer(metadata={"description": "Completions that ended"})
    succeeded = fields.Integer()
    failed = fields.Integer()
    cancelled = fields.Integer()
    expired = fields.Integer()
    attempts = fields.Integer(metadata={"description": "Provider calls they took"})
    input_tokens = fields.Integer()
    output_tokens = fields.Integer()
    cached_tokens = fields.Integer(metadata={"description": "Part of input_tokens"})
    reasoning_tokens = fields.Integer(metadata={"description": "Part of output_tokens"})
    unpriced = fields.Integer(metadata={"description": "Answers of models without a known price; not in cost_usd"})
    success_rate = fields.Float(allow_none=True, metadata={"description": "succeeded / (succeeded + failed)"})
    cost_usd = fields.String()
    savings_usd = fields.String(metadata={"description": "Against the provider's price in real time"})


class FiguresSchema(CountsOfGroupSchema):
    latency_ms = fields.Nested(PercentilesSchema, metadata={"description": "Of completions that succeeded"})
    time_to_first_token_ms = fields.Nested(PercentilesSchema, metadata={"description": "Of streamed completions"})


class PointSchema(FiguresSchema):
    start = fields.DateTime()
    groups = fields.Dict(keys=fields.String(), values=fields.Nested(CountsOfGroupSchema))


class ProjectLoadSchema(ma.Schema):
    in_flight = fields.Integer()
    queue_depth = fields.Integer()


class LoadSchema(ma.Schema):
    """The whole service's, and of it this project's batches."""

    in_flight = fields.Integer(allow_none=True, metadata={"description": "Provider calls that run"})
    queue_depth = fields.Integer(allow_none=True, metadata={"description": "Rows of batches that wait"})
    rows_per_second = fields.Float(allow_none=True, metadata={"description": "Completions that end"})
    source = fields.String(
        validate=validate.OneOf(["prometheus", "processes"]),
        metadata={"description": "The Prometheus server, or the processes on the host that answered"},
    )
    note = fields.String(allow_none=True, metadata={"description": "Why the source is not the one that is set up"})
    project = fields.Nested(ProjectLoadSchema)


class StatsSchema(ma.Schema):
    since = fields.DateTime(data_key="from")
    until = fields.DateTime(data_key="to")
    interval = fields.String()
    group_by = fields.String(allow_none=True)
    totals = fields.Nested(FiguresSchema)
    by_model = fields.Dict(keys=fields.String(), values=fields.Nested(FiguresSchema))
    groups = fields.Dict(
        keys=fields.String(),
        values=fields.Nested(FiguresSchema),
        metadata={"description": "With `group_by`: its values"},
    )
    series = fields.List(fields.Nested(PointSchema))
    live = fields.Nested(LoadSchema)
