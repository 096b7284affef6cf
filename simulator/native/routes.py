"""Which operation a path to files or batches means, and what takes the large bodies of two of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from simulator.native import anthropic_routes, openai_routes
from simulator.native.exchange import Exchange, Operation
from simulator.native.multipart import FileUpload
from simulator.native.requests_body import RequestsBody

if TYPE_CHECKING:
    from simulator.native.state import Native
    from simulator.wire import Connection, Request, Upload

_FILES, _BATCHES, _MESSAGES = "/v1/files", "/v1/batches", "/v1/messages/batches"
_PATH = re.compile(rf"({_FILES}|{_BATCHES}|{_MESSAGES})(?:/([^/]+)(?:/(content|cancel|results))?)?")


def _operations() -> dict[tuple[str, str], Operation]:
    """(method, path with {id}) -> operation."""
    ours, theirs = openai_routes, anthropic_routes
    rows = [
        ("POST", _FILES, "upload", "openai", ours.upload_file),
        ("GET", _FILES, "list_files", "openai", ours.list_files),
        ("GET", f"{_FILES}/{{id}}", "get_file", "openai", ours.get_file),
        ("GET", f"{_FILES}/{{id}}/content", "content", "openai", ours.file_content),
        ("DELETE", f"{_FILES}/{{id}}", "delete", "openai", ours.delete_file),
        ("POST", _BATCHES, "create", "openai", ours.create_batch),
        ("GET", _BATCHES, "list", "openai", ours.list_batches),
        ("GET", f"{_BATCHES}/{{id}}", "get", "openai", ours.get_batch),
        ("POST", f"{_BATCHES}/{{id}}/cancel", "cancel", "openai", ours.cancel_batch),
        ("POST", _MESSAGES, "create", "anthropic", theirs.create_batch),
        ("GET", _MESSAGES, "list", "anthropic", theirs.list_batches),
        ("GET", f"{_MESSAGES}/{{id}}", "get", "anthropic", theirs.get_batch),
        ("POST", f"{_MESSAGES}/{{id}}/cancel", "cancel", "anthropic", theirs.cancel_batch),
        ("DELETE", f"{_MESSAGES}/{{id}}", "delete", "anthropic", theirs.delete_batch),
        ("GET", f"{_MESSAGES}/{{id}}/results", "content", "anthropic", theirs.results),
    ]
    stream = b"application/x-jsonl"
    return {
        (method, path): Operation(
            name, vendor, path, act, stream if vendor == "anthropic" else b"application/octet-stream"
        )
        for method, path, name, vendor, act in rows
    }


_OPERATIONS = _operations()


def serve(native: Native, connection: Connection, request: Request) -> bool:
    """Answer a request to files or batches; False if it is none."""
    found = _PATH.fullmatch(request.path)
    if found is None:
        return False
    base, found_id, verb = found.groups()
    path = base + ("/{id}" if found_id else "") + (f"/{verb}" if verb else "")
    operation = _OPERATIONS.get((request.method, path))
    if operation is None:
        return False
    Exchange(native, operation, found_id or "", connection, request).serve()
    return True


def receive(native: Native, request: Request) -> Upload | None:
    """What takes the body of this request, if it may be large."""
    if request.method != "POST":
        return None
    if request.path == _FILES:
        return FileUpload(request.headers.get(b"content-type", b""))
    if request.path == _MESSAGES:
        limits = native.settings.anthropic
        return RequestsBody(limits.max_rows, limits.max_bytes)
    return None
