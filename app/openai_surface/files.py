"""/v1/files: uploads streamed into the database, downloads streamed out of it, results of batches among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent.lock
from flask import Response, request, stream_with_context
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from app import auth, body, idempotent
from app.answers import answer
from app.openai_surface.routes import blueprint
from core import file_batches, files
from core.errors import FieldError, InvalidInput, OverLimit, TooLarge
from core.file_batches import Part

#: Uploads that one process takes in at once: each holds a megabyte or two.
_UPLOADS = gevent.lock.BoundedSemaphore(32)
#: What a form may have around its file, in bytes.
_FORM_BYTES = 1 << 20
_FIELD_BYTES = 4096
_MAX_PARTS = 16


def _read_again(mark: idempotent.Fingerprint) -> None:
    """Read the form of a request that was answered before, for its fingerprint alone."""
    _read(lambda data: None, mark)


@blueprint.post("/v1/files")
@idempotent.idempotent(streamed=_read_again)
def upload_file() -> Response:
    """Take in a file; it is never held whole."""
    if not _UPLOADS.acquire(blocking=False):
        raise OverLimit("Too many files are being uploaded at once; try again in a moment.", 2.0)
    arriving = None
    try:
        arriving = files.Upload(auth.principal())
        form, filename = _read(arriving.write, idempotent.fingerprint() if idempotent.current() else None)
        stored = arriving.finish(
            filename=filename,
            purpose=form.get("purpose", ""),
            expires_after_seconds=_expires_after(form),
        )
    except BaseException:
        if arriving is not None:
            arriving.abandon()
        raise
    finally:
        _UPLOADS.release()
    return answer(_file(stored))


def _read(write: Callable[[bytes], object], mark: idempotent.Fingerprint | None) -> tuple[dict[str, str], str]:
    """The form's fields and the file's name; the file's bytes go to `write`.

    Parameters
    ----------
    mark : gets the parts, but not what is between them: each try of a client has another boundary.
    """
    boundary = request.mimetype_params.get("boundary", "")
    if request.mimetype != "multipart/form-data" or not boundary:
        raise InvalidInput(detail="Send the file as multipart/form-data with the parts `purpose` and `file`.")
    form: dict[str, str] = {}
    filename: str | None = None
    part: File | Field | None = None
    value = bytearray()
    for event in _events(boundary.encode("latin-1", "replace")):
        if mark is not None:
            mark.update(_marked(event))
        if isinstance(event, File | Field):
            part, value = event, bytearray()
            if event.name == "file":
                if filename is not None:
                    raise InvalidInput([FieldError("/file", "is given more than once")])
                filename = getattr(event, "filename", "")
        elif isinstance(event, Data) and part is not None:
            if part.name == "file":
                write(event.data)
                continue
            value += event.data
            if len(value) > _FIELD_BYTES:
                raise TooLarge(f"A part of the form other than its file is longer than {_FIELD_BYTES:,} bytes.")
            if not event.more_data:
                form[str(part.name)] = value.decode("utf-8", "replace")
    if filename is None:
        raise InvalidInput([FieldError("/file", "is required")])
    return form, filename


def _marked(event: Any) -> bytes:
    """What of a part's head or of its content makes two forms the same."""
    if isinstance(event, Data):
        return event.data
    if isinstance(event, File | Field):
        return repr((event.name, getattr(event, "filename", None))).encode("utf-8", "surrogatepass")
    return b""


def _events(boundary: bytes) -> Iterator[Any]:
    decoder = MultipartDecoder(boundary, max_form_memory_size=_FORM_BYTES, max_parts=_MAX_PARTS)
    try:
        for chunk in body.chunks(files.MAX_FILE_BYTES + _FORM_BYTES):
            decoder.receive_data(chunk)
            while not isinstance(event := decoder.next_event(), NeedData):
                yield event
        decoder.receive_data(None)
        while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
            yield event
    except RequestEntityTooLarge:
        raise TooLarge("The form has too many parts, or one whose head is too long.") from None
    except (ValueError, TypeError) as error:
        raise InvalidInput(detail="The body is not the multipart/form-data that its content-type promises.") from error


