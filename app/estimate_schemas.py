"""The shape of an estimate of a batch."""

from __future__ import annotations

import marshmallow as ma
from webargs import fields

from app.schemas import FieldErrorSchema


class EstimatedCostSchema(ma.Schema):
    realtime = fields.String(allow_none=True)
    native = fields.String(allow_none=True, metadata={"description": "In the providers' batch APIs"})
    chosen = fields.String(allow_none=True, metadata={"description": "As `processing` of each model says"})


class ExpectedSchema(ma.Schema):
    output_tokens = fields.Integer()
    cost_usd = fields.String(allow_none=True)


class EstimatedLimitsSchema(ma.Schema):
    requests_per_minute = fields.Integer(allow_none=True)
    tokens_per_minute = fields.Integer(allow_none=True)
    input_tokens_per_minute = fields.Integer(allow_none=True)
    output_tokens_per_minute = fields.Integer(allow_none=True)
    max_concurrency = fields.Integer()


class _Figures(ma.Schema):
    rows = fields.Integer()
    input_tokens = fields.Integer()
    output_tokens_max = fields.Integer(
        metadata={"description": "Of each row its max_tokens, or a typical answer where it sets none"}
    )
    rows_without_max_tokens = fields.Integer()
    cost_usd = fields.Nested(EstimatedCostSchema)
    expected = fields.Nested(
        ExpectedSchema,
        allow_none=True,
        metadata={"description": "With answers as long as the project's last ones; null: too few calls lately"},
    )
    expected_duration_seconds = fields.Float(
        metadata={"description": "In real time, if nothing else uses the limits and the workers"}
    )
    notes = fields.List(fields.String(), metadata={"description": "What is not known or was assumed, and why"})


class EstimatedModelSchema(_Figures):
    provider = fields.String()
    provider_id = fields.String()
    model = fields.String(metadata={"description": "As the provider is asked for it: mappings are applied"})
    processing = fields.String()
    processing_reason = fields.String()
    seconds_per_call = fields.Float(metadata={"description": "Mean of the last seven days, or an assumption"})
    limits = fields.Nested(EstimatedLimitsSchema, metadata={"description": "Configured or learned; null: not known"})


class EstimateTotalsSchema(_Figures):
    unpriced_rows = fields.Integer(metadata={"description": "Rows of models without a known price: not in cost_usd"})
    within_max_cost = fields.Boolean(allow_none=True, metadata={"description": "Null without max_cost_usd, or unsure"})
    within_window = fields.Boolean(metadata={"description": "Whether real time alone would make the window"})


class EstimateSchema(ma.Schema):
    """What a batch would take and cost, and what is wrong with it."""

    valid = fields.Boolean(metadata={"description": "Whether POST /v1/batch would take it"})
    rows = fields.Integer(metadata={"description": "All rows, valid or not"})
    invalid_rows = fields.Integer()
    errors = fields.List(fields.Nested(FieldErrorSchema), metadata={"description": "Of the first 100 invalid rows"})
    processing = fields.String(metadata={"description": "As it was asked for"})
    completion_window_seconds = fields.Integer()
    max_cost_usd = fields.String(allow_none=True)
    models = fields.List(fields.Nested(EstimatedModelSchema), metadata={"description": "Most rows first"})
    totals = fields.Nested(EstimateTotalsSchema)
