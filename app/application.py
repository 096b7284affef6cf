"""Flask without what this service never uses and would pay for with every request: sessions, async views, hosts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Request, request
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import MapAdapter


class _NoSessions(SessionInterface):
    """Callers bring their credentials along with each request; there are no cookies."""

    def __init__(self) -> None:
        self._none = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return self._none

    def save_session(self, app: Flask, session: Any, response: Any) -> None:
        """There is nothing to keep."""


class Application(Flask):
    """The application of this service, as `create_app` makes it."""

    session_interface = _NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        # All views are plain functions; Flask looks anew at each of a dozen with every request.
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """What matches a request's path. No route depends on the host, and none leads to a redirect that names it."""
        if request is None:
            return None
        return self.url_map.bind("", path_info=request.path, default_method=request.method)


def this_request() -> Request:
    """The request being answered, itself: each use of Flask's stand-in looks it up again."""
    found: Request = request._get_current_object()  # type: ignore[attr-defined]
    return found
