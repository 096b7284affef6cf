"""Hostile input against every route, taken from the URL map: never a 5xx, and the contract's code for each case.

Cases are loops, not parameters: a fresh database for each would take far longer than the case.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from tests.app.conftest import Caller, add_provider, request_row

ZERO = "0" * 32
NO_SUCH = {
    "batch_id": f"batch_{ZERO}",
    "provider_id": f"prov_{ZERO}",
    "tenant_id": f"tenant_{ZERO}",
    "project_id": f"proj_{ZERO}",
    "key_id": f"key_{ZERO}",
    "alias": "no-such-alias",
    "log_id": f"log_{ZERO}",
    "endpoint_id": f"wh_{ZERO}",
    "delivery_id": f"evt_{ZERO}",
    "period": "month",
}
#: The vendors' surfaces take other credentials and answer errors in their own forms: they have such tests of their own.
SURFACES = ("openai_surface.", "anthropic_surface.")
ODD_IDS = [
    "x",
    "batch_",
    "%00",
    "batch_%00",
    "..%2f..%2fetc",
    "x%2f",
    "'%20OR%201=1--",
    "%F0%9F%92%A3",
    "%ED%A0%80",
    "%ff",
    "a" * 5000,
    f"prov_{ZERO}",
    f"batch_{'f' * 32}",
    f"BATCH_{ZERO}",
    f"batch_{ZERO}%0a",
]
#: Bodies that no route takes: not JSON, or not JSON that PostgreSQL and the rest of the world could take.
BAD_BODIES: dict[str, bytes] = {
    "empty": b"",
    "cut": b'{"model": "gpt-4", "messages": [',
    "trailing": b"{} {}",
    "list": b"[]",
    "string": b'"x"',
    "null": b"null",
    "number": b"1",
    "not-a-number": b'{"model": "gpt-4", "max_tokens": NaN}',
    "infinity": b'{"max_cost_usd": 1e999}',
    "nul": b'{"name": "a\\u0000b", "model": "a\\u0000b", "providerType": "openai", "apiKey": "k\\u0000"}',
    "nul-name": b'{"na\\u0000me": 1}',
    "raw-nul": b'{"name": "a\x00b"}',
    "lone-surrogate": b'{"name": "\\ud800", "model": "\\udfff"}',
    "latin-1": b'{"name": "\xe4"}',
    "utf-16": '{"name": "x"}'.encode("utf-16"),
    "byte-order-mark": b"\xef\xbb\xbf{}",
    "deep-lists": b"[" * 100_000,
    "deep-closed": b"[" * 100_000 + b"]" * 100_000,
    "deep-objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep-inside": b'{"metadata": ' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}",
}
#: JSON objects whose values have the wrong type or size.
ODD_VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    10**30,
    1.5,
    "",
    "x" * 100_000,
    "\ud83d\ude00" * 100,
    [],
    [None],
    [[[]]],
    {},
    {"a": {"b": []}},
]
FIELDS = [
    "model",
    "messages",
    "max_tokens",
    "temperature",
    "stop",
    "tools",
    "stream",
    "requests",
    "custom_id",
    "webhook_url",
    "name",
    "metadata",
    "processing",
    "completion_window",
    "priority",
    "max_cost_usd",
    "max_error_rate",
    "providerType",
    "apiKey",
    "baseUrl",
    "organization",
    "limits",
    "provider",
    "fallbacks",
    "expires_at",
    "old_valid_seconds",
    "__proto__",
    "self",
]


def _routes(app: Flask) -> list[tuple[str, Rule]]:
    return [
        (method, rule)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/v1/") and not rule.endpoint.startswith(SURFACES)
        for method in sorted((rule.methods or set()) - {"OPTIONS"})
    ]


def _path(rule: Rule, **values: str) -> str:
    return re.sub(r"<(?:[^:<>]+:)?(\w+)>", lambda found: values.get(found[1], NO_SUCH[found[1]]), rule.rule)


def _headers(rule: Rule, caller: Caller, operator: dict[str, str]) -> dict[str, str]:
    return operator if rule.rule.startswith("/v1/admin") else caller.headers


def _takes_body(method: str) -> bool:
    return method in ("POST", "PUT", "PATCH")


@pytest.fixture(autouse=True)
def _provider(client: FlaskClient, caller: Caller) -> None:
    add_provider(client, caller)


def test_without_credentials_every_route_is_401(client: FlaskClient, app: Flask, stranger: Caller) -> None:
    # given no keys, keys of two tenants mixed, and the wrong kind of credentials
    wrong: list[dict[str, str]] = [
        {},
        {**stranger.headers, "x-tenant-id": NO_SUCH["tenant_id"]},
        {"authorization": "Bearer null", "x-api-key": "null", "x-secret-key": "null"},
    ]
    for method, rule in _routes(app):
        for headers in wrong:
            for body in (b"", b"{", b"[" * 100_000):
                answered = client.open(
                    _path(rule), method=method, headers=headers, data=body, content_type="application/json"
                )
                assert answered.status_code == 401, (method, rule.rule, answered.text)


def test_what_does_not_exist_is_404_on_every_route_with_an_id(
    client: FlaskClient, app: Flask, caller: Caller, operator: dict[str, str]
) -> None:
    seen = 0
    for method, rule in _routes(app):
        if not rule.arguments or method == "PUT":
            continue
        seen += 1
        answered = client.open(
            _path(rule),
            method=method,
            headers=_headers(rule, caller, operator),
            json={"name": "x"} if method != "GET" else None,
        )
        # A body that this route does not take may be refused first.
        assert answered.status_code in ((404, 400) if _takes_body(method) else (404,)), (method, rule.rule)
        if method in ("GET", "DELETE"):
            assert answered.get_json()["type"].endswith("not-found")
    assert seen > 10


def test_odd_ids_are_404(client: FlaskClient, app: Flask, caller: Caller, operator: dict[str, str]) -> None:
    for method, rule in _routes(app):
        for name in rule.arguments - {"alias"}:
            for odd in ODD_IDS:
                answered = client.open(
                    _path(rule, **{name: odd}), method=method, headers=_headers(rule, caller, operator), json=None
                )
                assert answered.status_code in (400, 404, 405), (method, rule.rule, odd, answered.text[:300])


def test_odd_aliases_are_no_fault(client: FlaskClient, caller: Caller) -> None:
    for odd in ODD_IDS:
        for method in ("GET", "PUT", "DELETE"):
            answered = client.open(
                f"/v1/model-mappings/{odd}", method=method, headers=caller.headers, json={"model": "gpt-4"}
            )
            assert answered.status_code < 500, (method, odd, answered.text[:300])


def test_a_bad_body_is_400_on_every_route_that_takes_one(
    client: FlaskClient, app: Flask, caller: Caller, operator: dict[str, str]
) -> None:
    for name in BAD_BODIES:
        for method, rule in _routes(app):
            if not _takes_body(method):
                continue
            answered = client.open(
                _path(rule),
                method=method,
                headers=_headers(rule, caller, operator),
                data=BAD_BODIES[name],
                content_type="application/json",
            )
            takes_none = rule.rule.endswith(
                ("/cancel", "/pause", "/retry", "/rotate", "/revoke", "/resume", "/resend", "_id>/test")
            )
            # A key needs nothing but its project, which is not there.
            takes_none = takes_none or (name == "empty" and rule.rule.endswith("/keys"))
            # Nothing to change is no fault.
            takes_none = takes_none or (name == "empty" and method == "PATCH")
            # The ids are of nobody: that may be said before the body is looked at.
            allowed = (200, 400, 404) if takes_none else (400, 404) if rule.arguments else (400,)
            assert answered.status_code in allowed, (name, method, rule.rule, answered.status_code, answered.text[:300])
            if answered.status_code >= 400:
                assert answered.content_type == "application/problem+json"


#: What each route takes; one field at a time is spoilt.
VALID_BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {
        **request_row(),
        "max_tokens": 5,
        "temperature": 0.5,
        "stop": ["x"],
        "tools": [],
        "stream": False,
    },
    "/v1/providers": {
        "providerType": "openai",
        "apiKey": "sk-0123456789abcdef",
        "name": "n",
        "baseUrl": "https://127.0.0.1:9",
        "organization": "org-1",
        "limits": {"requestsPerMinute": 1},
    },
    "/v1/providers/<provider_id>": {"apiKey": "sk-0123456789abcdef", "baseUrl": None, "limits": {"maxConcurrency": 1}},
    "/v1/providers/test": {"providerType": "anthropic", "name": "n"},
    "/v1/model-mappings/<path:alias>": {"model": "gpt-4", "provider": "openai", "fallbacks": [{"model": "gpt-4o"}]},
    "/v1/batch/<batch_id>/resume": {"max_cost_usd": "1"},
    "/v1/admin/tenants": {"name": "n"},
    "/v1/admin/tenants/<tenant_id>/projects": {"name": "n"},
    "/v1/admin/tenants/<tenant_id>/projects/<project_id>/keys": {"name": "n", "expires_at": None},
    "/v1/admin/tenants/<tenant_id>/projects/<project_id>/keys/<key_id>/rotate": {"old_valid_seconds": 60},
}


def test_values_of_wrong_types_are_refused_and_never_a_fault(
    client: FlaskClient, app: Flask, caller: Caller, operator: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.completions.complete", _only_validates)
    own = {
        "provider_id": add_provider(client, caller)["id"],
        "tenant_id": f"tenant_{caller.principal.tenant_id.hex}",
        "project_id": f"proj_{caller.principal.project_id.hex}",
        "key_id": f"key_{caller.principal.key_id.hex}",
    }
    for method, rule in _routes(app):
        if not _takes_body(method):
            continue
        valid = VALID_BODIES.get(rule.rule, {})
        for value in ODD_VALUES:
            # every field at once, known or not, and each known one alone
            bodies = [dict.fromkeys(FIELDS, value), *({**valid, field: value} for field in valid)]
            for body in bodies:
                path, headers = _path(rule, **own), _headers(rule, caller, operator)
                answered = client.open(path, method=method, headers=headers, json=body)
                assert answered.status_code < 500, (method, rule.rule, value, answered.text[:300])


def test_wrong_values_inside_a_batch_are_no_fault(client: FlaskClient, caller: Caller) -> None:
    for field in [field for field in FIELDS if field not in ("requests", "name")]:
        for value in ODD_VALUES:
            row = {**request_row("a"), field: value}
            for body in ({"requests": [row]}, {"requests": [request_row("a")], field: value}):
                answered = client.post("/v1/batch", json=body, headers=caller.headers)
                assert answered.status_code in (201, 400), (field, value, answered.text[:300])
            answered = client.post(
                "/v1/batch", data=json.dumps(row), content_type="application/x-ndjson", headers=caller.headers
            )
            assert answered.status_code in (201, 400), (field, value, answered.text[:300])
            # An estimate says whether it would have been taken.
            estimated = client.post(
                "/v1/batch/estimate", data=json.dumps(row), content_type="application/x-ndjson", headers=caller.headers
            )
            assert estimated.status_code == 200, (field, value, estimated.text[:300])
            assert estimated.get_json()["valid"] is (answered.status_code == 201), (field, value, estimated.text[:300])


def test_a_bad_line_is_400(client: FlaskClient, caller: Caller) -> None:
    for name in BAD_BODIES:
        good = json.dumps(request_row("good")).encode()
        for data in (BAD_BODIES[name], good + b"\n" + BAD_BODIES[name] + b"\n"):
            answered = client.post("/v1/batch", data=data, content_type="application/x-ndjson", headers=caller.headers)
            fine = name == "empty" and good in data
            assert answered.status_code == 400 or (fine and answered.status_code == 201), (name, answered.text[:300])
            # An estimate reports it beside the figures of the others.
            estimated = client.post(
                "/v1/batch/estimate", data=data, content_type="application/x-ndjson", headers=caller.headers
            )
            assert estimated.status_code == (200 if data else 400), (name, estimated.text[:300])
            assert not data or estimated.get_json()["valid"] is (answered.status_code == 201)


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
def test_a_custom_id_of_a_megabyte_is_400(client: FlaskClient, caller: Caller, content_type: str) -> None:
    row = request_row("x" * 1_000_000)
    body = row if content_type == "application/x-ndjson" else {"requests": [row]}
    answered = client.post("/v1/batch", data=json.dumps(body), content_type=content_type, headers=caller.headers)
    assert answered.status_code == 400
    assert len(answered.data) < 10_000


def test_odd_custom_ids_are_refused_or_come_back_as_they_were(client: FlaskClient, caller: Caller) -> None:
    for custom_id in ["a\0b", "", "x" * 129, 7, None, ["a"], {"a": 1}, "\n\t\\", "\\N", "\\.", "ü💣"]:
        row = {**request_row(), "custom_id": custom_id}
        answered = client.post(
            "/v1/batch", data=json.dumps(row), content_type="application/x-ndjson", headers=caller.headers
        )
        assert answered.status_code in (201, 400), answered.text[:300]


def test_another_content_type_is_400(client: FlaskClient, app: Flask, caller: Caller, operator: dict[str, str]) -> None:
    for content_type in [
        "",
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        ";",
    ]:
        for path in ("/v1/batch", "/v1/batch/estimate", "/v1/completions", "/v1/providers", "/v1/providers/test"):
            answered = client.post(path, data=b"{}", headers={**caller.headers, "content-type": content_type})
            assert answered.status_code == 400, (path, answered.text)


def test_odd_queries_of_lists_are_400(client: FlaskClient, caller: Caller, operator: dict[str, str]) -> None:
    for query in [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=1e3",
        "limit=99999999999999999999",
        "limit=",
        "cursor=",
        "cursor=%00",
        "cursor=%ED%A0%80",
        "cursor=////",
        "cursor=" + "A" * 5000,
        "status=done",
        "status=%00",
    ]:
        paths = ["/v1/batch"]
        if not query.startswith("status"):
            paths += ["/v1/providers", "/v1/model-mappings", "/v1/admin/tenants"]
        for path in paths:
            headers = operator if "admin" in path else caller.headers
            answered = client.get(f"{path}?{query}", headers=headers)
            assert answered.status_code == 400, (path, answered.text)


def test_an_odd_idempotency_key_is_400(client: FlaskClient, caller: Caller) -> None:
    for key in ["", "x" * 256, "é", "a\tb"]:
        headers = {**caller.headers, "Idempotency-Key": key.encode("utf-8").decode("latin-1")}
        answered = client.post("/v1/batch", json={"requests": [request_row()]}, headers=headers)
        assert answered.status_code == 400


def test_odd_methods_are_405(client: FlaskClient, caller: Caller) -> None:
    for method in ["TRACE", "CONNECT", "PROPFIND", "X" * 50]:
        assert client.open("/v1/batch", method=method, headers=caller.headers).status_code == 405


def _only_validates(principal: Any, params: dict[str, Any], **_: Any) -> bytes:
    """A completion without a provider: the parameters are checked, nothing is called."""
    from core import params as parameters
    from core.errors import InvalidInput

    wrong = parameters.validate(params)
    if wrong:
        raise InvalidInput(wrong)
    return b"{}"
