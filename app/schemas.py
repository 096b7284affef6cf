"""The shapes of requests and answers as marshmallow schemas: what the document shows and input is held against."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import marshmallow as ma
from marshmallow import validate
from webargs import fields

from core.states import BatchStatus

CUSTOM_ID_MAX = 128


class Text(fields.String):
    """A string that the database can hold."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        found: str = super()._deserialize(value, *args, **kwargs)
        if "\0" in found:
            raise ma.ValidationError("must not contain \\u0000")
        return found


class Name(Text):
    """What something is called, of 1 to 200 characters, without the spaces around it."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        found = super()._deserialize(value, *args, **kwargs).strip()
        if not 1 <= len(found) <= 200:
            raise ma.ValidationError("must have 1 to 200 characters, and not only spaces")
        return found


class Whole(fields.Integer):
    """A whole number; JSON text or `true` is none."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ma.ValidationError("must be a whole number")
        return value


class Money(fields.Field):
    """An amount of US dollars above 0: a decimal string, or a number."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Decimal:
        if isinstance(value, int | float | str) and not isinstance(value, bool) and len(str(value)) <= 32:
            try:
                amount = Decimal(str(value))
            except InvalidOperation:
                amount = Decimal(0)
            if amount.is_finite() and 0 < amount <= 10**9:
                return amount
        raise ma.ValidationError('must be an amount of US dollars above 0, such as "12.50"')


class FieldErrorSchema(ma.Schema):
    pointer = fields.String(metadata={"description": "JSON pointer (RFC 6901), or `?name` of a query parameter"})
    message = fields.String()
    line = fields.Integer(metadata={"description": "Line of an NDJSON body, from 1"})


class ProblemSchema(ma.Schema):
    """RFC 9457 problem details."""

    type = fields.String(metadata={"examples": ["urn:llm-service:problem:invalid-request"]})
    title = fields.String()
    status = fields.Integer()
    detail = fields.String()
    request_id = fields.String()
    errors = fields.List(fields.Nested(FieldErrorSchema), metadata={"description": "For invalid input: all of it"})
    provider = fields.String(metadata={"description": "For a provider's error: who"})
    provider_status = fields.Integer(allow_none=True, metadata={"description": "For a provider's error: its status"})
    reason = fields.String(metadata={"description": "For a provider's error: what kind it is, as in docs/models.md"})


class PageQuery(ma.Schema):
    limit = fields.Integer(
        load_default=20, validate=validate.Range(1, 100), metadata={"description": "How many to answer"}
    )
    cursor = Text(load_default=None, metadata={"description": "`next_cursor` of the page before"})


class BatchListQuery(PageQuery):
    status = Text(
        load_default=None,
        metadata={"description": "Only batches of this status: " + ", ".join(status.value for status in BatchStatus)},
    )


class ResultsQuery(ma.Schema):
    ended_only = fields.Boolean(
        data_key="partial",
        load_default=False,
        metadata={"description": "Also before the batch has ended: the rows that have"},
    )


class RetryQuery(ma.Schema):
    @ma.pre_load
    def _all_given(self, given: Any, **_: Any) -> dict[str, Any]:
        """`only` may be given several times, and with | between statuses as with commas."""
        values = given.getlist("only") if hasattr(given, "getlist") else [given["only"]] if "only" in given else []
        rest = {name: value for name, value in given.items() if name != "only"}
        return rest | ({"only": ",".join(values).replace("|", ",")} if values else {})

    statuses = fields.DelimitedList(
        fields.String(validate=validate.OneOf(["failed", "expired", "cancelled"])),
        data_key="only",
        validate=validate.Length(min=1),
        metadata={"description": "Which rows, by default those that failed and those that expired"},
    )


class ResumeBody(ma.Schema):
    max_cost_usd = Money(metadata={"description": "A new limit, for a batch that was paused at its old one"})


def page_of(item: type[ma.Schema], name: str) -> type[ma.Schema]:
    """The schema of a list: {"data": [...], "has_more": ..., "next_cursor": ...}."""
    return ma.Schema.from_dict(
        {
            "data": fields.List(fields.Nested(item)),
            "has_more": fields.Boolean(),
            "next_cursor": fields.String(allow_none=True),
        },
        name=name,
    )


class CompletionBody(ma.Schema):
    """A request as OpenAI's chat completions takes it; fields not listed here are taken as well."""

    class Meta:
        unknown = ma.INCLUDE

    model = fields.String(required=True, metadata={"description": "An alias, a model, or provider/model"})
    messages = fields.List(fields.Dict(), required=True, validate=validate.Length(min=1))
    max_tokens = fields.Integer(validate=validate.Range(min=1))
    temperature = fields.Float(validate=validate.Range(0, 2), metadata={"default": 0.7})
    stop = fields.Raw(metadata={"description": "A string, or up to four"})
    seed = fields.Integer()
    tools = fields.List(fields.Dict())
    tool_choice = fields.Raw()
    response_format = fields.Dict()
    reasoning_effort = fields.String()


class CompletionSchema(ma.Schema):
    """An OpenAI chat completion object, with who answered and what it cost."""

    id = fields.String()
    object = fields.String()
    created = fields.Integer()
    model = fields.String()
    choices = fields.List(fields.Dict())
    usage = fields.Dict()
    service_tier = fields.String(allow_none=True)
    system_fingerprint = fields.String(allow_none=True)
    provider = fields.String()
    cost_usd = fields.String(allow_none=True)
    request_id = fields.String()


