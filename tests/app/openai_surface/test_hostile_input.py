"""Every route of OpenAI's surface under bad credentials, ids and bodies: refused in OpenAI's form, never a fault."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from launcher.client import Client

#: (method, path, status of what does not exist)
ROUTES = [
    ("GET", "/v1/models", None),
    ("GET", "/v1/models/{id}", 404),
    ("POST", "/v1/chat/completions", None),
    ("POST", "/v1/embeddings", None),
    ("POST", "/v1/files", None),
    ("GET", "/v1/files", None),
    ("GET", "/v1/files/{id}", 404),
    ("GET", "/v1/files/{id}/content", 404),
    ("DELETE", "/v1/files/{id}", 404),
    ("POST", "/v1/batches", None),
    ("GET", "/v1/batches", None),
    ("GET", "/v1/batches/{id}", 404),
    ("POST", "/v1/batches/{id}/cancel", 404),
]
ODD_IDS = ["x", "batch_", "file-", "file-" + "0" * 32, "batch_" + "0" * 32, "%00", "%F0%9F%98%80", "a" * 3000, "'--"]
BODIES = [
    b"",
    b"{",
    b"[]",
    b'"x"',
    b"\xff",
    b"[" * 50_000,
    b'{"model": 1, "messages": {}, "input": {}, "input_file_id": []}',
    b'{"model": "gpt-4o-mini", "messages": [null], "input": [""], "endpoint": {}}',
    b'{"model": "\\u0000", "messages": []}',
]
FORMS = [
    b"",
    b"--b",
    b"--b--\r\n",
    b"--b\r\n\r\n\r\n--b--\r\n",
    b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nhalf',
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n' + b"x" * 10_000 + b"\r\n--b--\r\n",
    b'--b\r\nContent-Disposition: form-data; name="p"\r\n\r\nx\r\n' * 40 + b"--b--\r\n",
    b"--b\r\nX: " + b"y" * (2 << 20) + b"\r\n\r\n",
]


def ask(caller: Client, method: str, path: str, **options: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        headers = {"authorization": f"Bearer {caller.token}", **options.pop("headers", {})}
        return session.request(method, caller.url + path, headers=headers, timeout=20, **options)


def check(answer: requests.Response, *statuses: int) -> None:
    assert answer.status_code in statuses, (answer.request.method, answer.url[:200], answer.text[:300])
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(("method", "path", "_missing"), ROUTES)
def test_without_a_token_it_is_401(caller: Client, method: str, path: str, _missing: int | None) -> None:
    path = path.format(id="x")
    for wrong in ("Bearer x", "Bearer " + "y" * 5000, f"Bearer {caller.token[:-1]}"):
        check(ask(caller, method, path, headers={"authorization": wrong}, data=b"{"), 401)
    if not path.startswith("/v1/models"):
        check(ask(caller, method, path, headers={"authorization": "Basic eDp5"}), 401)


@pytest.mark.parametrize(("method", "path", "missing"), [route for route in ROUTES if route[2]])
def test_odd_ids_do_not_exist(caller: Client, method: str, path: str, missing: int) -> None:
    for odd in ODD_IDS:
        check(ask(caller, method, path.format(id=odd)), missing)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/batches"])
def test_bad_bodies_are_400(caller: Client, path: str) -> None:
    for body in BODIES:
        check(ask(caller, "POST", path, data=body, headers={"content-type": "application/json"}), 400)


def test_bad_forms_are_refused(caller: Client) -> None:
    for form in FORMS:
        content_type = {"content-type": "multipart/form-data; boundary=b"}
        check(ask(caller, "POST", "/v1/files", data=form, headers=content_type), 400, 413)
    for content_type in ({}, {"content-type": "multipart/form-data"}, {"content-type": "application/json"}):
        check(ask(caller, "POST", "/v1/files", data=b"x", headers=content_type), 400)
    assert ask(caller, "GET", "/v1/files").json()["data"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=99999999999", "after=x", "order=up"])
def test_bad_queries_are_refused(caller: Client, query: str) -> None:
    check(ask(caller, "GET", f"/v1/files?{query}"), 400, 404)
    if not query.startswith("order"):
        check(ask(caller, "GET", f"/v1/batches?{query}"), 400, 404)
