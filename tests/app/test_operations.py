"""Health, metrics, the document and its page."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from core.settings import settings
from tests.app.conftest import Caller


def test_alive_and_ready(client: FlaskClient) -> None:
    assert client.get("/livez").status_code == 200
    answered = client.get("/readyz")
    assert answered.status_code == 200, answered.text
    assert set(answered.get_json()["checks"].values()) == {"ok"}


@pytest.mark.parametrize(
    ("variable", "value", "check"),
    [("REDIS_URL", "redis://127.0.0.1:1/0", "redis"), ("LLM_SERVICE_KEK", "", "kek")],
)
def test_not_ready_without_a_part(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, check: str
) -> None:
    monkeypatch.setenv(variable, value)
    settings.cache_clear()
    answered = client.get("/readyz")
    assert answered.status_code == 503
    assert [name for name, found in answered.get_json()["checks"].items() if found != "ok"] == [check]


def test_requests_are_counted_by_template(client: FlaskClient, caller: Caller) -> None:
    # given a call with an id in its path
    client.get("/v1/batch/batch_00000000000000000000000000000000", headers=caller.headers)
    # then the metrics know its route and not its id
    metrics = client.get("/metrics").text
    assert 'route="/v1/batch/<batch_id>",status="404"' in metrics
    assert "batch_0000" not in metrics


def test_the_document_is_valid_openapi_3_1(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_the_document_says_of_every_route_who_may_call_it(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            schemes = {name for each in operation["security"] for name in each}
            expected = {"ApiKey", "SecretKey", "TenantId", "ProjectId"}
            if path.startswith("/v1/admin"):
                expected = {"OperatorToken"}
            elif not path.startswith("/v1"):
                expected = set()
            assert schemes == expected, (method, path)


def test_the_document_has_examples_where_a_body_is_sent(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            content = operation.get("requestBody", {}).get("content", {}) if isinstance(operation, dict) else {}
            assert all("example" in each for each in content.values()), path


def test_the_page_loads_nothing_from_elsewhere(client: FlaskClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "http" not in page.text.replace("charset", "")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for path in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert client.get(f"/docs/static/{path}").status_code == 200
    assert "/openapi.json" in client.get("/docs/start.js").text
