"""The OpenAPI 3.1 document and its pages: flask-smorest fitted to this service's errors, input and credentials."""

from __future__ import annotations

import http
import threading
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NoReturn, TypeVar

import flask
import flask_smorest
import flask_swagger_ui
import gevent
import marshmallow as ma
import orjson
from flask import Flask, Response
from flask_smorest.utils import prepare_response
from webargs.flaskparser import FlaskParser

from app import auth, body
from app.problems import field_errors
from app.schemas import ProblemSchema
from core.errors import InvalidInput

DESCRIPTION = """One HTTP API to the language models of OpenAI and Anthropic: completions in real time, large batches in
the background. To try a call here, press **Authorize** and enter the four headers of a project's key."""

#: What a page of ours may load: only what this service serves. Swagger UI sets styles inline and draws icons as data.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Parser(FlaskParser):
    """Reads arguments with this service's limits, and reports what is wrong with pointers: 400, never 422."""

    DEFAULT_VALIDATION_STATUS = 400
    DEFAULT_UNKNOWN_BY_LOCATION = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "json": None}  # noqa: RUF012

    def load_json(self, req: flask.Request, schema: ma.Schema) -> Any:
        # Without a body the schema says what is missing, and a body that may be left out may be left out.
        return body.json_object() if body.raw() else {}

    def handle_error(self, error: ma.ValidationError, req: Any, schema: Any, **_: Any) -> NoReturn:
        messages = error.normalized_messages()
        raise InvalidInput(
            [
                found
                for place, inner in messages.items()
                for found in field_errors(inner, "" if place == "json" else "?")
            ]
        )


View = TypeVar("View", bound=Callable[..., Any])


def add_parameter(view: Any, parameter: dict[str, Any]) -> None:
    """Document one more parameter of a view, beside those that a schema describes."""
    view._apidoc = deepcopy(getattr(view, "_apidoc", {}))
    view._apidoc.setdefault("arguments", {}).setdefault("parameters", []).append(parameter)


class Blueprint(flask_smorest.Blueprint):
    """Routes of a project: they take the four headers."""

    ARGUMENTS_PARSER = Parser()
    #: what the document says of the credentials of each route; an empty list: none
    security: list[dict[str, list[str]]] = [{name: [] for name in auth.HEADERS}]  # noqa: RUF012

    def __init__(self, name: str, description: str) -> None:
        super().__init__(name, __name__, description=description)
        self._guard()

    def _guard(self) -> None:
        self.before_request(auth.require_project)

    def takes(
        self, schema: type[ma.Schema], *, example: Any, ndjson: str | None = None, query: tuple[Any, ...] = ()
    ) -> Callable[[View], View]:
        """Document a body that core validates, row by row or field by field; nothing is checked here.

        Parameters
        ----------
        ndjson : an example of the same as lines, for a route that takes both.
        query : parameters that go with the lines.
        """
        content: dict[str, Any] = {"application/json": {"schema": schema, "example": example}}
        if ndjson is not None:
            content["application/x-ndjson"] = {"schema": {"type": "string"}, "example": ndjson}

        def decorate(view: View) -> View:
            for parameter in query:
                add_parameter(view, parameter)
            decorated: View = self.doc(requestBody={"required": True, "content": content})(view)
            return decorated

        return decorate

    def _store_endpoint_docs(self, endpoint: str, obj: Any, parameters: Any, tags: Any, **options: Any) -> None:
        super()._store_endpoint_docs(endpoint, obj, parameters, tags, **options)
        for name, doc in self._docs[endpoint].items():
            if name != "parameters":
                doc.setdefault("manual_doc", {})["security"] = self.security


class OperatorBlueprint(Blueprint):
    """Routes of the operator: they take the token of the environment."""

    security = [{"OperatorToken": []}]  # noqa: RUF012

    def _guard(self) -> None:
        self.before_request(auth.require_operator)


class OpenBlueprint(Blueprint):
    """Routes that anybody may call."""

    security: list[dict[str, list[str]]] = []  # noqa: RUF012

    def _guard(self) -> None:
        pass


