"""The routing table: which surface answers which path, and the vendors' own 404 for the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import orjson

from simulator import anthropic_vendor, control, model_lists, openai_vendor
from simulator.anthropic_messages import AnthropicMessages, understand
from simulator.call import Call
from simulator.native import routes as native_routes
from simulator.openai_chat import OpenAIChat
from simulator.openai_embeddings import OpenAIEmbeddings
from simulator.openai_responses import OpenAIResponses
from simulator.prompt import Refusal, tokens_of_bytes
from simulator.simulation import Simulation
from simulator.wire import Connection, Request, head

#: inference, entered in the ledger
_INFERENCE: dict[str, OpenAIChat | OpenAIResponses | OpenAIEmbeddings | AnthropicMessages] = {
    "/v1/chat/completions": OpenAIChat(),
    "/compatible/v1/chat/completions": OpenAIChat(compatible=True),
    "/v1/responses": OpenAIResponses(),
    "/v1/embeddings": OpenAIEmbeddings(),
    "/compatible/v1/embeddings": OpenAIEmbeddings(compatible=True),
    "/v1/messages": AnthropicMessages(),
}


def _count_tokens(simulation: Simulation, request: Request) -> Any:
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"The body is not valid JSON: {error}") from None
    _, reading = understand(simulation, body, request.headers, counting=True)
    return {"input_tokens": max(1, tokens_of_bytes(reading.size))}


def _models(simulation: Simulation, request: Request) -> Any:
    name = unquote(request.path.rpartition("/models")[2].lstrip("/"))
    if _manners(request) is anthropic_vendor:
        anthropic_vendor.check_version(request.headers)
        if name:
            return model_lists.anthropic_one(simulation, name)
        return model_lists.anthropic_list(simulation, request.query)
    return model_lists.openai_one(simulation, name) if name else model_lists.openai_list(simulation)


#: (method, path): everything else that answers JSON
_PLAIN: dict[tuple[str, str], Callable[[Simulation, Request], Any]] = {
    ("POST", "/v1/messages/count_tokens"): _count_tokens,
    ("GET", "/v1/models"): _models,
    ("GET", "/compatible/v1/models"): _models,
}


def dispatcher(simulation: Simulation) -> Callable[[Connection, Request], None]:
    """What a connection calls with each request."""
    # A native batch takes rows for whatever is answered live.
    simulation.native.surfaces = {path: s for path, s in _INFERENCE.items() if path.startswith("/v1/")}

    def dispatch(connection: Connection, request: Request) -> None:
        if request.method == "POST":
            surface = _INFERENCE.get(request.path)
            if surface is not None:
                Call(simulation, surface, connection).serve(request)
                return
        if request.path.startswith("/_sim"):
            control.serve(simulation, connection, request)
            return
        if native_routes.serve(simulation.native, connection, request):
            return
        _serve_plain(simulation, connection, request)

    return dispatch


def _serve_plain(simulation: Simulation, connection: Connection, request: Request) -> None:
    manners: Any = _manners(request)
    number = simulation.number()
    handler = _PLAIN.get((request.method, request.path))
    if (
        handler is None
        and request.method == "GET"
        and request.path.startswith(("/v1/models/", "/compatible/v1/models/"))
    ):
        handler = _models
    status = 200
    try:
        manners.key_of(request.headers, simulation.valid_keys)
        if handler is None:
            raise manners.unknown_path(request.method, request.path)
        body = orjson.dumps(handler(simulation, request))
    except Refusal as refusal:
        status = refusal.status
        body = manners.error_body(refusal, f"req_{number}")
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        status = 400
        body = manners.error_body(Refusal(400, f"The request was not understood: {error}"), f"req_{number}")
    simulation.ledger.other[f"{request.method} {request.path} {status}"] += 1
    close = b"" if connection.keep_alive else b"connection: close\r\n"
    headers = manners.answer_headers(f"req_{number}", 0.0) + close
    connection.write(head(status, b"application/json", headers, len(body)) + body)
    connection.finish()


def _manners(request: Request) -> Any:
    """Whose manners a path has: Anthropic's for its own paths and for whoever sends its version header."""
    if request.path.startswith("/v1/messages") or b"anthropic-version" in request.headers:
        return anthropic_vendor
    if b"x-api-key" in request.headers and b"authorization" not in request.headers:
        return anthropic_vendor
    return openai_vendor