def _expires_after(form: dict[str, str]) -> int | None:
    anchor, seconds = form.get("expires_after[anchor]"), form.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at" or seconds is None or not seconds.isdecimal() or len(seconds) > 9:
        raise InvalidInput([FieldError("/expires_after", "must have the anchor created_at and a number of seconds")])
    return int(seconds)


@blueprint.get("/v1/files")
def list_files() -> Response:
    """The uploaded files; those that are made of batches' results are listed with their batches."""
    query = request.args
    wrong = []
    limit = query.get("limit", "10000")
    if not limit.isdecimal() or not 1 <= int(limit[:9]) <= 10_000:
        wrong.append(FieldError("?limit", "must be from 1 to 10000"))
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        wrong.append(FieldError("?order", "must be asc or desc"))
    if wrong:
        raise InvalidInput(wrong)
    after = files.parse_id(query["after"]) if query.get("after") else None
    found, more = files.page(
        auth.principal(),
        purpose=query.get("purpose"),
        limit=int(limit),
        newest_first=order == "desc",
        after=after,
    )
    data = [_file(each) for each in found]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return answer({"object": "list", "data": data, **ends, "has_more": more})


@blueprint.get("/v1/files/<file_id>")
def get_file(file_id: str) -> Response:
    """One file."""
    made = file_batches.parse_file_id(file_id)
    if made is not None:
        return answer(_made_file(file_id, *made))
    return answer(_file(files.get(auth.principal(), files.parse_id(file_id))))


@blueprint.get("/v1/files/<file_id>/content")
def get_file_content(file_id: str) -> Response:
    """A file's bytes, streamed."""
    made = file_batches.parse_file_id(file_id)
    headers = {}
    if made is not None:
        parts = file_batches.content(auth.principal(), *made)
    else:
        stored = files.get(auth.principal(), files.parse_id(file_id))
        # A file that is deleted while it goes out is then too short, and the caller can tell.
        headers["content-length"] = str(stored.size_bytes)
        parts = files.content(auth.principal(), stored.id)
    return Response(stream_with_context(parts), mimetype="application/octet-stream", headers=headers)


@blueprint.delete("/v1/files/<file_id>")
def delete_file(file_id: str) -> Response:
    """Remove an uploaded file."""
    if file_batches.parse_file_id(file_id) is not None:
        raise InvalidInput(detail="This file is part of its batch; delete the batch with DELETE /v1/batch/{id}.")
    files.delete(auth.principal(), files.parse_id(file_id))
    return answer({"id": file_id, "object": "file", "deleted": True})


def _file(found: files.FileInfo) -> dict[str, Any]:
    return {
        "id": files.public_id(found.id),
        "object": "file",
        "bytes": found.size_bytes,
        "created_at": int(found.created_at.timestamp()),
        "expires_at": int(found.expires_at.timestamp()) if found.expires_at else None,
        "filename": found.filename,
        "purpose": found.purpose,
        "status": "processed",
        "status_details": None,
    }


def _made_file(file_id: str, batch_id: Any, part: Part) -> dict[str, Any]:
    """A file that is made when it is read; the size of a very large one is given as 0."""
    batch = file_batches.get(auth.principal(), batch_id)
    if part is not Part.INPUT and batch["ended_at"] is None:
        raise files.no_such_file(file_id)
    created = batch["created_at"] if part is Part.INPUT else batch["ended_at"]
    return {
        "id": file_id,
        "object": "file",
        "bytes": file_batches.size_bytes(auth.principal(), batch, part),
        "created_at": int(created.timestamp()),
        "expires_at": None,
        "filename": f"batch_{batch_id.hex}_{part}.jsonl",
        "purpose": "batch" if part is Part.INPUT else "batch_output",
        "status": "processed",
        "status_details": None,
    }
