"""/v1/batch: many completions in the background, taken in as JSON or line by line, and given back the same way."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

import gevent
import gevent.lock
import orjson
from flask import Response, request, stream_with_context

from app import auth, batch_input, body, idempotent, submissions
from app.answers import answer, nothing, raw_answer
from app.estimate_schemas import EstimateSchema
from app.openapi import Blueprint
from app.resources import batch_examples as examples
from app.schemas import (
    BatchBody,
    BatchListQuery,
    BatchSchema,
    ResultSchema,
    ResultsQuery,
    ResumeBody,
    RetryQuery,
    page_of,
)
from app.streamed import gathered
from core import db, ids
from core.batches import control, ingest, read, reading, results
from core.batches.options import BatchOptions
from core.errors import FieldError, OverLimit
from core.estimates import estimate
from core.settings import settings

blueprint = Blueprint("batches", "Many completions in the background")

#: Streamed estimates: each holds some 32 MB at the most, and no connection.
_ESTIMATES = gevent.lock.BoundedSemaphore(8)
#: Rows that are read before other requests have their turn: about a millisecond of work.
_TURN_ROWS = 20


@blueprint.post("/v1/batch")
@idempotent.idempotent()
@blueprint.takes(BatchBody, example=examples.NEW_BATCH, ndjson=examples.NDJSON, query=examples.NDJSON_PARAMETERS)
@blueprint.response(201, BatchSchema, example=examples.BATCH)
@blueprint.alt_response(413, response="REQUEST_ENTITY_TOO_LARGE")
def create_batch() -> Response:
    """Submit a batch.

    As `application/json` with the options beside `requests`, or as `application/x-ndjson` with one request a line and
    the options in the query (`metadata` as `metadata[key]=value`). All rows are checked first; if any is wrong, the
    first 100 wrong ones are reported and nothing is kept.
    """
    created = _create_from_lines() if body.is_ndjson() else _create_from_json()
    return raw_answer(created, 201)


def _create_from_json() -> bytes:
    requests, chosen = batch_input.from_json(_wrong_rows)
    return _submit(_in_turns(requests), chosen, ndjson=False)


def _wrong_rows(requests: list[Any]) -> list[FieldError]:
    return reading.wrong_rows(auth.principal(), _in_turns(requests))


def _wrong_lines() -> list[FieldError]:
    """What is wrong with lines whose options are refused; nothing if too many others are being read."""
    if not _ESTIMATES.acquire(blocking=False):
        return []
    try:
        lines = body.lines(body.ndjson_chunks(idempotent.fingerprint().update), settings().max_line_bytes)
        return reading.wrong_rows(auth.principal(), _in_turns(lines), ndjson=True)
    finally:
        _ESTIMATES.release()


def _create_from_lines() -> bytes:
    chosen = batch_input.options_of_query(_wrong_lines)
    with submissions.one_of_few():
        lines = body.lines(body.ndjson_chunks(idempotent.fingerprint().update), settings().max_line_bytes)
        return _submit(_in_turns(lines), chosen, ndjson=True)


@blueprint.post("/v1/batch/estimate")
@blueprint.takes(BatchBody, example=examples.NEW_BATCH, ndjson=examples.NDJSON, query=examples.NDJSON_PARAMETERS)
@blueprint.response(200, EstimateSchema, example=examples.ESTIMATE)
@blueprint.alt_response(413, response="REQUEST_ENTITY_TOO_LARGE")
def estimate_batch() -> Response:
    """What a batch would take and cost, and everything that is wrong with it; nothing is stored.

    Takes what `POST /v1/batch` takes and checks it the same way. Rows that are not valid are listed in `errors` (of the
    first 100) with `valid: false`; the figures are those of the valid rows.
    """
    if not body.is_ndjson():
        requests, chosen = batch_input.from_json(_wrong_rows)
        return answer(estimate.estimate(auth.principal(), _in_turns(requests), chosen))
    chosen = batch_input.options_of_query(_wrong_lines)
    if not _ESTIMATES.acquire(blocking=False):
        raise OverLimit("Too many batches are being estimated at once; try again in a moment.", 2.0)
    try:
        lines = body.lines(body.ndjson_chunks(), settings().max_line_bytes)
        return answer(estimate.estimate(auth.principal(), _in_turns(lines), chosen, ndjson=True))
    finally:
        _ESTIMATES.release()


def _in_turns(rows: Iterable[Any]) -> Iterator[Any]:
    """The rows, with others let in between, this request's work beside it too: nothing here waits long enough."""
    for count, row in enumerate(rows):
        if count % _TURN_ROWS == 0:
            gevent.sleep(0)
        yield row


class _FirstAnswer:
    """The new batch's object, kept under the request's idempotency key in the transaction that makes the batch."""

    def __init__(self) -> None:
        self.body = b""

    def on_commit(self, connection: db.RawConnection, batch_id: UUID) -> None:
        self.body = orjson.dumps(read.batch_object(connection, batch_id))
        claim = idempotent.current()
        if claim is not None:
            claim.finish(201, self.body.decode(), idempotent.fingerprint().value(), connection)


