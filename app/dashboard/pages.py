"""Serves the dashboard's files, read once: they hold no data, no keys and no session, so anybody may load them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import flask
from flask import Flask, Response, request
from werkzeug.exceptions import NotFound

STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
#: Nothing from elsewhere, nothing inline, and (trusted types) no text that becomes markup: a value of a tenant or of a
#: provider that reaches `innerHTML` by mistake is an exception in the browser, not a script.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Asked for anew each time, answered 304: after an upgrade no page runs with modules of two versions.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class _File:
    body: bytes
    mimetype: str
    etag: str


def _read() -> dict[str, _File]:
    """Every file of the dashboard by its path below /dashboard/; what is not in here is not served."""
    found = {}
    for path in sorted(STATIC.rglob("*")):
        if path.suffix in _TYPES:
            body = path.read_bytes()
            etag = hashlib.sha256(body).hexdigest()[:32]
            found[path.relative_to(STATIC).as_posix()] = _File(body, _TYPES[path.suffix], etag)
    return found


def register(app: Flask) -> None:
    """/dashboard with its files, and / which leads there; outside of the OpenAPI document, for it is no API."""
    files = _read()
    pages = flask.Blueprint("dashboard", __name__)

    def send(name: str) -> Response:
        file = files.get(name)
        if file is None:
            raise NotFound
        response = Response(file.body, mimetype=file.mimetype)
        response.set_etag(file.etag)
        response.make_conditional(request)
        return response

    @pages.get("/")
    def start() -> Response:
        return Response(status=302, headers={"Location": "/dashboard"})

    @pages.get("/dashboard", strict_slashes=False)
    def page() -> Response:
        return send("index.html")

    @pages.get("/dashboard/<path:name>")
    def file(name: str) -> Response:
        return send(name)

    @pages.after_request
    def guard(response: Response) -> Response:
        response.headers.extend(_HEADERS)
        return response

    app.register_blueprint(pages)
