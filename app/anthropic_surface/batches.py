"""/v1/messages/batches: batches of Messages requests, and every other batch of the project, as Anthropic shows them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import orjson
from flask import Response, request

from app import auth, body, idempotent
from app.answers import answer
from app.anthropic_surface import paging
from app.anthropic_surface.batch_rows import PREFIX, batch_object, get, page, parse_id
from app.anthropic_surface.routes import blueprint
from core import ids, project_routes
from core.batches import control, ingest, reading, results
from core.batches.options import BatchOptions
from core.errors import Conflict, FieldError, InvalidInput, TooLarge
from core.identity import Principal
from core.providers.anthropic_native import CLAUDE_HEADERS, MessagesParams
from core.providers.from_anthropic import EXTRA, origin_of, translate_request
from core.providers.from_anthropic_answer import message_of
from core.providers.from_anthropic_errors import error_object, status_of
from core.states import ProviderType, RowStatus

#: Anthropic's own limit
MAX_REQUESTS = 100_000
#: Bytes of results that are written to the socket together.
_PIECE_BYTES = 64 << 10
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
#: betas that have become part of the API: whoever names them is served without (PROVIDERS.md 1.3)
_BETAS = frozenset(
    {
        "message-batches-2024-09-24",
        "prompt-caching-2024-07-31",
        "extended-cache-ttl-2025-04-11",
        "structured-outputs-2025-11-13",
        "context-1m-2025-08-07",
    }
)


@blueprint.post("/v1/messages/batches")
@idempotent.idempotent()
def create_batch() -> Response:
    """Submit a batch. All requests are checked first: if one is wrong, nothing is kept."""
    given = body.json_object()
    requests = given.get("requests")
    wrong = [FieldError(f"/{field[:64]}", EXTRA) for field in given if field != "requests"]
    for name in filter(None, map(str.strip, request.headers.get("anthropic-beta", "").split(","))):
        if name not in _BETAS:
            wrong.append(FieldError("/betas", f"{name[:64]} is not available in a batch"))
    for name in CLAUDE_HEADERS:
        if name != "anthropic-beta" and name in request.headers:
            wrong.append(FieldError(f"/{name}", "is not available in a batch"))
    if not isinstance(requests, list) or not requests:
        wrong.append(FieldError("/requests", "Input should be a list of at least one request"))
    if wrong or not isinstance(requests, list):
        raise InvalidInput(wrong)
    if len(requests) > MAX_REQUESTS:
        raise TooLarge(f"A message batch takes at most {MAX_REQUESTS:,} requests; split it.")
    principal = auth.principal()
    try:
        made = ingest.submit(principal, _rows(principal, requests), BatchOptions())
    except InvalidInput as error:
        raise InvalidInput([_in_callers_terms(each) for each in error.errors], error.detail) from error
    return _one(made)


@blueprint.get("/v1/messages/batches")
def list_batches() -> Response:
    asked = paging.query()
    after, before = (parse_id(each) if each else None for each in (asked.after_id, asked.before_id))
    rows, more = page(auth.principal(), limit=asked.limit, after=after, before=before)
    return answer(paging.page([batch_object(row, request.host_url) for row in rows], more))


@blueprint.get("/v1/messages/batches/<batch_id>")
def get_batch(batch_id: str) -> Response:
    return _one(parse_id(batch_id))


@blueprint.post("/v1/messages/batches/<batch_id>/cancel")
def cancel_batch(batch_id: str) -> Response:
    """Stop a batch; to cancel it again changes nothing."""
    found = parse_id(batch_id)
    if get(auth.principal(), found)["cancelled_at"] is None:
        control.cancel(auth.principal(), found)
    return _one(found)


@blueprint.delete("/v1/messages/batches/<batch_id>")
def delete_batch(batch_id: str) -> Response:
    found = parse_id(batch_id)
    control.delete(auth.principal(), found)
    return answer({"id": ids.public(PREFIX, found), "type": "message_batch_deleted"})


@blueprint.get("/v1/messages/batches/<batch_id>/results")
def get_results(batch_id: str) -> Response:
    """Every row of an ended batch, one result a line."""
    found = parse_id(batch_id)
    if get(auth.principal(), found)["ended_at"] is None:
        raise Conflict("The batch has not ended; its results are there once processing_status is ended.")
    rows = results.rows(auth.principal(), found)
    return Response(_gathered(_line(row) for row in rows), mimetype="application/x-jsonl")


def _one(batch_id: UUID) -> Response:
    return answer(batch_object(get(auth.principal(), batch_id), request.host_url))


def _rows(principal: Principal, requests: list[Any]) -> Iterator[dict[str, Any]]:
    """The requests in OpenAI's form. Raises InvalidInput at the end with what was wrong with some of them."""
    routes = project_routes.of(principal, fresh=True)
    to_claude: dict[str, bool] = {}
    wrong: list[FieldError] = []
    for index, each in enumerate(requests):
        at = f"/requests/{index}"
        found = _wrong_with(each)
        if not found:
            params = each["params"]
            model = params.get("model")
            if isinstance(model, str) and model not in to_claude:
                try:
                    to_claude[model] = routes.route(model).provider == ProviderType.ANTHROPIC
                except InvalidInput as error:
                    found.append(FieldError("/params/model", error.detail))
            translated, errors = translate_request(params, to_claude=to_claude.get(model, True))
            found += [FieldError(f"/params{error.pointer}", error.message) for error in errors]
        if found:
            wrong += [FieldError(at + error.pointer, error.message) for error in found]
            if len(wrong) >= reading.MAX_REPORTED:
                break
        elif not wrong:
            translated["custom_id"] = each["custom_id"]
            yield translated
    if wrong:
        raise InvalidInput(wrong)