def _submit(rows: Any, chosen: BatchOptions, *, ndjson: bool) -> bytes:
    """Take the batch in and return its object."""
    first = _FirstAnswer()
    ingest.submit(auth.principal(), rows, dataclasses.replace(chosen, on_commit=first.on_commit), ndjson=ndjson)
    return first.body


@blueprint.get("/v1/batch")
@blueprint.arguments(BatchListQuery, location="query")
@blueprint.response(200, page_of(BatchSchema, "BatchPage"))
def list_batches(query: dict[str, Any]) -> Response:
    """The project's batches, newest first."""
    return answer(read.page(auth.principal(), **query))


@blueprint.get("/v1/batch/<batch_id>")
@blueprint.response(200, BatchSchema, example=examples.BATCH)
def get_batch(batch_id: str) -> Response:
    """One batch, with its counts, cost and progress."""
    return _batch(ids.parse("batch", batch_id))


@blueprint.get("/v1/batch/<batch_id>/results")
@blueprint.arguments(ResultsQuery, location="query")
@blueprint.response(200, page_of(ResultSchema, "BatchResults"), example=examples.RESULTS)
@blueprint.alt_response(
    200, schema={"type": "string"}, content_type="application/x-ndjson", example=examples.RESULT_LINE, success=True
)
@blueprint.alt_response(425, response="TOO_EARLY")
def get_results(query: dict[str, Any], batch_id: str) -> Response:
    """Every row of an ended batch exactly once, matched by `custom_id`; streamed.

    With `Accept: application/x-ndjson` one row a line. Until the batch has ended it is 425, unless `partial=true`.
    """
    rows = _in_turns(results.rows(auth.principal(), ids.parse("batch", batch_id), partial=query["ended_only"]))
    accepted = request.accept_mimetypes.best_match(["application/json", *sorted(body.NDJSON_TYPES)], "application/json")
    if accepted in body.NDJSON_TYPES:
        return Response(stream_with_context(_as_lines(rows)), mimetype="application/x-ndjson")
    return Response(stream_with_context(_as_list(rows)), mimetype="application/json")


def _as_lines(rows: Iterator[bytes]) -> Iterator[bytes]:
    return gathered(row + b"\n" for row in rows)


def _as_list(rows: Iterator[bytes]) -> Iterator[bytes]:
    """{"data": [...]} written as it is read."""

    def parts() -> Iterator[bytes]:
        start = b'{"data":['
        for row in rows:
            yield start + row
            start = b","
        yield (start if start != b"," else b"") + b'],"has_more":false,"next_cursor":null}'

    return gathered(parts())


@blueprint.post("/v1/batch/<batch_id>/cancel")
@blueprint.response(200, BatchSchema, example=examples.BATCH)
@blueprint.alt_response(409, response="CONFLICT")
def cancel_batch(batch_id: str) -> Response:
    """Stop a batch: no call starts after this answer; rows that have ended are kept."""
    found = ids.parse("batch", batch_id)
    control.cancel(auth.principal(), found)
    return _batch(found)


@blueprint.post("/v1/batch/<batch_id>/pause")
@blueprint.response(200, BatchSchema, example=examples.BATCH)
@blueprint.alt_response(409, response="CONFLICT")
def pause_batch(batch_id: str) -> Response:
    """Start no more rows until the batch is resumed."""
    found = ids.parse("batch", batch_id)
    control.pause(auth.principal(), found)
    return _batch(found)


@blueprint.post("/v1/batch/<batch_id>/resume")
@blueprint.arguments(ResumeBody, required=False, example={"max_cost_usd": "50"})
@blueprint.response(200, BatchSchema, example=examples.BATCH)
@blueprint.alt_response(409, response="CONFLICT")
def resume_batch(given: dict[str, Any], batch_id: str) -> Response:
    """Go on with a paused batch, if need be with a new cost limit."""
    found = ids.parse("batch", batch_id)
    control.resume(auth.principal(), found, max_cost_usd=given.get("max_cost_usd"))
    return _batch(found)


@blueprint.post("/v1/batch/<batch_id>/retry")
@idempotent.idempotent()
@blueprint.arguments(RetryQuery, location="query")
@blueprint.response(201, BatchSchema, example=examples.BATCH)
@blueprint.alt_response(409, response="CONFLICT")
def retry_batch(query: dict[str, Any], batch_id: str) -> Response:
    """A new batch of the rows that failed or expired, linked to the first by `retry_of`."""
    first = _FirstAnswer()
    only = set(query.get("statuses", ())) or None
    with submissions.one_of_few():
        control.retry(auth.principal(), ids.parse("batch", batch_id), only, on_commit=first.on_commit)
    return raw_answer(first.body, 201)


@blueprint.delete("/v1/batch/<batch_id>")
@blueprint.response(204)
@blueprint.alt_response(409, response="CONFLICT")
def delete_batch(batch_id: str) -> Response:
    """Remove an ended batch with its rows and results."""
    control.delete(auth.principal(), ids.parse("batch", batch_id))
    return nothing()


def _batch(batch_id: UUID) -> Response:
    return answer(read.get(auth.principal(), batch_id))
