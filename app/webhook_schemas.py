"""The shapes of webhook endpoints and deliveries."""

from __future__ import annotations

import marshmallow as ma
from marshmallow import validate
from webargs import fields

from app.schemas import PageQuery, Text
from core.webhooks.deliveries import STATUSES
from core.webhooks.outbox import EVENT_TYPES, TEST_EVENT


class EndpointChange(ma.Schema):
    """What of an endpoint can be changed; what is left out stays."""

    url = fields.Url()
    event_types = fields.List(
        fields.String(validate=validate.OneOf(EVENT_TYPES)),
        allow_none=True,
        metadata={"description": "Which events; null for all"},
    )
    description = fields.String(allow_none=True)
    enabled = fields.Boolean(metadata={"description": "True gives an endpoint that was disabled another chance"})


class NewEndpoint(EndpointChange):
    """Where events go."""

    url = fields.Url(required=True)


class EndpointSchema(EndpointChange):
    """Where a project's events go; its secret is at `/v1/webhooks/{id}/secret`."""

    id = fields.String()
    disabled_reason = fields.String(allow_none=True)
    disabled_at = fields.DateTime(allow_none=True)
    failing_since = fields.DateTime(
        allow_none=True, metadata={"description": "The first failure since it last took something"}
    )
    created_at = fields.DateTime()
    updated_at = fields.DateTime()


class SecretSchema(ma.Schema):
    secret = fields.String()


class AttemptSchema(ma.Schema):
    """One attempt, and what the receiver said."""

    number = fields.Integer()
    started_at = fields.DateTime()
    latency_ms = fields.Integer()
    status = fields.Integer(allow_none=True, metadata={"description": "Null: there was no answer"})
    error = fields.String(allow_none=True)
    excerpt = fields.String(metadata={"description": "The beginning of the answer's body"})


class DeliverySchema(ma.Schema):
    """One event for one receiver."""

    id = fields.String(metadata={"description": "The `webhook-id` of every attempt"})
    endpoint_id = fields.String(allow_none=True, metadata={"description": "Null: the batch's own `webhook_url`"})
    batch_id = fields.String(allow_none=True)
    event_type = fields.String()
    url = fields.String()
    status = fields.String(validate=validate.OneOf(STATUSES))
    last_error = fields.String(allow_none=True)
    created_at = fields.DateTime()
    next_attempt_at = fields.DateTime(allow_none=True)
    delivered_at = fields.DateTime(allow_none=True)
    attempts = fields.List(fields.Nested(AttemptSchema))


class DeliveryDetailSchema(DeliverySchema):
    """One event for one receiver, with what is sent."""

    payload = fields.Dict()


class DeliveryQuery(PageQuery):
    status = Text(load_default=None, metadata={"description": "Only those that are " + ", ".join(STATUSES)})
    event_type = Text(load_default=None, validate=validate.OneOf([*EVENT_TYPES, TEST_EVENT]))
    endpoint_id = Text(load_default=None)
    batch_id = Text(load_default=None)
