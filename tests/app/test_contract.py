"""Sentences of the HTTP contract that no other test holds the API to, each on its own."""

from __future__ import annotations

import json
from typing import Any

from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from core.secret import Secret
from tests.app.conftest import Caller, add_provider, request_row

LINES = "application/x-ndjson"


def _pointers(answered: Any) -> list[tuple[int | None, str]]:
    assert answered.status_code == 400, answered.text
    return [(each.get("line"), each["pointer"]) for each in answered.get_json()["errors"]]


def test_invalid_input_always_says_where(client: FlaskClient, caller: Caller) -> None:
    for headers in ({"content-type": "text/plain"}, {"content-type": "application/json", "content-encoding": "gzip"}):
        answered = client.post("/v1/completions", data=b"{}", headers={**caller.headers, **headers})
        assert _pointers(answered) == [(None, "")]
        assert answered.get_json()["errors"][0]["message"] == answered.get_json()["detail"]


def test_all_that_is_wrong_with_a_batch_comes_at_once(client: FlaskClient, caller: Caller) -> None:
    add_provider(client, caller)
    # given a row that is wrong in its id and elsewhere
    row = {**request_row(), "custom_id": "", "temperature": 9}
    answered = client.post("/v1/batch", json={"requests": [row]}, headers=caller.headers)
    # then
    assert _pointers(answered) == [(None, "/requests/0/custom_id"), (None, "/requests/0/temperature")]

    # given lines that are wrong beside an option that is
    good = json.dumps(request_row("a"))
    lines = f"{good}\n{good}\n{{\n"
    for path in ("/v1/batch", "/v1/batch/estimate"):
        answered = client.post(f"{path}?priority=99", data=lines, headers=caller.headers, content_type=LINES)
        # then
        assert _pointers(answered) == [(None, "?priority"), (3, ""), (2, "/custom_id")]


def test_rows_are_numbered_and_empty_lines_are_none(client: FlaskClient, caller: Caller) -> None:
    add_provider(client, caller)
    row = json.dumps(request_row())
    made = client.post("/v1/batch", data=f"\n{row}\n\n{row}\n", headers=caller.headers, content_type=LINES).get_json()
    client.post(f"/v1/batch/{made['id']}/cancel", headers=caller.headers)
    logs = client.get(
        f"/v1/logs/{caller.headers['x-tenant-id']}/{caller.headers['x-project-id']}", headers=caller.headers
    )
    assert sorted(each["custom_id"] for each in logs.get_json()["data"]) == ["1", "2"]


def test_an_empty_processing_is_none_of_the_three(client: FlaskClient, caller: Caller) -> None:
    add_provider(client, caller)
    answered = client.post("/v1/batch", json={"requests": [request_row()], "processing": ""}, headers=caller.headers)
    assert _pointers(answered) == [(None, "/processing")]