class Api(flask_smorest.Api):
    """flask-smorest with problem details as the error of every route, and a document that is made when it is asked for.

    That takes a third of a second, which a process would be later at its first request.
    """

    ERROR_SCHEMA = ProblemSchema

    def __init__(self, app: Flask) -> None:
        self._blueprints: list[Blueprint] = []
        self._lock = threading.Lock()
        self._document = b""
        super().__init__(app)

    def register_blueprint(self, blueprint: Blueprint, **options: Any) -> None:
        """Register its routes now."""
        self._app.extensions["flask-smorest"]["blp_name_to_api"][blueprint.name] = self
        self._app.register_blueprint(blueprint, **options)
        self._blueprints.append(blueprint)

    def document(self) -> bytes:
        """The OpenAPI document as JSON; call it when all blueprints are registered."""
        with self._lock:
            if not self._document:
                # In a thread of the system: other requests go on meanwhile.
                self._document = gevent.get_hub().threadpool.apply(self._make_document)
        return self._document

    def _make_document(self) -> bytes:
        super()._init_spec()
        schemes = self.spec.components
        for name, header in auth.HEADERS.items():
            schemes.security_scheme(name, {"type": "apiKey", "in": "header", "name": header})
        operator = {"type": "http", "scheme": "bearer", "description": "The operator's LLM_SERVICE_ADMIN_TOKEN."}
        schemes.security_scheme("OperatorToken", operator)
        for blueprint in self._blueprints:
            blueprint.register_views_in_doc(self, self._app, self.spec, name=blueprint.name, parameters=None)
            self.spec.tag({"name": blueprint.name, "description": blueprint.description})
        return orjson.dumps(_with_refusals(self.spec.to_dict()), option=orjson.OPT_INDENT_2)

    def _init_spec(self, **_: Any) -> None:
        """Not yet."""

    def _register_error_handlers(self) -> None:
        """None of its own: app.problems answers errors."""

    def _register_responses(self) -> None:
        for status in http.HTTPStatus:
            response: dict[str, Any] = {"description": status.phrase}
            if status >= 400:
                response["schema"] = ProblemSchema
                prepare_response(response, self.spec, "application/problem+json")
            self.spec.components.response(status.name, response, lazy=True)
        default: dict[str, Any] = {"description": "Problem details (RFC 9457)", "schema": ProblemSchema}
        prepare_response(default, self.spec, "application/problem+json")
        self.spec.components.response("DEFAULT_ERROR", default, lazy=True)


def make_api(app: Flask) -> Api:
    """The API of `app`, with the document's head; blueprints are registered on it."""
    app.config.update(
        API_TITLE="LLM Service",
        API_VERSION="1",
        OPENAPI_VERSION="3.1.0",
        API_SPEC_OPTIONS={
            "info": {"description": DESCRIPTION},
            "servers": [{"url": "/", "description": "This service"}],
        },
    )
    return Api(app)


#: What any route may answer instead, by status; api.md says what to do about each.
_REFUSALS = {
    "400": "The request is not valid: `errors` names everything that is wrong",
    "401": "The credentials are missing or not valid",
    "404": "There is no such resource in this project",
    "409": "The Idempotency-Key is in use, or was used for another request",
    "413": "The body is over a limit, which `detail` names",
    "429": "Over a limit, or out of budget: `Retry-After` says when to try again",
    "503": "A part of the service is away: `Retry-After` says when to try again",
}


def _with_refusals(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the refusals that follow from what a route takes, beside those that it names itself."""
    problems = document["components"]["responses"]["DEFAULT_ERROR"]["content"]
    for path, operations in document["paths"].items():
        for operation in (each for name, each in operations.items() if name != "parameters"):
            if not operation["security"]:
                continue
            # Swagger UI reads Markdown in descriptions only.
            operation["summary"] = operation["summary"].replace("`", "")
            takes = "requestBody" in operation or operation.get("parameters")
            named = ["401", "429", "503"] + ["400"] * bool(takes) + ["404"] * ("{" in path)
            named += ["413"] * ("requestBody" in operation)
            named += ["409"] * any(each.get("name") == "Idempotency-Key" for each in operation.get("parameters", ()))
            for status in named:
                operation["responses"].setdefault(status, {"description": _REFUSALS[status], "content": problems})
            operation["responses"] = dict(sorted(operation["responses"].items()))
    return document


def register_pages(app: Flask, api: Api) -> None:
    """/openapi.json and /docs."""
    pages = flask.Blueprint(
        "docs",
        __name__,
        static_folder=f"{flask_swagger_ui.__path__[0]}/dist",
        static_url_path="/docs/static",
        template_folder="templates",
    )

    @pages.get("/openapi.json")
    def openapi_json() -> Response:
        return Response(api.document(), mimetype="application/json")

    @pages.get("/docs", strict_slashes=False)
    def docs() -> str:
        return flask.render_template("docs.html")

    @pages.get("/docs/start.js")
    def start() -> Response:
        return Response(_START, mimetype="text/javascript")

    @pages.after_request
    def guard(response: Response) -> Response:
        response.headers.extend(_PAGE_HEADERS)
        return response

    app.register_blueprint(pages)


# Not inline in the page, so that the page's policy can refuse all inline scripts.
_START = """window.onload = () => {
  window.ui = SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    presets: [SwaggerUIBundle.presets.apis],
    persistAuthorization: true,
    tryItOutEnabled: true,
    validatorUrl: null,
    deepLinking: true,
  });
};
"""
