"""Errors at the border: problem details on every route, nothing of the inside in them."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import problems
from app.factory import create_app
from app.telemetry import request_id
from core import db, errors
from tests.app.conftest import Caller


def test_every_problem_has_the_members_of_the_contract(client: FlaskClient) -> None:
    # when a route does not exist
    answered = client.get("/v1/nowhere")
    # then the answer is a complete problem document
    assert answered.status_code == 404
    assert answered.content_type == "application/problem+json"
    found = answered.get_json()
    assert {"type", "title", "status", "detail", "request_id"} <= found.keys()
    assert found["status"] == 404
    assert found["request_id"] == answered.headers["x-request-id"]


def test_a_wrong_method_is_405_and_names_the_right_ones(client: FlaskClient) -> None:
    answered = client.put("/v1/batch")
    assert answered.status_code == 405
    assert answered.content_type == "application/problem+json"
    assert "POST" in answered.headers["Allow"]


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (errors.InvalidInput([errors.FieldError("/model", "is required")]), 400, "invalid-request"),
        (errors.AddressRefused(), 400, "address-refused"),
        (errors.Unauthenticated(), 401, "unauthenticated"),
        (errors.NotFound(), 404, "not-found"),
        (errors.Conflict(), 409, "conflict"),
        (errors.TooLarge(), 413, "too-large"),
        (errors.NotYetAvailable(), 425, "results-not-yet-available"),
        (errors.OverLimit(retry_after_seconds=1.2), 429, "over-limit"),
        (errors.Unavailable(), 503, "unavailable"),
        (db.DatabaseDown(), 503, "unavailable"),
    ],
)
def test_the_error_tree_maps_to_the_contracts_codes(
    app: Flask, error: errors.ServiceError, status: int, name: str
) -> None:
    with app.test_request_context():
        answered = problems.of_service_error(error)
    assert answered.status_code == status
    assert answered.get_json()["type"].endswith(name)
    assert ("Retry-After" in answered.headers) == (status in (425, 429, 503))


def test_retry_after_is_rounded_up(app: Flask) -> None:
    with app.test_request_context():
        assert problems.of_service_error(errors.OverLimit(retry_after_seconds=1.2)).headers["Retry-After"] == "2"


def test_a_providers_error_says_who_failed_and_how(app: Flask) -> None:
    error = errors.ProviderFailed(
        "quota", reason="quota_exhausted", provider="openai", provider_status=429, retry_after_seconds=None
    )
    with app.test_request_context():
        answered = problems.of_service_error(error)
    found = answered.get_json()
    assert answered.status_code == 500
    assert found["type"].endswith("provider-error")
    assert (found["provider"], found["provider_status"], found["detail"]) == ("openai", 429, "quota")


def test_an_unexpected_error_is_a_500_that_tells_nothing() -> None:
    # given a route with a fault
    app = create_app()

    @app.get("/v1/broken")
    def broken() -> str:
        raise RuntimeError("password=hunter2")

    # when it is called
    answered = app.test_client().get("/v1/broken", headers={"x-request-id": "mine-1"})
    # then the caller gets the request id and nothing of the fault
    assert answered.status_code == 500
    assert "hunter2" not in answered.text
    assert answered.get_json()["request_id"] == "mine-1"


@pytest.mark.parametrize("brought", ["a b", "x" * 200, "<script>", "", "é"])
def test_an_odd_request_id_is_replaced(app: Flask, brought: str) -> None:
    with app.test_request_context(headers={"x-request-id": brought}):
        assert request_id().startswith("req_")


def test_a_database_that_is_down_is_503_with_retry_after(
    client: FlaskClient, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given keys that were good, and a database that has gone away
    def away(*_: object) -> None:
        raise db.DatabaseDown

    monkeypatch.setattr("core.identity.authenticate", away)
    # when a call comes
    answered = client.get("/v1/batch", headers=caller.headers)
    # then it is to be tried again
    assert answered.status_code == 503
    assert int(answered.headers["Retry-After"]) >= 1