def test_what_is_not_there_and_what_is_no_id_are_answered_alike(client: FlaskClient, caller: Caller) -> None:
    for method, rest in [("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("POST", "/retry"), ("DELETE", "")]:
        answers = [
            client.open(f"/v1/batch/{odd}{rest}", method=method, headers=caller.headers).get_json()
            for odd in ("x", "batch_" + "0" * 32)
        ]
        for each in answers:
            del each["request_id"]
        assert answers[0] == answers[1], (method, rest)


def test_models_come_in_pages_where_a_limit_is_given(client: FlaskClient, caller: Caller) -> None:
    add_provider(client, caller)
    every = client.get("/v1/models", headers=caller.headers).get_json()
    assert not every["has_more"]
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 7}
    while True:
        page = client.get("/v1/models", query_string=query, headers=caller.headers).get_json()
        assert len(page["data"]) <= 7
        found += page["data"]
        if not page["has_more"]:
            break
        query["cursor"] = page["next_cursor"]
    assert (found, page["next_cursor"]) == (every["data"], None)
    for wrong in ("limit=0", "limit=101", "cursor=nothing"):
        assert client.get(f"/v1/models?{wrong}", headers=caller.headers).status_code == 400


def test_deliveries_of_what_is_no_id_or_no_event_are_400(client: FlaskClient, caller: Caller) -> None:
    for wrong in ("endpoint_id=x", "batch_id=x", "event_type=x"):
        answered = client.get(f"/v1/webhooks/deliveries?{wrong}", headers=caller.headers)
        assert _pointers(answered) == [(None, "?" + wrong.split("=")[0])]


def test_the_hint_is_the_last_four_characters_of_any_key() -> None:
    assert [Secret(key).hint() for key in ("sk-0123456789", "sk-test", "1234")] == ["6789", "test", ""]


def test_the_document_names_what_a_body_and_a_key_may_be_refused_for(client: FlaskClient) -> None:
    paths = client.get("/openapi.json").get_json()["paths"]
    for path in ("/v1/completions", "/v1/batch", "/v1/providers", "/v1/webhooks"):
        assert {"409", "413"} <= paths[path]["post"]["responses"].keys(), path
    assert "413" not in paths["/v1/batch/{batch_id}"]["get"]["responses"]
    assert client.get("/docs/").status_code == 200


def test_every_example_of_the_document_is_what_its_schema_says(client: FlaskClient) -> None:
    text = client.get("/openapi.json").get_data(as_text=True)
    document = json.loads(text.replace('"#/', '"urn:document#/'))
    registry = Registry().with_resource("urn:document", DRAFT202012.create_resource(document))
    seen = 0
    for path, operations in document["paths"].items():
        for method, operation in ((name, each) for name, each in operations.items() if name != "parameters"):
            for part in [operation.get("requestBody", {}), *operation["responses"].values()]:
                content = part.get("content", {}).get("application/json", {})
                if "example" in content:
                    seen += 1
                    checker = Draft202012Validator(content["schema"], registry=registry)
                    wrong = [error.message for error in checker.iter_errors(content["example"])]
                    assert wrong == [], (method, path)
    assert seen > 40


def test_a_row_without_a_custom_id_whose_number_is_anothers_is_told(client: FlaskClient, caller: Caller) -> None:
    add_provider(client, caller)
    for named, line, says in (
        # the second row is number 2, which the first has taken
        ([request_row("2"), request_row()], 2, "row 2 has no custom_id"),
        # the first row is number 1, which the second takes
        ([request_row(), request_row("1")], 2, "`1` is already used in this batch; a row without"),
    ):
        lines = "".join(json.dumps(row) + "\n" for row in named)
        answered = client.post("/v1/batch", data=lines, headers=caller.headers, content_type=LINES)
        assert _pointers(answered) == [(line, "/custom_id")]
        message = answered.get_json()["errors"][0]["message"]
        assert says in message
        assert message.endswith("give each row a custom_id, or none")
    # and where all rows name their ids, a number is an id as others are
    answered = client.post("/v1/batch", json={"requests": [request_row("7")] * 2}, headers=caller.headers)
    assert answered.get_json()["errors"][0]["message"] == "`7` is already used in this batch"


def test_a_time_says_what_is_wrong_with_it(client: FlaskClient, caller: Caller) -> None:
    place = f"{caller.headers['x-tenant-id']}/{caller.headers['x-project-id']}"
    for resource in ("logs", "stats"):
        # given a range that ends before it begins, or where it begins
        for until in ("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"):
            query = {"from": "2026-03-02T00:00:00Z", "to": until}
            answered = client.get(f"/v1/{resource}/{place}", query_string=query, headers=caller.headers)
            assert _pointers(answered) == [(None, "?from")]
            assert "must be before `to`" in answered.get_json()["errors"][0]["message"]
        # given a zone whose + is not encoded, and one whose + is
        answered = client.get(f"/v1/{resource}/{place}?from=2026-03-02T00:00:00+02:00", headers=caller.headers)
        assert _pointers(answered) == [(None, "?from")]
        assert "written %2B" in answered.get_json()["errors"][0]["message"]
        good = client.get(f"/v1/{resource}/{place}?from=2026-11-02T00:00:00%2B02:00", headers=caller.headers)
        assert good.status_code == 200
        # and no hint where it is not that
        answered = client.get(f"/v1/{resource}/{place}?from=2026-03-02", headers=caller.headers)
        assert "%2B" not in answered.get_json()["errors"][0]["message"]


def test_a_mapping_names_a_provider_that_there_can_be(client: FlaskClient, caller: Caller) -> None:
    path = "/v1/model-mappings/fast"
    wrong = {"model": "m", "provider": "opnai", "fallbacks": [{"model": "b", "provider": "anthropic"}, {"model": "c"}]}
    answered = client.put(path, json=wrong, headers=caller.headers)
    assert _pointers(answered) == [(None, "/provider")]
    assert "there are openai, anthropic, openai_compatible." in answered.get_json()["errors"][0]["message"]
    wrong = {"model": "m", "provider": "openai", "fallbacks": [{"model": "b"}, {"model": "c", "provider": "groq"}]}
    assert _pointers(client.put(path, json=wrong, headers=caller.headers)) == [(None, "/fallbacks/1/provider")]
    # given a server of that name
    named = {"providerType": "openai_compatible", "name": "groq", "apiKey": "k", "baseUrl": "https://groq.example/v1"}
    assert client.post("/v1/providers", json=named, headers=caller.headers).status_code == 201
    assert client.put(path, json=wrong, headers=caller.headers).status_code == 201


def test_a_name_is_not_only_spaces(client: FlaskClient, caller: Caller, operator: dict[str, str]) -> None:
    for path, headers, method in (
        ("/v1/admin/tenants", operator, "POST"),
        (f"/v1/admin/tenants/{caller.headers['x-tenant-id']}/projects", operator, "POST"),
        ("/v1/project", caller.headers, "PATCH"),
    ):
        answered = client.open(path, method=method, json={"name": "  "}, headers=headers)
        assert _pointers(answered) == [(None, "/name")], path
        answered = client.open(path, method=method, json={"name": " Acme "}, headers=headers)
        assert answered.get_json()["name"] == "Acme"