class BatchRequest(CompletionBody):
    """One row: a completion request, or one for embeddings (`model` and `input`), with an id of the caller's."""

    messages = fields.List(fields.Dict(), validate=validate.Length(min=1))
    input = fields.Raw(metadata={"description": "For embeddings, instead of messages: a text, or a list of texts"})

    custom_id = fields.String(
        validate=validate.Length(1, CUSTOM_ID_MAX),
        metadata={"description": "Unique within the batch; rows without one are numbered"},
    )


class BatchBody(ma.Schema):
    """A new batch."""

    requests = fields.List(fields.Nested(BatchRequest), required=True, validate=validate.Length(min=1))
    webhook_url = fields.Url(allow_none=True)
    name = fields.String(allow_none=True, validate=validate.Length(1, 200))
    metadata = fields.Dict(
        keys=fields.String(), values=fields.String(), metadata={"description": "At most 16 pairs of strings"}
    )
    processing = fields.String(validate=validate.OneOf(["auto", "realtime", "native"]), metadata={"default": "auto"})
    completion_window = fields.String(metadata={"default": "24h", "description": "1h to 7d"})
    priority = fields.Integer(validate=validate.Range(-10, 10), metadata={"default": 0})
    max_cost_usd = fields.String(allow_none=True, metadata={"examples": ["12.50"]})
    max_error_rate = fields.Float(allow_none=True, validate=validate.Range(0, 1))
    prompt_caching = fields.Boolean(
        metadata={
            "default": True,
            "description": "Native: rows that begin alike are sent together and marked for the provider's prompt cache",
        }
    )


class CountsSchema(ma.Schema):
    total = fields.Integer()
    pending = fields.Integer()
    processing = fields.Integer()
    succeeded = fields.Integer()
    failed = fields.Integer()
    cancelled = fields.Integer()
    expired = fields.Integer()


class UsageSchema(ma.Schema):
    input_tokens = fields.Integer()
    output_tokens = fields.Integer()
    cached_tokens = fields.Integer()
    reasoning_tokens = fields.Integer()


class ProgressSchema(ma.Schema):
    rows_per_second = fields.Float()
    eta = fields.DateTime(allow_none=True, metadata={"description": "When it will have ended at this rate"})
    waiting_for = fields.String(allow_none=True)


class CauseSchema(ma.Schema):
    type = fields.String()
    count = fields.Integer()
    message = fields.String()


class WaySchema(ma.Schema):
    """How the rows for one model are run, and why."""

    provider = fields.String()
    model = fields.String()
    rows = fields.Integer()
    processing = fields.String(validate=validate.OneOf(["realtime", "native"]))
    reason = fields.String()


class NativeSchema(ma.Schema):
    """What went through the providers' batch APIs."""

    shards = fields.Integer(metadata={"description": "Batches of the provider that the rows make"})
    shards_waiting = fields.Integer(metadata={"description": "Still to be sent: there is no room in the queue yet"})
    shards_at_provider = fields.Integer()
    rows_answered = fields.Integer(metadata={"description": "Answered at the price of the batch API"})
    rows_returned = fields.Integer(metadata={"description": "Taken back and run in real time, at the full price"})
    wasted_rows = fields.Integer(
        metadata={"description": "Answered by the provider's batch after they had been taken back: paid twice"}
    )
    wasted_usd = fields.String(metadata={"description": "What those cost; not part of cost_usd"})


class BatchSchema(ma.Schema):
    """A batch and how far it is."""

    id = fields.String()
    name = fields.String(allow_none=True)
    status = fields.String(validate=validate.OneOf([status.value for status in BatchStatus]))
    status_reason = fields.String(allow_none=True, metadata={"description": "Why it is paused or failed"})
    status_message = fields.String(allow_none=True)
    processing = fields.String(metadata={"description": "As it was asked for"})
    processing_plan = fields.List(fields.Nested(WaySchema))
    native = fields.Nested(NativeSchema, allow_none=True)
    priority = fields.Integer()
    created_at = fields.DateTime()
    started_at = fields.DateTime(allow_none=True)
    ended_at = fields.DateTime(allow_none=True)
    expires_at = fields.DateTime()
    request_counts = fields.Nested(CountsSchema)
    usage = fields.Nested(UsageSchema)
    cost_usd = fields.String()
    savings_usd = fields.String()
    max_cost_usd = fields.String(allow_none=True)
    max_error_rate = fields.Float(allow_none=True)
    prompt_caching = fields.Boolean()
    progress = fields.Nested(ProgressSchema)
    errors = fields.List(fields.Nested(CauseSchema), metadata={"description": "The top causes of failed rows"})
    webhook_url = fields.String(allow_none=True)
    metadata = fields.Dict(keys=fields.String(), values=fields.String())
    retry_of = fields.String(allow_none=True, metadata={"description": "The batch whose rows this one runs again"})


class RowErrorSchema(ma.Schema):
    type = fields.String()
    message = fields.String()
    provider_status = fields.Integer(allow_none=True)
    retryable = fields.Boolean()


class ResultSchema(ma.Schema):
    """What became of one row of a batch."""

    custom_id = fields.String()
    status = fields.String(validate=validate.OneOf(["succeeded", "failed", "cancelled", "expired"]))
    response = fields.Dict(allow_none=True, metadata={"description": "The completion object, if it succeeded"})
    error = fields.Nested(RowErrorSchema, allow_none=True)
    usage = fields.Nested(UsageSchema, allow_none=True)
    cost_usd = fields.String(allow_none=True)
    model = fields.String()
    provider = fields.String()
    attempts = fields.Integer()
    processing = fields.String()
    request_sha256 = fields.String(allow_none=True)
    started_at = fields.DateTime(allow_none=True)
    ended_at = fields.DateTime(allow_none=True)