def _wrong_with(each: Any) -> list[FieldError]:
    if not isinstance(each, dict):
        return [FieldError("", "Input should be a valid dictionary")]
    wrong = [FieldError(f"/{field[:64]}", EXTRA) for field in each if field not in ("custom_id", "params")]
    custom_id, params = each.get("custom_id"), each.get("params")
    if not isinstance(custom_id, str) or not _CUSTOM_ID.match(custom_id):
        wrong.append(FieldError("/custom_id", "String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"))
    if not isinstance(params, dict):
        wrong.append(FieldError("/params", "Field required" if params is None else "Input should be a dictionary"))
    elif params.get("stream"):
        wrong.append(FieldError("/params/stream", "is not available in a batch"))
    return wrong


def _in_callers_terms(error: FieldError) -> FieldError:
    """What ingest finds wrong with a row, placed in the params that the caller sent."""
    _, _, rest = error.pointer.partition("/requests/")
    index, _, inner = rest.partition("/")
    if not inner or inner == "custom_id" or inner.startswith("params"):
        return error
    # The messages of a row are no longer at hand: their list is named.
    place = origin_of(MessagesParams(), f"/{inner}")
    return FieldError(f"/requests/{index}/params{place}", error.message)


def _line(row: bytes) -> bytes:
    """One of our result rows as a line of Anthropic's (PROVIDERS.md 5.6)."""
    found = orjson.loads(row)
    result: dict[str, Any]
    match found["status"]:
        case RowStatus.SUCCEEDED if "choices" not in (found["response"] or {"choices": []}):
            # A row of a batch made elsewhere, which asked for embeddings
            error = error_object(400, "the result is no message; read it at /v1/batch", None)
            result = {"type": "errored", "error": error}
        case RowStatus.SUCCEEDED:
            result = {"type": "succeeded", "message": message_of(found["response"] or {})}
        case RowStatus.CANCELLED:
            result = {"type": "canceled"}
        case RowStatus.EXPIRED:
            result = {"type": "expired"}
        case _:
            error = found["error"]
            status = status_of(error["type"], error["provider_status"])
            result = {"type": "errored", "error": error_object(status, error["message"], None)}
    return orjson.dumps({"custom_id": found["custom_id"], "result": result}) + b"\n"


def _gathered(lines: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces worth a write to the socket."""
    held = bytearray()
    for line in lines:
        held += line
        if len(held) >= _PIECE_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
