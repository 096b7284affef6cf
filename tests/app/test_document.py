"""The document against what is answered: every field that comes is described, every status is named."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.app.conftest import Caller, add_provider, request_row


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").get_json()
    return found


class _Checked:
    """Calls that are held against the document."""

    def __init__(self, client: FlaskClient, document: dict[str, Any], headers: dict[str, str]) -> None:
        self._client, self._document, self._headers = client, document, headers

    def __call__(self, method: str, template: str, status: int, body: Any = None, **ids: str) -> Any:
        answered = self._client.open(template.format(**ids), method=method, json=body, headers=self._headers)
        assert answered.status_code == status, (method, template, answered.text)
        response = self._followed(self._document["paths"][template][method.lower()]["responses"][str(status)])
        if status == 204:
            assert "content-type" not in answered.headers
            return None
        given = answered.get_json()
        schema = response["content"][answered.mimetype]["schema"]
        assert list(self._undescribed(given, schema, "")) == [], (method, template)
        return given

    def _followed(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            found: Any = self._document
            for name in node["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            node = found
        return node

    def _undescribed(self, given: Any, schema: dict[str, Any], at: str) -> Any:
        """The fields of an answer that its schema does not list; objects without a list may hold anything."""
        schema = self._followed(schema)
        for choice in ("anyOf", "allOf"):
            if choice in schema:
                schema = next(each for each in map(self._followed, schema[choice]) if each.get("type") != "null")
        if isinstance(given, dict) and "properties" in schema:
            for name, inner in given.items():
                if name in schema["properties"]:
                    yield from self._undescribed(inner, schema["properties"][name], f"{at}/{name}")
                else:
                    yield f"{at}/{name}"
        elif isinstance(given, list) and given and "items" in schema:
            yield from self._undescribed(given[0], schema["items"], f"{at}/0")


def test_what_is_answered_is_in_the_document(client: FlaskClient, caller: Caller, document: dict[str, Any]) -> None:
    check = _Checked(client, document, caller.headers)
    provider = add_provider(client, caller)
    check("GET", "/v1/providers", 200)
    check("GET", "/v1/providers/{provider_id}", 200, provider_id=provider["id"])
    check("PATCH", "/v1/providers/{provider_id}", 400, {"wat": 1}, provider_id=provider["id"])
    check("PUT", "/v1/model-mappings/{alias}", 201, {"model": "gpt-4o", "fallbacks": [{"model": "o3"}]}, alias="x")
    check("GET", "/v1/model-mappings", 200)
    check("DELETE", "/v1/model-mappings/{alias}", 204, alias="x")
    check("DELETE", "/v1/model-mappings/{alias}", 404, alias="x")
    check("GET", "/v1/models", 200)
    batch = check("POST", "/v1/batch", 201, {"requests": [request_row()], "webhook_url": "https://127.0.0.1/x"})
    check("POST", "/v1/batch", 400, {})
    check("POST", "/v1/batch/estimate", 200, {"requests": [request_row(), {}]})
    check("GET", "/v1/batch", 200)
    check("GET", "/v1/batch/{batch_id}", 200, batch_id=batch["id"])
    check("GET", "/v1/batch/{batch_id}/results", 425, batch_id=batch["id"])
    check("DELETE", "/v1/batch/{batch_id}", 409, batch_id=batch["id"])
    check("PUT", "/v1/budgets/{period}", 201, {"limit_usd": "5"}, period="day")
    budgets = check("GET", "/v1/budgets", 200)
    assert (budgets["has_more"], budgets["next_cursor"]) == (False, None)
    check("DELETE", "/v1/budgets/{period}", 204, period="day")
    hook = check("POST", "/v1/webhooks", 201, {"url": "https://127.0.0.1/x"})
    delivery = check("POST", "/v1/webhooks/{endpoint_id}/test", 202, endpoint_id=hook["id"])
    check("GET", "/v1/webhooks/deliveries", 200)
    check("GET", "/v1/webhooks/deliveries/{delivery_id}", 200, delivery_id=delivery["id"])
    check("POST", "/v1/webhooks/deliveries/{delivery_id}/resend", 202, delivery_id=delivery["id"])
    place = {"tenant_id": caller.headers["x-tenant-id"], "project_id": caller.headers["x-project-id"]}
    logs = check("GET", "/v1/logs/{tenant_id}/{project_id}", 200, **place)
    check("GET", "/v1/logs/{tenant_id}/{project_id}/{log_id}", 200, log_id=logs["data"][0]["id"], **place)
    check("GET", "/v1/stats/{tenant_id}/{project_id}", 200, **place)
    check("GET", "/v1/project", 200)


def test_every_project_route_names_its_refusals(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method == "parameters" or not path.startswith("/v1"):
                continue
            expected = {"401", "429", "503"} | ({"404"} if "{" in path else set())
            assert expected <= operation["responses"].keys(), (method, path)
