"""A provider's batch API as a table of answers, for the tests of what talks to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from core.limits.types import Configured
from core.loaded_connections import LoadedConnection
from core.secret import Secret
from tests.core.egress_server import Peer, Server, serving

KEY = "sk-test-0123456789"
NOBODY = UUID(int=1)
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

#: a refusal
NO = {"error": {"message": "no", "type": "invalid_request_error", "code": None}}

#: (status, body): bytes as they are, anything else as JSON
Answer = tuple[int, Any]


def connection(url: str, provider_type: str = "openai") -> LoadedConnection:
    """A connection to a server that speaks for this provider."""
    return LoadedConnection(
        id=NOBODY,
        tenant_id=NOBODY,
        project_id=NOBODY,
        provider_type=provider_type,
        name="",
        base_url=url + ("/v1" if provider_type == "openai" else ""),
        secret=Secret(KEY),
        organization="org-1" if provider_type == "openai" else None,
        configured=Configured(),
        key_ciphertext=b"",
    )


@contextmanager
def answering(table: dict[str, Answer | Callable[[Peer], None]]) -> Iterator[Server]:
    """A server that knows these calls, by "METHOD path"; all others are 404. What came in is in `requests`."""

    def script(peer: Peer, server: Server) -> None:
        while (request := peer.request()) is not None:
            server.requests.append(request)
            call = request.partition(b" HTTP/1.1\r\n")[0].decode()
            found = table.get(call, (404, {"error": {"message": "no such thing", "code": None}}))
            if callable(found):
                found(peer)
                return
            status, body = found
            peer.answer(body if isinstance(body, bytes) else orjson.dumps(body), status=b"%d x" % status)

    with serving(script) as server:
        yield server


def calls(server: Server) -> list[str]:
    """What the server was asked, as "METHOD path"."""
    return [request.partition(b" HTTP/1.1\r\n")[0].decode() for request in server.requests]


def body_of(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


def openai_batch(remote_id: str = "batch_1", status: str = "in_progress", at: datetime = NOON, **more: Any) -> Any:
    created_at = int(at.timestamp())
    counts = {"total": 3, "completed": 0, "failed": 0}
    return {"id": remote_id, "status": status, "created_at": created_at, "request_counts": counts, **more}


def answer_line(row_id: int, text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    body = {"model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    return orjson.dumps({"custom_id": str(row_id), "response": {"status_code": 200, "body": body}, "error": None})


def unrun_line(row_id: int) -> bytes:
    return orjson.dumps({"custom_id": str(row_id), "response": None, "error": {"code": "batch_expired"}})
