"""Who uses the dashboard in tests: a browser whose every read of an answer is held against the OpenAPI document."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from launcher.client import Client
from tests.browser import Browser

#: Answers are watched: a field that a page reads and that is not there is noted, with the path of its answer.
WATCH = """(() => {
  window.missing = [];
  const watched = (value, at, path) => {
    if (value === null || typeof value !== "object") return value;
    return new Proxy(value, {
      get(target, name, receiver) {
        const found = Reflect.get(target, name, receiver);
        if (typeof name === "symbol" || typeof found === "function") return found;
        if (!(name in target) && name !== "then" && name !== "toJSON" && !Array.isArray(target)) {
          window.missing.push({method: at.method, url: at.url, path: [...path, name]});
        }
        return watched(found, at, [...path, Array.isArray(target) ? 0 : name]);
      },
    });
  };
  const fetched = window.fetch;
  window.fetch = async (url, options) => {
    const response = await fetched(url, options);
    const json = response.json.bind(response);
    response.json = async () =>
      response.ok ? watched(await json(), {method: options.method, url: response.url}, []) : json();
    return response;
  };
  // An upload's answer comes as text.
  let last = null;
  const open = XMLHttpRequest.prototype.open;
  XMLHttpRequest.prototype.open = function (method, url) {
    last = {request: this, method, url: new URL(url, location).href};
    return open.call(this, method, url);
  };
  const parse = JSON.parse;
  JSON.parse = (text, ...more) => {
    const found = parse(text, ...more);
    const ours = last && last.request.status < 300 && text !== "" && text === last.request.responseText;
    return ours ? watched(found, last, []) : found;
  };
})()"""


class User:
    """Somebody with a project's keys and a browser."""

    def __init__(self, browser: Browser, client: Client) -> None:
        self.browser = browser
        self.client = client
        browser.events.clear()
        browser.emulate()
        browser.open("about:blank")
        self._missing: list[dict[str, Any]] = []

    def open(self, page: str = "") -> None:
        """The page behind `#`, keys kept from before if there are."""
        self.browser.open(f"{self.client.url}/dashboard{page}")

    def go(self, page: str) -> None:
        """Another page of the dashboard that is open."""
        self._collect()
        self.browser.run(f"location.hash = {json.dumps(page)}")

    def sign_in(self, page: str = "") -> None:
        """With all four keys pasted at once, as bin/up prints them."""
        self.open(page)
        self.browser.wait_for("Sign in to your project")
        text = "\n".join(f"{name} {value}" for name, value in self.client.headers.items())
        self.browser.run(f"""document.querySelector("form").dispatchEvent(Object.assign(
            new Event("paste", {{bubbles: true, cancelable: true}}),
            {{clipboardData: {{getData: () => {json.dumps(text)}}}}}))""")
        self.browser.click("Sign in", "main")
        self.browser.wait_for("Sign out")

    def log(self, log_id: str) -> dict[str, Any]:
        """One log of the project, as the API gives it."""
        found: dict[str, Any] = self.client.get(
            f"/v1/logs/{self.client.tenant_id}/{self.client.project_id}/{log_id}"
        ).json()
        return found

    def leave(self) -> None:
        """Hold against the document what the pages asked for and read; fails on whatever went wrong in them."""
        try:
            self._collect()
        finally:
            self.browser.run("sessionStorage.clear()")
        assert self.browser.trouble() == []
        document = self.client.get("/openapi.json").json()
        for request in self.browser.requests():
            self._check(document, request)
        unknown = [each for each in self._missing if not _described(document, each)]
        assert unknown == [], "pages read fields that the document does not have"

    def _check(self, document: dict[str, Any], request: dict[str, Any]) -> None:
        """A request is one that the document describes, and carries keys in its headers only."""
        for name in ("x-api-key", "x-secret-key"):
            assert self.client.headers[name] not in request["url"]
        url = urlsplit(request["url"])
        if url.path.startswith("/v1/"):
            operation = document["paths"][_template(document, url.path)][request["method"].lower()]
            known = {each["name"] for each in operation.get("parameters", ())}
            asked = {name for name, _ in parse_qsl(url.query)}
            assert asked <= known, (url.path, asked - known)

    def _collect(self) -> None:
        """Take along what the page that is open has noted."""
        self._missing += json.loads(self.browser.run("JSON.stringify((window.missing ?? []).splice(0))"))


def _template(document: dict[str, Any], path: str) -> str:
    """The path of the document that an address belongs to, one without parameters before one with."""
    for template in sorted(document["paths"], key=lambda each: each.count("{")):
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), path):
            return str(template)
    raise AssertionError(f"{path} is not in the document")


def _described(document: dict[str, Any], read: dict[str, Any]) -> bool:
    """True if the document describes the field; what may hold anything (a completion, metadata) may lack it, too."""
    operation = document["paths"][_template(document, urlsplit(read["url"]).path)][read["method"].lower()]
    response = next(each for status, each in operation["responses"].items() if status.startswith("2"))
    schema = _followed(document, _followed(document, response)["content"]["application/json"]["schema"])
    for name in read["path"]:
        if isinstance(name, int):
            schema = _followed(document, schema["items"])
        elif "properties" in schema:
            if name not in schema["properties"]:
                return False
            schema = _followed(document, schema["properties"][name])
        elif isinstance(schema.get("additionalProperties"), dict) and schema["additionalProperties"]:
            schema = _followed(document, schema["additionalProperties"])
        else:
            return True
    return True


def _followed(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """A schema behind its references; of a choice, the one that is not null."""
    while "$ref" in node or "anyOf" in node or "allOf" in node:
        if "$ref" in node:
            found: Any = document
            for name in node["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            node = found
        else:
            choices = node.get("anyOf") or node["allOf"]
            node = next(each for each in choices if each.get("type") != "null")
    return node
