"""/v1/webhooks: endpoints for a project's events, the secrets that sign them, and the log of deliveries."""

from __future__ import annotations

from typing import Any

from flask import Response

from app import auth, body, idempotent
from app.answers import answer, nothing
from app.openapi import Blueprint
from app.paging import filter_id, page_by_id
from app.schemas import PageQuery, page_of
from app.webhook_schemas import (
    DeliveryDetailSchema,
    DeliveryQuery,
    DeliverySchema,
    EndpointChange,
    EndpointSchema,
    NewEndpoint,
    SecretSchema,
)
from core import ids, webhooks
from core.webhooks import deliveries, endpoints, signing

blueprint = Blueprint(
    "webhooks", "Where a project's events go, signed as Standard Webhooks says, and what became of them"
)

_SECRET = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="}
_BODY = {"url": "https://example.com/llm-events", "event_types": ["batch.completed", "batch.failed"]}
_ENDPOINT = {
    "id": "hook_0199aa54e7f27c3d9d2b6f1f0a4c8e11",
    **_BODY,
    "description": None,
    "enabled": True,
    "disabled_reason": None,
    "disabled_at": None,
    "failing_since": None,
    "created_at": "2026-11-23T12:00:00.000000Z",
    "updated_at": "2026-11-23T12:00:00.000000Z",
}
_DELIVERY = {
    "id": "evt_0199aa54e7f27c3d9d2b6f1f0a4c8e12",
    "endpoint_id": _ENDPOINT["id"],
    "batch_id": "batch_0199aa54e7f27c3d9d2b6f1f0a4c8e13",
    "event_type": "batch.completed",
    "url": _BODY["url"],
    "status": "delivered",
    "last_error": None,
    "created_at": "2026-11-23T12:00:00.000000Z",
    "next_attempt_at": None,
    "delivered_at": "2026-11-23T12:00:00.250000Z",
    "attempts": [
        {
            "number": 1,
            "started_at": "2026-11-23T12:00:00.100000Z",
            "latency_ms": 150,
            "status": 200,
            "error": None,
            "excerpt": "ok",
        }
    ],
}
_PRIVATE = {"Cache-Control": "no-store"}


@blueprint.post("/v1/webhooks")
@idempotent.idempotent()
@blueprint.takes(NewEndpoint, example=_BODY)
@blueprint.response(201, EndpointSchema, example=_ENDPOINT)
def create_endpoint() -> Response:
    """Send the project's events to a URL: those of `event_types`, or all."""
    return answer(endpoints.as_object(endpoints.create(auth.principal(), body.json_object())), 201)


@blueprint.get("/v1/webhooks")
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(EndpointSchema, "WebhookPage"))
def list_endpoints(query: dict[str, Any]) -> Response:
    """The project's endpoints, newest first."""
    principal = auth.principal()
    return page_by_id("hook", query, lambda **page: endpoints.page(principal, **page), endpoints.as_object)


@blueprint.get("/v1/webhooks/<endpoint_id>")
@blueprint.response(200, EndpointSchema, example=_ENDPOINT)
def get_endpoint(endpoint_id: str) -> Response:
    """One endpoint."""
    return answer(endpoints.as_object(endpoints.get(auth.principal(), ids.parse("hook", endpoint_id))))


@blueprint.patch("/v1/webhooks/<endpoint_id>")
@blueprint.takes(EndpointChange, example={"enabled": True})
@blueprint.response(200, EndpointSchema, example=_ENDPOINT)
def change_endpoint(endpoint_id: str) -> Response:
    """Change what is given; what is pending goes to the new URL."""
    row = endpoints.change(auth.principal(), ids.parse("hook", endpoint_id), body.json_object())
    return answer(endpoints.as_object(row))


@blueprint.delete("/v1/webhooks/<endpoint_id>")
@blueprint.response(204)
def delete_endpoint(endpoint_id: str) -> Response:
    """Remove an endpoint; its deliveries stay in the log."""
    endpoints.delete(auth.principal(), ids.parse("hook", endpoint_id))
    return nothing()


