"""The dashboard's files: their headers, and that they ask the API for nothing that its document does not have."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.dashboard.pages import STATIC

MODULES = {path.relative_to(STATIC).as_posix(): path.read_text() for path in sorted(STATIC.rglob("*.js"))}
_IMPORT = re.compile(r'(?:from|import)\s*\(?"(\.[^"]+)"')
_CALL = re.compile(r"\bapi\.(get|post|put|patch|del|getStream|postStream|upload)\(\s*([^,)]+)")
_METHODS = {"del": "delete", "getStream": "get", "postStream": "post", "upload": "post"}
#: Ways for a text to become markup or a program, or for a key to stay.
_FORBIDDEN = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|DOMParser"
    r"|createContextualFragment|localStorage|document\.cookie|setAttribute\(\"style|https?://(?!www\.w3\.org/2000/svg|…)"
)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """No store is needed for these pages."""
    return app.test_client()


@pytest.fixture
def paths(client: FlaskClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").get_json()["paths"]
    return found


class _Page(HTMLParser):
    """What a page loads, and what it has inline."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        self.loads += [
            value for name, value in attrs if name in ("src", "href") and value and tag in ("script", "link")
        ]
        self.inline += [name for name, _ in attrs if name == "style" or name.startswith("on")]
        self.inline += [tag] if tag == "style" else []

    def handle_data(self, data: str) -> None:
        if self._open == "script" and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


@pytest.mark.parametrize(
    "path", ["/dashboard", "/dashboard/", "/dashboard/style.css", "/dashboard/js/main.js", "/dashboard/x"]
)
def test_every_answer_has_the_strict_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    assert "Set-Cookie" not in headers


def test_a_file_that_did_not_change_is_not_sent_again(client: FlaskClient) -> None:
    first = client.get("/dashboard/js/main.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get("/dashboard/js/main.js", headers={"if-none-match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert "Content-Security-Policy" in again.headers
    assert client.get("/dashboard/js/main.js", headers={"if-none-match": '"other"'}).status_code == 200
    assert client.get("/dashboard/style.css").headers["ETag"] != first.headers["ETag"]


@pytest.mark.parametrize("name", ["js/none.js", "../pages.py", "..%2fpages.py", "js/../../pages.py", "/etc/passwd"])
def test_only_the_dashboards_own_files_are_served(client: FlaskClient, name: str) -> None:
    answered = client.get(f"/dashboard/{name}")
    assert answered.status_code == 404
    assert b"import" not in answered.data


def test_the_root_leads_to_the_dashboard(client: FlaskClient) -> None:
    answered = client.get("/")
    assert (answered.status_code, answered.headers["Location"]) == (302, "/dashboard")


def test_the_page_has_nothing_inline_and_loads_only_what_is_there(client: FlaskClient) -> None:
    page = _Page(client.get("/dashboard").text)
    assert page.inline == []
    assert page.loads
    for path in page.loads:
        assert path.startswith("/dashboard/")
        assert client.get(path).status_code == 200, path


def test_the_document_does_not_know_the_pages(paths: dict[str, Any]) -> None:
    assert not [path for path in paths if path.startswith("/dashboard") or path == "/"]


def test_every_module_that_is_imported_is_there_and_every_one_is_used() -> None:
    reached, left = set(), ["js/main.js"]
    while left:
        name = left.pop()
        if name in reached:
            continue
        reached.add(name)
        folder = (STATIC / name).parent
        left += [(folder / each).resolve().relative_to(STATIC).as_posix() for each in _IMPORT.findall(MODULES[name])]
    assert reached == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_makes_no_markup_of_text_and_keeps_no_key(name: str) -> None:
    assert re.findall(_FORBIDDEN, MODULES[name]) == []
    if name != "js/session.js":
        assert "sessionStorage." not in MODULES[name]
    assert len(MODULES[name].splitlines()) <= 300


@pytest.mark.parametrize("name", MODULES)
def test_a_module_calls_only_what_the_document_has(name: str, paths: dict[str, Any]) -> None:
    for path in re.findall(r'"(/v1[^"]*)"', MODULES[name]):
        assert path in paths, path
    for call, path in _CALL.findall(MODULES[name]):
        assert path.strip().startswith('"/v1/') or name == "js/api.js" or call == "upload", (call, path)
        if path.strip().startswith('"'):
            assert _METHODS.get(call, call) in paths[path.strip().strip('"')], (call, path)


def test_every_module_is_javascript() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; the browser tests load every module, too")
    # One process for all: each is read as a module, nothing is run.
    script = """const {readFileSync} = require("fs"), {SourceTextModule} = require("vm");
        for (const identifier of process.argv.slice(1))
          new SourceTextModule(readFileSync(identifier, "utf8"), {identifier});"""
    files = [str(STATIC / name) for name in MODULES]
    done = subprocess.run(
        [node, "--experimental-vm-modules", "-e", script, *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
