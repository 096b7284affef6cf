"""The shapes of what a project and its operator set up: providers, mappings, models, tenants, keys."""

from __future__ import annotations

import marshmallow as ma
from marshmallow import validate
from webargs import fields

from app.schemas import Name, Text, Whole
from core.states import ProviderType


class LimitsSchema(ma.Schema):
    """What is left out is learned from the provider's headers."""

    requestsPerMinute = fields.Integer(allow_none=True, validate=validate.Range(min=1))
    tokensPerMinute = fields.Integer(allow_none=True, validate=validate.Range(min=1))
    maxConcurrency = fields.Integer(allow_none=True, validate=validate.Range(min=1))


_PROVIDER_TYPES = [kind.value for kind in ProviderType]


class ProviderChange(ma.Schema):
    """What of a provider can be changed; what is left out stays."""

    apiKey = fields.String(metadata={"description": "Stored encrypted, never returned", "format": "password"})
    name = fields.String()
    baseUrl = fields.Url(allow_none=True)
    organization = fields.String(allow_none=True)
    limits = fields.Nested(LimitsSchema)


class NewProvider(ProviderChange):
    """A provider's key, and how it is to be used."""

    providerType = fields.String(required=True, validate=validate.OneOf(_PROVIDER_TYPES))
    apiKey = fields.String(
        required=True, metadata={"description": "Stored encrypted, never returned", "format": "password"}
    )


class ProviderTest(ma.Schema):
    providerType = Text(required=True, validate=validate.OneOf(_PROVIDER_TYPES))
    name = Text(metadata={"description": "Which one, where there are several of type openai_compatible"})


class ProviderSchema(ma.Schema):
    """A project's credential at a provider."""

    id = fields.String()
    providerType = fields.String()
    name = fields.String(allow_none=True)
    apiKeyHint = fields.String(metadata={"description": "The last four characters of the key"})
    baseUrl = fields.String()
    organization = fields.String(allow_none=True)
    limits = fields.Nested(LimitsSchema)
    state = fields.String(metadata={"description": "`active`, or `stopped` when the provider refused the key"})
    stop_reason = fields.String(allow_none=True)
    stop_message = fields.String(allow_none=True, metadata={"description": "What the provider said"})
    stopped_at = fields.DateTime(allow_none=True)
    created_at = fields.DateTime()
    updated_at = fields.DateTime()


class ProviderTestAnswer(ma.Schema):
    ok = fields.Boolean()
    providerType = fields.String()
    latencyMs = fields.Integer(allow_none=True)
    models = fields.List(fields.String(), metadata={"description": "If it is ok"})
    error = fields.String(metadata={"description": "If it is not"})


class FallbackSchema(ma.Schema):
    model = fields.String(required=True)
    provider = fields.String(allow_none=True)


class MappingBody(ma.Schema):
    """Where an alias leads, and what is tried in order when a provider is down."""

    model = fields.String(required=True)
    provider = fields.String(allow_none=True)
    fallbacks = fields.List(fields.Nested(FallbackSchema))


class MappingSchema(MappingBody):
    """Where an alias leads."""

    id = fields.String()
    alias = fields.String()
    created_at = fields.DateTime()
    updated_at = fields.DateTime()


class ModelSchema(ma.Schema):
    """A model that the project can call."""

    id = fields.String()
    object = fields.String()
    created = fields.Integer()
    owned_by = fields.String()
    provider = fields.String()


class ModelList(ma.Schema):
    """A list as OpenAI's, and as ours."""

    object = fields.String()
    data = fields.List(fields.Nested(ModelSchema))
    has_more = fields.Boolean()
    next_cursor = fields.String(allow_none=True)


class NamedBody(ma.Schema):
    name = Name(required=True, metadata={"minLength": 1, "maxLength": 200})


class PlaceSchema(ma.Schema):
    """A tenant, or a project of one."""

    id = fields.String()
    tenant_id = fields.String(metadata={"description": "Of a project: whose it is"})
    name = fields.String()
    created_at = fields.DateTime()


class KeyBody(ma.Schema):
    name = Text(load_default="", validate=validate.Length(0, 200))
    expires_at = fields.AwareDateTime(format="iso", load_default=None, allow_none=True)


class RotateBody(ma.Schema):
    old_valid_seconds = Whole(load_default=None, allow_none=True, validate=validate.Range(0, 366 * 86400))


class KeySchema(ma.Schema):
    """A key as it is listed: without its secret."""

    id = fields.String()
    tenant_id = fields.String()
    project_id = fields.String()
    name = fields.String()
    hint = fields.String(metadata={"description": "The first characters of the key"})
    created_at = fields.DateTime()
    expires_at = fields.DateTime(allow_none=True)
    revoked_at = fields.DateTime(allow_none=True)
    last_used_at = fields.DateTime(allow_none=True)


class NewKeySchema(KeySchema):
    """A key that was just made, with its secret: shown once."""

    api_key = fields.String()
    secret_key = fields.String()
    token = fields.String(metadata={"description": "Both in one string, for the vendors' SDKs"})