@blueprint.post("/v1/webhooks/<endpoint_id>/test")
@idempotent.idempotent()
@blueprint.response(
    202, DeliveryDetailSchema, example={**_DELIVERY, "event_type": "webhook.test", "payload": {"type": "webhook.test"}}
)
def test_endpoint(endpoint_id: str) -> Response:
    """Send a `webhook.test` event, in one attempt; the delivery says what came of it."""
    principal = auth.principal()
    return answer(deliveries.get(principal, endpoints.test(principal, ids.parse("hook", endpoint_id))), 202)


@blueprint.get("/v1/webhooks/<endpoint_id>/secret")
@blueprint.response(200, SecretSchema, example=_SECRET)
def get_endpoint_secret(endpoint_id: str) -> Response:
    """The secret that signs what this endpoint gets."""
    found = signing.endpoint_secret(auth.principal(), ids.parse("hook", endpoint_id))
    return answer({"secret": found.reveal()}, headers=_PRIVATE)


@blueprint.post("/v1/webhooks/<endpoint_id>/secret/rotate")
@idempotent.idempotent(secret=True)
@blueprint.response(200, SecretSchema, example=_SECRET)
def rotate_endpoint_secret(endpoint_id: str) -> Response:
    """A new secret; for 24 hours the old one signs as well."""
    made = signing.rotate_endpoint_secret(auth.principal(), ids.parse("hook", endpoint_id))
    return answer({"secret": made.reveal()}, headers=_PRIVATE)


@blueprint.get("/v1/webhooks/secret")
@blueprint.response(200, SecretSchema, example=_SECRET)
def get_secret() -> Response:
    """The secret that signs what the `webhook_url` of the project's batches gets."""
    return answer({"secret": webhooks.project_secret(auth.principal()).reveal()}, headers=_PRIVATE)


@blueprint.post("/v1/webhooks/secret/rotate")
@idempotent.idempotent(secret=True)
@blueprint.response(200, SecretSchema, example=_SECRET)
def rotate_secret() -> Response:
    """A new secret for the `webhook_url` of batches; for 24 hours the old one signs as well."""
    return answer({"secret": webhooks.rotate_project_secret(auth.principal()).reveal()}, headers=_PRIVATE)


@blueprint.get("/v1/webhooks/deliveries")
@blueprint.arguments(DeliveryQuery, location="query")
@blueprint.response(200, page_of(DeliverySchema, "DeliveryPage"))
def list_deliveries(query: dict[str, Any]) -> Response:
    """What was sent in the last 30 days, newest first, with every attempt."""
    principal = auth.principal()
    chosen = {
        "status": query["status"],
        "event_type": query["event_type"],
        "endpoint_id": filter_id("hook", "endpoint_id", query["endpoint_id"]),
        "batch_id": filter_id("batch", "batch_id", query["batch_id"]),
    }
    return page_by_id("evt", query, lambda **page: deliveries.page(principal, **page, **chosen), dict)


@blueprint.get("/v1/webhooks/deliveries/<delivery_id>")
@blueprint.response(200, DeliveryDetailSchema, example={**_DELIVERY, "payload": {"type": "batch.completed"}})
def get_delivery(delivery_id: str) -> Response:
    """One delivery, with what is sent."""
    return answer(deliveries.get(auth.principal(), ids.parse("evt", delivery_id)))


@blueprint.post("/v1/webhooks/deliveries/<delivery_id>/resend")
@idempotent.idempotent()
@blueprint.response(202, DeliveryDetailSchema, example={**_DELIVERY, "payload": {"type": "batch.completed"}})
def resend_delivery(delivery_id: str) -> Response:
    """Try a delivery again now, under its old `webhook-id`."""
    return answer(deliveries.resend(auth.principal(), ids.parse("evt", delivery_id)), 202)
